//! Converts rows to domain types. The store is not trusted: invalid values are [`StoreError::Corrupt`], and an address
//! that is no longer allowed is ignored.

mod consents;
mod grants;

use std::{fmt, sync::Arc};

use jiff::Timestamp;

pub(super) use self::{
    consents::{AttemptRecord, BindingRecord, ConsentRecord, OutcomeColumns},
    grants::{AccessTokenRecord, GrantNameRecord, GrantRecord, RefreshTokenRecord},
};
use super::{KnownApplication, KnownApplications};
use crate::{
    domain::{
        ApplicationId, CredentialId, SystemTicket, Tenant, TenantName, TenantState, TenantStatus,
        Usability, WebApiUri,
    },
    ports::StoreError,
};

/// A row of `tenants` without its secret.
#[derive(sqlx::FromRow)]
pub(super) struct TenantRecord {
    application: String,
    tenant: String,
    labels: String,
    company_name: String,
    disabled: bool,
    token_version: i64,
    version: i64,
    create_time: i64,
    update_time: i64,
    status_state: Option<String>,
    status_valid_until: Option<i64>,
    status_web_api_uri: Option<String>,
    status_version: Option<String>,
    status_read_time: Option<i64>,
}

/// The secret of a row of `tenants`.
#[derive(sqlx::FromRow)]
pub(super) struct TokenRecord {
    pub(super) system_user_token: Vec<u8>,
    pub(super) token_version: i64,
}

/// A row of `tickets`.
#[derive(sqlx::FromRow)]
pub(super) struct TicketRecord {
    pub(super) value: Vec<u8>,
    credential_id: String,
    issue_time: i64,
    expire_time: i64,
    token_version: i64,
}

impl TenantRecord {
    pub(super) fn into_tenant(self, known: &KnownApplications) -> Result<Tenant, StoreError> {
        let application = application_id(&self.application)?;
        // The names of all tenants of an application share one copy of its id.
        let shared = known.get_key_value(&application).map(|(id, _)| id.clone());
        let name = TenantName {
            application: shared.unwrap_or(application),
            tenant: self
                .tenant
                .parse()
                .map_err(|_| StoreError::Corrupt("tenants.tenant".to_owned()))?,
        };
        Ok(Tenant {
            labels: serde_json::from_str(&self.labels)
                .map_err(|_| corrupt_column("labels", &name))?,
            disabled: self.disabled,
            token_version: self.token_version,
            version: self.version,
            create_time: microseconds(self.create_time, "create_time", &name)?,
            update_time: microseconds(self.update_time, "update_time", &name)?,
            last_status: self.status(&name, known.get(&name.application))?.map(Arc::new),
            company_name: self.company_name,
            name,
        })
    }

    /// Returns the stored status. Also `None` if the address is no longer allowed: the status is then read again.
    fn status(
        &self,
        name: &TenantName,
        application: Option<&KnownApplication>,
    ) -> Result<Option<TenantStatus>, StoreError> {
        let (state, valid_until, version, read_time) = match (
            &self.status_state,
            self.status_valid_until,
            &self.status_version,
            self.status_read_time,
        ) {
            (None, None, None, None) => return Ok(None),
            (Some(state), Some(until), Some(version), Some(read)) => (state, until, version, read),
            _ => return Err(corrupt_column("status_state", name)),
        };
        let state =
            TenantState::from_name(state).ok_or_else(|| corrupt_column("status_state", name))?;
        let web_api_uri = match (&self.status_web_api_uri, application) {
            (None, _) if state.usability() == Usability::Usable => return Ok(None),
            (None, _) => None,
            (Some(_), None) => return Ok(None),
            (Some(text), Some(application)) => {
                match WebApiUri::check_api(text, name.tenant, &application.allowed_api_hosts) {
                    Ok(uri) => Some(uri),
                    Err(_) => return Ok(None),
                }
            }
        };
        Ok(Some(TenantStatus {
            state,
            valid_until: microseconds(valid_until, "status_valid_until", name)?,
            web_api_uri,
            version: version.clone(),
            read_time: microseconds(read_time, "status_read_time", name)?,
        }))
    }
}

impl TicketRecord {
    pub(super) fn into_ticket(
        self,
        value: secrecy::SecretString,
        name: &TenantName,
    ) -> Result<SystemTicket, StoreError> {
        Ok(SystemTicket {
            value,
            credential_id: CredentialId::from_text(&self.credential_id),
            issue_time: microseconds(self.issue_time, "issue_time", name)?,
            expire_time: microseconds(self.expire_time, "expire_time", name)?,
            token_version: self.token_version,
        })
    }
}

pub(super) fn application_id(text: &str) -> Result<ApplicationId, StoreError> {
    text.parse().map_err(|_| StoreError::Corrupt("tenants.application".to_owned()))
}

/// Converts the time in a column.
pub(super) fn microseconds(
    value: i64,
    column: &str,
    row: &dyn fmt::Display,
) -> Result<Timestamp, StoreError> {
    Timestamp::from_microsecond(value).map_err(|_| corrupt_column(column, row))
}

fn corrupt_column(column: &str, row: &dyn fmt::Display) -> StoreError {
    StoreError::Corrupt(format!("{column} of {row}"))
}
