//! Statements with their common parameters bound.

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
type RowQuery<T> = QueryAs<'static, Sqlite, T, SqliteArguments>;

/// Returns the primary key of a grant's row.
pub(super) fn key(name: &GrantName) -> (String, String, String) {
    (
        name.tenant.application.as_str().to_owned(),
        name.tenant.tenant.to_string(),
        name.grant.as_str().to_owned(),
    )
}

/// Returns a statement for one grant.
pub(super) fn grant_statement(statement: &'static str, name: &GrantName) -> Statement {
    let (application, tenant, id) = key(name);
    sqlx::query(statement).bind(application).bind(tenant).bind(id)
}

/// Returns a statement for one grant that returns rows.
pub(super) fn grant_query<T>(statement: &'static str, name: &GrantName) -> RowQuery<T>
where
    T: for<'r> FromRow<'r, SqliteRow>,
{
    let (application, tenant, id) = key(name);
    sqlx::query_as(statement).bind(application).bind(tenant).bind(id)
}

/// Returns a statement for the grants of a tenant.
pub(in crate::store::sqlite) fn tenant_statement(
    statement: &'static str,
    tenant: &TenantName,
) -> Statement {
    sqlx::query(statement)
        .bind(tenant.application.as_str().to_owned())
        .bind(tenant.tenant.to_string())
}

/// Returns the statement that stores the outcome of a refresh, unless a newer change came first.
pub(super) fn outcome_query(
    name: &GrantName,
    lease: &Lease,
    token_version: i64,
    outcome: &RefreshOutcome,
    now: Timestamp,
) -> RowQuery<GrantRecord> {
    let statement = match outcome {
        RefreshOutcome::Refreshed { .. } => sql::REFRESHED,
        RefreshOutcome::ConsentRequired { .. } => sql::BROKEN,
        RefreshOutcome::Failed { .. } => sql::FAILED,
    };
    let statement = grant_query(statement, name)
        .bind(token_version)
        .bind(lease.fence)
        .bind(now.as_microsecond());
    match outcome {
        RefreshOutcome::Refreshed { user_principal_name, full_name, .. } => statement
            .bind(user_principal_name.clone())
            .bind(folded_name(user_principal_name).into_owned())
            .bind(full_name.clone()),
        RefreshOutcome::ConsentRequired { reason } | RefreshOutcome::Failed { reason } => {
            statement.bind(reason.as_str())
        }
    }
}

/// Returns the statement that stores an access token and replaces the previous one.
pub(super) fn put_access_token(grant: &Grant, token: &AccessToken, sealed: Vec<u8>) -> Statement {
    grant_statement(sql::PUT_ACCESS_TOKEN, &grant.name)
        .bind(sealed)
        .bind(token.credential_id.as_str().to_owned())
        .bind(token.issue_time.as_microsecond())
        .bind(token.expire_time.as_microsecond())
        .bind(grant.token_version)
}
