-- From the fifth version of the schema to the sixth: what waits is listed from any place on, without sorting all.
CREATE INDEX waiting_messages ON messages (accepted_at) WHERE finished_at IS NULL;
