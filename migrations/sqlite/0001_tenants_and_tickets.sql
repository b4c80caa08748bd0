-- Times are microseconds since 1970 (UTC). Sealed values are opaque; their place (environment, table, name, column)
-- is sealed in, so a value copied to another row does not open.
-- WITHOUT ROWID: every look-up and every list is by key, and a list then reads neighbouring pages.

-- Which SuperOffice application an id meant when it was first configured.
CREATE TABLE applications (
    id          TEXT NOT NULL PRIMARY KEY,
    environment TEXT NOT NULL,
    client_id   TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE tenants (
    application        TEXT    NOT NULL,
    tenant             TEXT    NOT NULL,
    labels             TEXT    NOT NULL,              -- JSON object of strings
    company_name       TEXT    NOT NULL DEFAULT '',
    disabled           INTEGER NOT NULL DEFAULT 0 CHECK (disabled IN (0, 1)),
    system_user_token  BLOB,                          -- sealed
    token_version      INTEGER NOT NULL DEFAULT 0 CHECK (token_version >= 0),
    version            INTEGER NOT NULL DEFAULT 1,
    create_time        INTEGER NOT NULL,
    update_time        INTEGER NOT NULL,
    status_state       TEXT,
    status_valid_until INTEGER,
    status_web_api_uri TEXT,
    status_version     TEXT,
    status_read_time   INTEGER,
    PRIMARY KEY (application, tenant),
    CHECK ((system_user_token IS NULL) = (token_version = 0)),
    CHECK ((status_state IS NULL) = (status_valid_until IS NULL)
       AND (status_state IS NULL) = (status_version IS NULL)
       AND (status_state IS NULL) = (status_read_time IS NULL)
       AND (status_state IS NOT NULL OR status_web_api_uri IS NULL))
) STRICT, WITHOUT ROWID;

-- The last token_version given out, to any tenant: a tenant that is removed and added again never gets one twice, so
-- a ticket of its former life is never taken for one of its present.
CREATE TABLE token_versions (
    only_row INTEGER NOT NULL PRIMARY KEY CHECK (only_row = 1),
    last     INTEGER NOT NULL
) STRICT;
INSERT INTO token_versions (only_row, last) VALUES (1, 0);

-- For `applications/-`: which applications have a tenant.
CREATE INDEX tenants_by_tenant ON tenants (tenant, application);

CREATE TABLE tickets (
    application   TEXT    NOT NULL,
    tenant        TEXT    NOT NULL,
    value         BLOB    NOT NULL,                   -- sealed
    credential_id TEXT    NOT NULL,
    issue_time    INTEGER NOT NULL,
    expire_time   INTEGER NOT NULL,
    token_version INTEGER NOT NULL,
    PRIMARY KEY (application, tenant),
    FOREIGN KEY (application, tenant) REFERENCES tenants (application, tenant) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

-- Which key of the keyring seals what is written from now on. No row until the first start.
CREATE TABLE keyring_state (
    only_row      INTEGER NOT NULL PRIMARY KEY CHECK (only_row = 1),
    active_key_id TEXT    NOT NULL
) STRICT;

-- Written to find out whether writing works.
CREATE TABLE write_probe (
    only_row INTEGER NOT NULL PRIMARY KEY CHECK (only_row = 1),
    count    INTEGER NOT NULL
) STRICT;
INSERT INTO write_probe (only_row, count) VALUES (1, 0);
