-- From the sixth version of the schema to the seventh: what waits is known at the start without reading its messages.
DROP INDEX queued_messages;
CREATE INDEX queued_messages ON messages (segment, due_at, accepted_at, held, length) WHERE finished_at IS NULL;
