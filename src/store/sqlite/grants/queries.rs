//! Statements with what they have in common bound.

use jiff::Timestamp;
use sqlx::{
    FromRow, Sqlite,
    query::{Query, QueryAs},
    sqlite::{SqliteArguments, SqliteRow},
};

use super::statements as sql;
use crate::{
    domain::{AccessToken, Grant, GrantName, TenantName, folded_name},
    ports::{Lease, RefreshOutcome},
    store::record::GrantRecord,
};

type Statement = Query<'static, Sqlite, SqliteArguments>;
type Asking<T> = QueryAs<'static, Sqlite, T, SqliteArguments>;

/// A row's key as its columns hold it.
pub(super) fn key(name: &GrantName) -> (String, String, String) {
    (
        name.tenant.application.as_str().to_owned(),
        name.tenant.tenant.to_string(),
        name.grant.as_str().to_owned(),
    )
}

/// A statement about one grant.
pub(super) fn one(statement: &'static str, name: &GrantName) -> Statement {
    let (application, tenant, id) = key(name);
    sqlx::query(statement).bind(application).bind(tenant).bind(id)
}

/// The same, with an answer.
pub(super) fn one_as<T>(statement: &'static str, name: &GrantName) -> Asking<T>
where
    T: for<'r> FromRow<'r, SqliteRow>,
{
    let (application, tenant, id) = key(name);
    sqlx::query_as(statement).bind(application).bind(tenant).bind(id)
}

/// A statement about the grants of a tenant.
pub(in crate::store::sqlite) fn of_tenant(
    statement: &'static str,
    tenant: &TenantName,
) -> Statement {
    sqlx::query(statement)
        .bind(tenant.application.as_str().to_owned())
        .bind(tenant.tenant.to_string())
}

/// Keeps the outcome of a refresh, unless it was overtaken.
pub(super) fn settlement(
    name: &GrantName,
    lease: &Lease,
    token_version: i64,
    outcome: &RefreshOutcome,
    now: Timestamp,
) -> Asking<GrantRecord> {
    let statement = match outcome {
        RefreshOutcome::Refreshed { .. } => sql::REFRESHED,
        RefreshOutcome::Broken { .. } => sql::BROKEN,
        RefreshOutcome::Failed { .. } => sql::FAILED,
    };
    let statement =
        one_as(statement, name).bind(token_version).bind(lease.fence).bind(now.as_microsecond());
    match outcome {
        RefreshOutcome::Refreshed { user_principal_name, full_name, .. } => statement
            .bind(user_principal_name.clone())
            .bind(folded_name(user_principal_name).into_owned())
            .bind(full_name.clone()),
        RefreshOutcome::Broken { reason } | RefreshOutcome::Failed { reason } => {
            statement.bind(reason.as_str())
        }
    }
}

/// Keeps an access token of a grant in place of the former one.
pub(super) fn put_access_token(grant: &Grant, token: &AccessToken, sealed: Vec<u8>) -> Statement {
    one(sql::PUT_ACCESS_TOKEN, &grant.name)
        .bind(sealed)
        .bind(token.credential_id.as_str().to_owned())
        .bind(token.issue_time.as_microsecond())
        .bind(token.expire_time.as_microsecond())
        .bind(grant.token_version)
}
