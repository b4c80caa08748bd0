-- Grants, leases and consents. Times, sealed values and WITHOUT ROWID are as in the first file.

-- The last fence given out, for whatever key: a write that carries the fence of a former lease is told from one of
-- the present, also after leases were given back and their rows are gone.
CREATE TABLE lease_fences (
    only_row INTEGER NOT NULL PRIMARY KEY CHECK (only_row = 1),
    last     INTEGER NOT NULL
) STRICT;
INSERT INTO lease_fences (only_row, last) VALUES (1, 0);

CREATE TABLE leases (
    key         TEXT    NOT NULL PRIMARY KEY,
    owner       TEXT    NOT NULL,
    fence       INTEGER NOT NULL,
    expire_time INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Belongs to no row of tenants: a grant of a deleted tenant stays until SuperOffice has been told that it is revoked.
CREATE TABLE grants (
    application         TEXT    NOT NULL,
    tenant              TEXT    NOT NULL,
    id                  TEXT    NOT NULL,
    associate_id        INTEGER NOT NULL CHECK (associate_id > 0),
    user_principal_name TEXT    NOT NULL,
    user_principal_key  TEXT    NOT NULL,             -- in lower case
    full_name           TEXT    NOT NULL,
    state               TEXT    NOT NULL CHECK (state IN ('ACTIVE', 'CONSENT_REQUIRED', 'REVOKED')),
    create_time         INTEGER NOT NULL,
    last_refresh_time   INTEGER,
    last_failure_reason TEXT,
    last_failure_time   INTEGER,
    revocation_pending  INTEGER NOT NULL DEFAULT 0 CHECK (revocation_pending IN (0, 1)),
    doubted_at_fence    INTEGER,                      -- the last fence given out when it was doubted
    token_version       INTEGER NOT NULL DEFAULT 1,
    version             INTEGER NOT NULL DEFAULT 1,
    PRIMARY KEY (application, tenant, id),
    UNIQUE (application, tenant, associate_id),
    CHECK ((last_failure_reason IS NULL) = (last_failure_time IS NULL)),
    CHECK (revocation_pending = 0 OR state = 'REVOKED')
) STRICT, WITHOUT ROWID;

CREATE INDEX grants_by_user ON grants (application, tenant, user_principal_key);
CREATE INDEX grants_to_revoke ON grants (application, tenant, id) WHERE revocation_pending = 1;

CREATE TABLE refresh_tokens (
    application    TEXT    NOT NULL,
    tenant         TEXT    NOT NULL,
    id             TEXT    NOT NULL,
    value          BLOB    NOT NULL,                  -- sealed
    -- Written before the token is spent, gone when it is known how that ended.
    intent_fence   INTEGER,
    intent_retried INTEGER CHECK (intent_retried IN (0, 1)),
    intent_time    INTEGER,
    PRIMARY KEY (application, tenant, id),
    FOREIGN KEY (application, tenant, id) REFERENCES grants (application, tenant, id) ON DELETE CASCADE,
    CHECK ((intent_fence IS NULL) = (intent_retried IS NULL) AND (intent_fence IS NULL) = (intent_time IS NULL))
) STRICT, WITHOUT ROWID;

CREATE TABLE access_tokens (
    application   TEXT    NOT NULL,
    tenant        TEXT    NOT NULL,
    id            TEXT    NOT NULL,
    value         BLOB    NOT NULL,                   -- sealed
    credential_id TEXT    NOT NULL,
    issue_time    INTEGER NOT NULL,
    expire_time   INTEGER NOT NULL,
    token_version INTEGER NOT NULL,
    PRIMARY KEY (application, tenant, id),
    FOREIGN KEY (application, tenant, id) REFERENCES grants (application, tenant, id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE TABLE consents (
    id                           TEXT    NOT NULL PRIMARY KEY,
    application                  TEXT    NOT NULL,
    tenant                       TEXT,
    caller                       TEXT    NOT NULL,
    return_uri                   TEXT,
    redirect_uri                 TEXT,
    login_hint                   TEXT,
    enroll_system_user           INTEGER NOT NULL CHECK (enroll_system_user IN (0, 1)),
    expected_user_principal_name TEXT,
    reason                       TEXT    NOT NULL,
    create_time                  INTEGER NOT NULL,
    expire_time                  INTEGER NOT NULL,
    outcome                      TEXT    CHECK (outcome IN ('GRANTED', 'REFUSED', 'FAILED')),
    outcome_grant                TEXT,
    outcome_enrolled             INTEGER CHECK (outcome_enrolled IN (0, 1)),
    outcome_reason               TEXT
) STRICT, WITHOUT ROWID;

CREATE INDEX consents_open ON consents (caller, expire_time) WHERE outcome IS NULL;
CREATE INDEX consents_by_end ON consents (expire_time);

-- Not WITHOUT ROWID: the numbers of rows tell which attempt is the oldest.
CREATE TABLE consent_attempts (
    state_digest  BLOB    NOT NULL PRIMARY KEY CHECK (length(state_digest) = 32),
    consent       TEXT    NOT NULL REFERENCES consents (id) ON DELETE CASCADE,
    nonce         TEXT    NOT NULL,
    verifier      BLOB    NOT NULL,                   -- sealed
    redirect_uri  TEXT    NOT NULL,
    cookie_digest BLOB    CHECK (length(cookie_digest) = 32),
    expire_time   INTEGER NOT NULL
) STRICT;

CREATE INDEX consent_attempts_by_consent ON consent_attempts (consent);
CREATE INDEX consent_attempts_by_end ON consent_attempts (expire_time);
