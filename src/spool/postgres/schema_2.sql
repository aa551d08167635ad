-- Version 2: what the relays tell each other. It only adds, so relays that know version 1 go on beside it.

-- The newest version that the program of a node works with, as the process with that incarnation has said.
ALTER TABLE nodes ADD COLUMN knows bigint NOT NULL DEFAULT 1, ADD COLUMN knows_since bigint NOT NULL DEFAULT 0;

-- What one node has found out and the others may use. All of it can be found out again: nothing waits for the disk.
CREATE TABLE findings (
  topic      text COLLATE "C" NOT NULL,   -- 'mta-sts', 'hosts', 'limits'
  name       text COLLATE "C" NOT NULL,   -- of a domain, a host, or who is counted
  owner      smallint NOT NULL,           -- the slot of the node whose finding it is; 0: of all, the last one counts
  at         bigint NOT NULL,             -- when it was found out, by the clock of the database
  expires_at timestamptz NOT NULL,
  value      bytea NOT NULL,
  written    xid8 NOT NULL DEFAULT pg_current_xact_id(),  -- by that transaction: whoever reads goes on from there
  PRIMARY KEY (topic, name, owner)
);
CREATE INDEX findings_written ON findings (written, topic, name, owner);
CREATE INDEX findings_expire ON findings (expires_at);
