-- The working state of the relay's spool. Times are milliseconds since 1970-01-01T00:00:00Z.
-- The truth of what was accepted is in the segments; this can be rebuilt from them.

CREATE TABLE meta (
  name  TEXT PRIMARY KEY,
  value INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE messages (
  id               INTEGER PRIMARY KEY,   -- the queue id as a number; the view "queue" has it as text
  segment          INTEGER NOT NULL,      -- the record: number of the segment, offset and length in octets
  offset           INTEGER NOT NULL,
  length           INTEGER NOT NULL,
  content_in_file  INTEGER NOT NULL,      -- 1 when the content is in content/<queue id>
  size             INTEGER NOT NULL,      -- octets of content
  accepted_at      INTEGER NOT NULL,
  due_at           INTEGER NOT NULL,      -- of the next attempt or report
  attempts         INTEGER NOT NULL,
  state            TEXT NOT NULL,         -- queued, or finished: every recipient is done
  finished_at      INTEGER,
  envelope         TEXT NOT NULL,         -- JSON
  message_id       TEXT,                  -- of the header field, without its brackets
  held             INTEGER NOT NULL DEFAULT 0, -- 1 while the operator holds it: never due
  reported         TEXT                   -- JSON: how often the sender was told of it, and when last
);
-- All that the start of the relay needs of what waits, read in one go.
CREATE INDEX queued_messages ON messages (segment, due_at, accepted_at, held, length) WHERE finished_at IS NULL;
-- What waits, in the order in which people go through it.
CREATE INDEX waiting_messages ON messages (accepted_at) WHERE finished_at IS NULL;
CREATE INDEX finished_messages ON messages (finished_at) WHERE finished_at IS NOT NULL;

CREATE TABLE recipients (
  message   INTEGER NOT NULL,
  recipient INTEGER NOT NULL,             -- index in the envelope, from 0
  address   TEXT NOT NULL,
  state     TEXT NOT NULL,                -- JSON: queued, owed a report, done with its outcome, or removed
  told      INTEGER,                      -- of one that failed: the report about it; -1: nobody, the reverse-path
                                          -- is null; -2: nobody, the sender did not ask
  PRIMARY KEY (message, recipient)
) WITHOUT ROWID;

CREATE INDEX told ON recipients (told) WHERE told > 0;

-- Finds messages by a hash of Message-ID, sender or recipient. The day comes first, so that what
-- comes in today is written to few pages, however long the history.
CREATE TABLE lookups (
  day     INTEGER NOT NULL,               -- of acceptance, in days since 1970
  hash    INTEGER NOT NULL,
  message INTEGER NOT NULL,
  PRIMARY KEY (day, hash, message)
) WITHOUT ROWID;

CREATE TABLE history (
  message INTEGER NOT NULL,
  number  INTEGER NOT NULL,               -- in the order things happened, from 1
  at      INTEGER NOT NULL,
  event   TEXT NOT NULL,                  -- JSON
  PRIMARY KEY (message, number)
) WITHOUT ROWID;

CREATE TABLE incidents (
  id       INTEGER PRIMARY KEY,           -- the millisecond of the opening
  incident TEXT NOT NULL                  -- JSON
);

-- Tries to speak TLS, for the reports of RFC 8460: how often the same happened in a day.
CREATE TABLE tls_policies (
  day    INTEGER NOT NULL,                -- in UTC, in days since 1970
  domain TEXT NOT NULL,                   -- whom the report is for
  number INTEGER NOT NULL,                -- a hash of the policy
  policy TEXT NOT NULL,                   -- JSON
  PRIMARY KEY (day, domain, number)
) WITHOUT ROWID;

CREATE TABLE tls_sessions (
  day      INTEGER NOT NULL,
  domain   TEXT NOT NULL,
  policy   INTEGER NOT NULL,              -- its number
  failure  TEXT NOT NULL,                 -- JSON; empty for those that succeeded
  sessions INTEGER NOT NULL,
  PRIMARY KEY (day, domain, policy, failure)
) WITHOUT ROWID;

-- What became of the report of a domain about a day.
CREATE TABLE tls_reports (
  day    INTEGER NOT NULL,
  domain TEXT NOT NULL,
  state  TEXT NOT NULL,                   -- JSON
  due_at INTEGER,                         -- of the next try, in milliseconds; NULL when there is none to come
  PRIMARY KEY (day, domain)
) WITHOUT ROWID;

-- For people: the queue id as logs and Received lines have it (Crockford's base 32), times as text.
CREATE VIEW queue AS
WITH RECURSIVE spelled (id, rest, place, text) AS (
  SELECT id, id, 0, '' FROM messages
  UNION ALL
  SELECT id, rest >> 5, place + 1, substr('0123456789ABCDEFGHJKMNPQRSTVWXYZ', (rest & 31) + 1, 1) || text
  FROM spelled WHERE place < 13
)
SELECT spelled.text AS queue_id,
       m.state,
       strftime('%Y-%m-%dT%H:%M:%SZ', m.accepted_at / 1000, 'unixepoch') AS accepted,
       strftime('%Y-%m-%dT%H:%M:%SZ', m.due_at / 1000, 'unixepoch') AS due,
       m.attempts, m.size, m.envelope, m.id
FROM spelled JOIN messages m ON m.id = spelled.id
WHERE spelled.place = 13;
