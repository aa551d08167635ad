-- The spool of the relay in PostgreSQL, version 1. Times are milliseconds since 1970 by the clock of the relay, and of
-- when a message is due by that of the database; those of leases and nodes are timestamps by the latter.

CREATE TABLE relay_meta (
  name  text PRIMARY KEY,
  value bigint NOT NULL
);

-- Relays that share this spool. The slot is part of every id that the relay makes.
CREATE TABLE nodes (
  slot        smallint PRIMARY KEY,
  name        text NOT NULL UNIQUE,
  incarnation bigint NOT NULL,            -- another one with every start
  version     text NOT NULL,
  host        text NOT NULL,
  pid         integer NOT NULL,
  started_at  timestamptz NOT NULL,
  seen_at     timestamptz NOT NULL,       -- last heartbeat, by the clock of the database
  clock_ms    bigint NOT NULL,            -- the same moment by the clock of the relay
  stopped_at  timestamptz                 -- when it ended in order
);
CREATE SEQUENCE incarnations;

CREATE TABLE messages (
  id              bigint PRIMARY KEY,     -- microseconds since 1970 * 1024 + slot; above 2^62: reports
  message_id      text,                   -- of the header, without brackets
  envelope        text NOT NULL,          -- JSON
  size            bigint NOT NULL,
  content_crc     bigint NOT NULL,        -- CRC-32 of the content
  accepted_at     bigint NOT NULL,
  due_at          bigint NOT NULL,
  planned_by      smallint NOT NULL,      -- the slot of the node that chose due_at
  attempts        integer NOT NULL DEFAULT 0,
  held            boolean NOT NULL DEFAULT false,
  finished_at     bigint,
  reported        text,                   -- JSON: how often the sender was told of it, and when last
  holder          smallint,               -- the slot that has the claim
  lease_until     timestamptz,
  passed_by       smallint,               -- the slot that leaves it to the others,
  passed_until    timestamptz,            -- and for how long
  generation      bigint NOT NULL DEFAULT 0,
  last_settlement bigint NOT NULL DEFAULT 0
);
CREATE INDEX messages_due ON messages (due_at, id) WHERE finished_at IS NULL AND holder IS NULL AND NOT held;
CREATE INDEX messages_claimed ON messages (lease_until) WHERE holder IS NOT NULL;
CREATE INDEX messages_waiting ON messages (accepted_at, id) WHERE finished_at IS NULL;
CREATE INDEX messages_finished ON messages (finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX messages_accepted ON messages (accepted_at, id) WHERE id < 4611686018427387904;

CREATE TABLE recipients (
  message   bigint NOT NULL,
  recipient integer NOT NULL,             -- index in the envelope, from 0
  address   text NOT NULL,
  state     text NOT NULL,                -- JSON: queued, owed a report, done with its outcome, or removed
  told      bigint,                       -- of one that failed: the report about it; -1: nobody, the reverse-path
                                          -- is null; -2: nobody, the sender did not ask
  PRIMARY KEY (message, recipient)
);
CREATE INDEX recipients_told ON recipients (told) WHERE told > 0;

-- Content in pieces of at most 256 KiB; gone with the last recipient.
CREATE TABLE content (
  message bigint NOT NULL,
  number  integer NOT NULL,
  octets  bytea NOT NULL,
  PRIMARY KEY (message, number)
);
ALTER TABLE content ALTER COLUMN octets SET STORAGE EXTERNAL;

-- Messages that come in and whose first pieces are stored already; nobody was told 250 for them.
CREATE TABLE drafts (
  message bigint PRIMARY KEY,
  node    smallint NOT NULL
);

-- Finds messages by a hash of Message-ID, sender or recipient, the newest first.
CREATE TABLE lookups (
  hash        bigint NOT NULL,
  accepted_at bigint NOT NULL,
  message     bigint NOT NULL,
  PRIMARY KEY (hash, accepted_at, message)
);

CREATE TABLE history (
  message bigint NOT NULL,
  number  integer NOT NULL,               -- in the order things happened, from 1
  at      bigint NOT NULL,
  event   text NOT NULL,                  -- JSON
  PRIMARY KEY (message, number)
);

-- What the nodes know together and belongs to no message, such as who is suspended.
CREATE SEQUENCE revisions;
CREATE TABLE shared_states (
  name     text PRIMARY KEY,
  value    bytea NOT NULL,
  revision bigint NOT NULL DEFAULT nextval('revisions')   -- another one with every change
);

CREATE TABLE incidents (
  id       bigint PRIMARY KEY,            -- the millisecond of the opening
  incident text NOT NULL                  -- JSON
);

-- What the reports on TLS are made of. Of policies and failures the numbers are hashes of their JSON.
CREATE TABLE tls_policies (
  day    bigint NOT NULL,                 -- in UTC, in days since 1970
  domain text COLLATE "C" NOT NULL,       -- whom the report is for
  number bigint NOT NULL,
  policy text NOT NULL,                   -- JSON
  PRIMARY KEY (day, domain, number)
);
CREATE TABLE tls_sessions (
  day            bigint NOT NULL,
  domain         text COLLATE "C" NOT NULL,
  policy         bigint NOT NULL,         -- its number
  failure_number bigint NOT NULL,
  shard          bigint NOT NULL,         -- any of some: those that are alike are added up
  failure        text NOT NULL,           -- JSON; empty for those that succeeded
  sessions       bigint NOT NULL,
  PRIMARY KEY (day, domain, policy, failure_number, shard)
);
CREATE TABLE tls_reports (
  day         bigint NOT NULL,
  domain      text COLLATE "C" NOT NULL,
  state       text,                       -- JSON; none while it is made for the first time
  due_at      bigint,                     -- of the next try; none when there is none to come
  holder      smallint,                   -- the slot of the node that makes it
  lease_until timestamptz,
  PRIMARY KEY (day, domain)
);
