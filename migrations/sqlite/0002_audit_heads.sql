-- The newest known head of each audit chain. The events are in the files of the journal; verification compares them
-- with these heads, so that a chain that is shortened or removed is noticed. Times are microseconds since 1970 (UTC).
CREATE TABLE audit_heads (
    chain     TEXT    NOT NULL PRIMARY KEY,
    sequence  INTEGER NOT NULL,
    hash      BLOB    NOT NULL,
    time      INTEGER NOT NULL,
    key_id    TEXT    NOT NULL,
    signature BLOB    NOT NULL
) STRICT, WITHOUT ROWID;
