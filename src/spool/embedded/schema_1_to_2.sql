-- From the first version of the schema to the second. What came before is found by its queue id.
ALTER TABLE messages ADD COLUMN message_id TEXT;
ALTER TABLE messages ADD COLUMN held INTEGER NOT NULL DEFAULT 0;
ALTER TABLE recipients ADD COLUMN told INTEGER;
CREATE INDEX told ON recipients (told) WHERE told > 0;
CREATE TABLE lookups (
  day     INTEGER NOT NULL,
  hash    INTEGER NOT NULL,
  message INTEGER NOT NULL,
  PRIMARY KEY (day, hash, message)
) WITHOUT ROWID;
