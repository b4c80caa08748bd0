//! The SQL of tenants. Rows are found by the primary key, and lists are ordered by it.

/// The columns of `TenantRecord`. A macro, because statements are literals: SQL is never built from values.
macro_rules! columns {
    () => {
        "application, tenant, labels, company_name, disabled, token_version, version, create_time, update_time, \
         status_state, status_valid_until, status_web_api_uri, status_version, status_read_time"
    };
}

pub(in crate::store::sqlite) const CREATE: &str = concat!(
    "INSERT INTO tenants (application, tenant, labels, create_time, update_time) VALUES (?1, ?2, ?3, ?4, ?4) RETURNING ",
    columns!()
);
pub(in crate::store::sqlite) const GET: &str =
    concat!("SELECT ", columns!(), " FROM tenants WHERE application = ?1 AND tenant = ?2");
pub(in crate::store::sqlite) const LIST: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM tenants WHERE (application, tenant) > (?1, ?2) ORDER BY application, tenant LIMIT ?3"
);
pub(in crate::store::sqlite) const LIST_OF_APPLICATION: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM tenants WHERE application = ?1 AND tenant > ?2 ORDER BY tenant LIMIT ?3"
);
pub(in crate::store::sqlite) const APPLICATIONS_OF: &str =
    "SELECT application FROM tenants WHERE tenant = ?1 ORDER BY application";
pub(in crate::store::sqlite) const SET_DISABLED: &str = concat!(
    "UPDATE tenants SET disabled = ?3, version = version + 1, update_time = ?4 \
     WHERE application = ?1 AND tenant = ?2 AND disabled <> ?3 RETURNING ",
    columns!()
);
pub(in crate::store::sqlite) const SET_TOKEN: &str = concat!(
    "UPDATE tenants SET system_user_token = ?3, token_version = (SELECT last FROM token_versions), version = version + 1, \
     update_time = ?4 WHERE application = ?1 AND tenant = ?2 RETURNING ",
    columns!()
);
pub(in crate::store::sqlite) const DELETE_TICKET: &str =
    "DELETE FROM tickets WHERE application = ?1 AND tenant = ?2";
pub(in crate::store::sqlite) const GET_TOKEN: &str = "SELECT system_user_token, token_version FROM tenants \
     WHERE application = ?1 AND tenant = ?2 AND system_user_token IS NOT NULL";
pub(in crate::store::sqlite) const PUT_STATUS: &str = "UPDATE tenants SET status_state = ?3, status_valid_until = ?4, status_web_api_uri = ?5, \
     status_version = ?6, status_read_time = ?7 WHERE application = ?1 AND tenant = ?2";
pub(in crate::store::sqlite) const PUT_COMPANY_NAME: &str =
    "UPDATE tenants SET company_name = ?3 WHERE application = ?1 AND tenant = ?2";
pub(in crate::store::sqlite) const GET_VERSION: &str =
    "SELECT version FROM tenants WHERE application = ?1 AND tenant = ?2";
pub(in crate::store::sqlite) const DELETE: &str =
    "DELETE FROM tenants WHERE application = ?1 AND tenant = ?2";

/// Allocates a token version, which is unique over all tenants.
pub(in crate::store::sqlite) const NEXT_TOKEN_VERSION: &str =
    "UPDATE token_versions SET last = last + 1 WHERE only_row = 1";

/// Returns the positions of disabled or missing tenants in a JSON array of name pairs.
pub(in crate::store::sqlite) const STOPPED_OF: &str = "SELECT asked.key FROM json_each(?1) AS asked \
     LEFT JOIN tenants ON tenants.application = asked.value ->> 0 AND tenants.tenant = asked.value ->> 1 \
     WHERE tenants.disabled IS NOT 0";
