//! The SQL of grants. Rows are found by the primary key, and lists are ordered by it: `?1` to `?3` are the name.

/// The columns of `GrantRecord`.
macro_rules! columns {
    () => {
        "application, tenant, id, associate_id, user_principal_name, full_name, state, create_time, \
         last_refresh_time, last_failure_reason, last_failure_time, failure_count, failing_since, \
         revocation_pending, doubted_at_fence, \
         token_version, version"
    };
}

macro_rules! this_one {
    () => {
        "application = ?1 AND tenant = ?2 AND id = ?3"
    };
}

/// The condition for storing a refresh: the used token is still the current one (`?4`), and the grant was neither
/// revoked nor marked as unconfirmed since the lease (`?5`) was taken.
macro_rules! not_overtaken {
    () => {
        concat!(
            this_one!(),
            " AND token_version = ?4 AND state <> 'REVOKED' \
             AND (doubted_at_fence IS NULL OR doubted_at_fence < ?5)"
        )
    };
}

/// Counts a failure at time `?6`, up to the maximum of an `int32`.
macro_rules! one_more_failure {
    () => {
        "failure_count = min(failure_count + 1, 2147483647), failing_since = coalesce(failing_since, ?6),"
    };
}

pub(in crate::store::sqlite) const HAS_TENANT: &str =
    "SELECT EXISTS (SELECT 1 FROM tenants WHERE application = ?1 AND tenant = ?2)";

/// Inserts a grant, or renews the existing one of the associate.
pub(in crate::store::sqlite) const CONSENTED: &str = concat!(
    "INSERT INTO grants (application, tenant, id, associate_id, user_principal_name, user_principal_key, full_name, \
     state, create_time) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 'ACTIVE', ?8) \
     ON CONFLICT (application, tenant, associate_id) DO UPDATE SET \
     user_principal_name = excluded.user_principal_name, user_principal_key = excluded.user_principal_key, \
     full_name = excluded.full_name, state = 'ACTIVE', last_failure_reason = NULL, last_failure_time = NULL, \
     failure_count = 0, failing_since = NULL, revocation_pending = 0, doubted_at_fence = NULL, token_version = token_version + 1, version = version + 1 \
     RETURNING ",
    columns!()
);
pub(in crate::store::sqlite) const PREVIOUS_REFRESH_TOKEN: &str =
    concat!("SELECT value FROM refresh_tokens WHERE ", this_one!());
/// Replacing the row also clears the intent of the previous token.
pub(in crate::store::sqlite) const PUT_REFRESH_TOKEN: &str = "INSERT OR REPLACE INTO refresh_tokens (application, tenant, id, value) VALUES (?1, ?2, ?3, ?4)";

pub(in crate::store::sqlite) const GET: &str =
    concat!("SELECT ", columns!(), " FROM grants WHERE ", this_one!());
pub(in crate::store::sqlite) const FIND: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM grants WHERE application = ?1 AND tenant = ?2 AND associate_id = ?3"
);
pub(in crate::store::sqlite) const FIND_BY_USER: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM grants WHERE application = ?1 AND tenant = ?2 AND user_principal_key = ?3"
);
pub(in crate::store::sqlite) const LIST_OF_APPLICATION: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM grants WHERE application = ?1 AND (tenant, id) > (?2, ?3) ORDER BY tenant, id LIMIT ?4"
);
pub(in crate::store::sqlite) const LIST_OF_TENANT: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM grants WHERE application = ?1 AND tenant = ?2 AND id > ?3 ORDER BY id LIMIT ?4"
);

/// Selects the columns of `RefreshTokenRecord` from both tables.
macro_rules! refresh_token {
    ($condition:literal) => {
        concat!(
            "SELECT value, token_version, intent_fence, intent_retried, intent_time \
             FROM refresh_tokens JOIN grants USING (application, tenant, id) WHERE ",
            this_one!(),
            " AND ",
            $condition
        )
    };
}

pub(in crate::store::sqlite) const REFRESH_TOKEN_OF_VERSION: &str =
    refresh_token!("token_version = ?4");
pub(in crate::store::sqlite) const USABLE_REFRESH_TOKEN: &str =
    refresh_token!("state <> 'REVOKED'");
pub(in crate::store::sqlite) const TO_REVOKE: &str = refresh_token!("revocation_pending = 1");

/// Changes the time, because SQLite does not write an unchanged page.
pub(in crate::store::sqlite) const INTEND: &str = concat!(
    "UPDATE refresh_tokens SET intent_fence = ?5, intent_retried = coalesce(intent_retried, 0), intent_time = ?6 WHERE ",
    this_one!(),
    " AND (intent_fence IS NULL OR intent_fence = ?5) AND EXISTS (SELECT 1 FROM grants WHERE ",
    this_one!(),
    " AND token_version = ?4 AND state <> 'REVOKED')"
);
/// Also succeeds if this lease has already recorded the retry.
pub(in crate::store::sqlite) const RETRY_ORPHAN: &str = concat!(
    "UPDATE refresh_tokens SET intent_fence = ?4, intent_retried = 1, intent_time = ?5 WHERE ",
    this_one!(),
    " AND (intent_retried = 0 AND intent_fence <> ?4 OR intent_retried = 1 AND intent_fence = ?4) \
     AND EXISTS (SELECT 1 FROM grants WHERE ",
    this_one!(),
    " AND state <> 'REVOKED')"
);
pub(in crate::store::sqlite) const CLEAR_INTENT: &str = concat!(
    "UPDATE refresh_tokens SET intent_fence = NULL, intent_retried = NULL, intent_time = NULL WHERE ",
    this_one!()
);
pub(in crate::store::sqlite) const ROTATED: &str = concat!(
    "UPDATE grants SET token_version = token_version + 1, version = version + 1, \
     revocation_pending = (state = 'REVOKED') WHERE ",
    this_one!(),
    " AND token_version = ?4 RETURNING token_version, revocation_pending"
);

pub(in crate::store::sqlite) const REFRESHED: &str = concat!(
    "UPDATE grants SET state = 'ACTIVE', last_refresh_time = ?6, user_principal_name = ?7, user_principal_key = ?8, \
     full_name = ?9, failure_count = 0, failing_since = NULL, doubted_at_fence = NULL, version = version + 1 WHERE ",
    not_overtaken!(),
    " RETURNING ",
    columns!()
);
pub(in crate::store::sqlite) const BROKEN: &str = concat!(
    "UPDATE grants SET state = 'CONSENT_REQUIRED', ",
    one_more_failure!(),
    " \
     last_failure_time = iif(state = 'ACTIVE', ?6, last_failure_time), \
     last_failure_reason = iif(state = 'ACTIVE', ?7, last_failure_reason), version = version + 1 WHERE ",
    not_overtaken!(),
    " RETURNING ",
    columns!()
);
pub(in crate::store::sqlite) const FAILED: &str = concat!(
    "UPDATE grants SET ",
    one_more_failure!(),
    " last_failure_time = iif(state = 'ACTIVE', ?6, last_failure_time), \
     last_failure_reason = iif(state = 'ACTIVE', ?7, last_failure_reason), version = version + 1 WHERE ",
    not_overtaken!(),
    " RETURNING ",
    columns!()
);

pub(in crate::store::sqlite) const PUT_ACCESS_TOKEN: &str = "INSERT OR REPLACE INTO access_tokens \
     (application, tenant, id, value, credential_id, issue_time, expire_time, token_version) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
pub(in crate::store::sqlite) const GET_ACCESS_TOKEN: &str = concat!(
    "SELECT value, credential_id, issue_time, expire_time, token_version FROM access_tokens WHERE ",
    this_one!()
);
pub(in crate::store::sqlite) const DELETE_ACCESS_TOKEN: &str =
    concat!("DELETE FROM access_tokens WHERE ", this_one!());
pub(in crate::store::sqlite) const DELETE_DEAD_ACCESS_TOKEN: &str =
    concat!("DELETE FROM access_tokens WHERE ", this_one!(), " AND credential_id = ?4");

pub(in crate::store::sqlite) const REVOKE: &str = concat!(
    "UPDATE grants SET state = 'REVOKED', revocation_pending = 1, version = version + 1 WHERE ",
    this_one!(),
    " AND state <> 'REVOKED' RETURNING ",
    columns!()
);
pub(in crate::store::sqlite) const PENDING: &str = "SELECT application, tenant, id FROM grants \
     WHERE revocation_pending = 1 AND (application, tenant, id) > (?1, ?2, ?3) \
     ORDER BY application, tenant, id LIMIT ?4";
pub(in crate::store::sqlite) const REVOKED_UPSTREAM: &str = concat!(
    "UPDATE grants SET revocation_pending = 0, version = version + 1 WHERE ",
    this_one!(),
    " AND revocation_pending = 1 AND token_version = ?4 RETURNING ",
    columns!()
);
pub(in crate::store::sqlite) const DELETE_REFRESH_TOKEN: &str =
    concat!("DELETE FROM refresh_tokens WHERE ", this_one!());
pub(in crate::store::sqlite) const DELETE_WITHOUT_TENANT: &str = concat!(
    "DELETE FROM grants WHERE ",
    this_one!(),
    " AND NOT EXISTS (SELECT 1 FROM tenants WHERE application = ?1 AND tenant = ?2)"
);

pub(in crate::store::sqlite) const MARK_ALL_UNPROVEN: &str = "UPDATE grants \
     SET doubted_at_fence = (SELECT last FROM lease_fences), version = version + 1 \
     WHERE application = ?1 AND tenant = ?2 AND state <> 'REVOKED'";
pub(in crate::store::sqlite) const DELETE_ACCESS_TOKENS: &str =
    "DELETE FROM access_tokens WHERE application = ?1 AND tenant = ?2";

pub(in crate::store::sqlite) const HAS_GRANTS: &str = "SELECT EXISTS (SELECT 1 FROM grants \
     WHERE application = ?1 AND tenant = ?2 AND state <> 'REVOKED')";
pub(in crate::store::sqlite) const REVOKE_ALL: &str = "UPDATE grants \
     SET state = 'REVOKED', revocation_pending = 1, version = version + 1 \
     WHERE application = ?1 AND tenant = ?2 AND state <> 'REVOKED'";
pub(in crate::store::sqlite) const DELETE_REVOKED: &str =
    "DELETE FROM grants WHERE application = ?1 AND tenant = ?2 AND revocation_pending = 0";
