-- Notifications of SuperOffice that were taken, by the digest of what was signed: each is taken once. Forgotten when the
-- token in it has expired.
CREATE TABLE used_notifications (
    digest      BLOB    NOT NULL PRIMARY KEY CHECK (length(digest) = 32),
    expire_time INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX used_notifications_by_end ON used_notifications (expire_time);
