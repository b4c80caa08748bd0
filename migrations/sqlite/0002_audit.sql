-- The audit trail. What an event says is in its body, encoded and hashed; the columns beside it are to find it by, and
-- verification compares them with the body. Times are microseconds since 1970 (UTC).

-- A chain: where it ends, and where what is kept of it begins. Both signed.
CREATE TABLE audit_chains (
    id                   INTEGER NOT NULL PRIMARY KEY,
    chain                TEXT    NOT NULL UNIQUE,
    sequence             INTEGER NOT NULL,
    hash                 BLOB    NOT NULL,
    time                 INTEGER NOT NULL,
    key_id               TEXT    NOT NULL,
    signature            BLOB    NOT NULL,
    -- The last event that retention removed.
    checkpoint_sequence  INTEGER,
    checkpoint_hash      BLOB,
    checkpoint_time      INTEGER,
    checkpoint_key_id    TEXT,
    checkpoint_signature BLOB
) STRICT;

CREATE TABLE audit_events (
    chain_id INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    time     INTEGER NOT NULL,
    hash     BLOB    NOT NULL,
    body     BLOB    NOT NULL,
    PRIMARY KEY (chain_id, sequence)
) STRICT, WITHOUT ROWID;

-- For the list of all events, newest first.
CREATE INDEX audit_events_by_time ON audit_events (time, chain_id, sequence);

-- Public keys of signatures, each certified by a key that was active later.
CREATE TABLE audit_keys (
    key_id       TEXT NOT NULL PRIMARY KEY,
    public_key   BLOB NOT NULL,
    certified_by TEXT NOT NULL,
    certificate  BLOB NOT NULL
) STRICT, WITHOUT ROWID;
