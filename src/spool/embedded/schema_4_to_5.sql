-- From the fourth version of the schema to the fifth: what the reports on TLS are made of.
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
CREATE TABLE tls_reports (
  day    INTEGER NOT NULL,
  domain TEXT NOT NULL,
  state  TEXT NOT NULL,                   -- JSON
  due_at INTEGER,                         -- of the next try, in milliseconds; NULL when there is none to come
  PRIMARY KEY (day, domain)
) WITHOUT ROWID;
