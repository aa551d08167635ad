-- From the third version of the schema to the fourth: incidents.
CREATE TABLE incidents (
  id       INTEGER PRIMARY KEY,           -- the millisecond of the opening
  incident TEXT NOT NULL                  -- JSON
);
