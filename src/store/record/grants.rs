//! Rows of grants and of their tokens.

use jiff::Timestamp;
use secrecy::SecretString;

use super::{application_id, corrupt_column, microseconds};
use crate::{
    domain::{
        AccessToken, AssociateId, CredentialId, FailureStreak, Grant, GrantFailure, GrantName,
        GrantState, Reason, TenantName,
    },
    ports::{RefreshIntent, StoreError, StoredRefreshToken},
};

/// The name of a row of `grants`.
#[derive(sqlx::FromRow)]
pub(in crate::store) struct GrantNameRecord {
    application: String,
    tenant: String,
    id: String,
}

/// A row of `grants`.
#[derive(sqlx::FromRow)]
pub(in crate::store) struct GrantRecord {
    #[sqlx(flatten)]
    name: GrantNameRecord,
    associate_id: i64,
    user_principal_name: String,
    full_name: String,
    state: String,
    create_time: i64,
    last_refresh_time: Option<i64>,
    last_failure_reason: Option<String>,
    last_failure_time: Option<i64>,
    failure_count: i64,
    failing_since: Option<i64>,
    revocation_pending: bool,
    doubted_at_fence: Option<i64>,
    token_version: i64,
    version: i64,
}

/// A row of `refresh_tokens`, with the token version in `grants`.
#[derive(sqlx::FromRow)]
pub(in crate::store) struct RefreshTokenRecord {
    pub(in crate::store) value: Vec<u8>,
    token_version: i64,
    intent_fence: Option<i64>,
    intent_retried: Option<bool>,
    intent_time: Option<i64>,
}

/// A row of `access_tokens`.
#[derive(sqlx::FromRow)]
pub(in crate::store) struct AccessTokenRecord {
    pub(in crate::store) value: Vec<u8>,
    credential_id: String,
    issue_time: i64,
    expire_time: i64,
    token_version: i64,
}

impl GrantNameRecord {
    pub(in crate::store) fn into_name(self) -> Result<GrantName, StoreError> {
        let wrong = |column: &str| StoreError::Corrupt(format!("grants.{column}"));
        let tenant = TenantName {
            application: application_id(&self.application)?,
            tenant: self.tenant.parse().map_err(|_| wrong("tenant"))?,
        };
        Ok(GrantName { tenant, grant: self.id.parse().map_err(|_| wrong("id"))? })
    }
}

impl GrantRecord {
    pub(in crate::store) fn into_grant(self) -> Result<Grant, StoreError> {
        let name = self.name.into_name()?;
        let associate_id = i32::try_from(self.associate_id).ok().and_then(AssociateId::new);
        let time = |value, column: &str| microseconds(value, column, &name);
        let last_failure = match (self.last_failure_reason, self.last_failure_time) {
            (Some(reason), Some(failed)) => Some(GrantFailure {
                reason: Reason::from_name(&reason)
                    .ok_or_else(|| corrupt_column("last_failure_reason", &name))?,
                time: time(failed, "last_failure_time")?,
            }),
            _ => None,
        };
        let failing = match self.failing_since {
            Some(since) => Some(FailureStreak {
                count: u32::try_from(self.failure_count)
                    .map_err(|_| corrupt_column("failure_count", &name))?,
                since: time(since, "failing_since")?,
            }),
            None => None,
        };
        Ok(Grant {
            associate_id: associate_id.ok_or_else(|| corrupt_column("associate_id", &name))?,
            user_principal_name: self.user_principal_name,
            full_name: self.full_name,
            state: GrantState::from_name(&self.state)
                .ok_or_else(|| corrupt_column("state", &name))?,
            create_time: time(self.create_time, "create_time")?,
            last_refresh_time: self
                .last_refresh_time
                .map(|refreshed| time(refreshed, "last_refresh_time"))
                .transpose()?,
            last_failure,
            failing,
            revocation_pending: self.revocation_pending,
            identity_unconfirmed: self.doubted_at_fence.is_some(),
            token_version: self.token_version,
            version: self.version,
            name,
        })
    }
}

impl RefreshTokenRecord {
    pub(in crate::store) fn into_token(
        self,
        token: SecretString,
        name: &GrantName,
    ) -> Result<StoredRefreshToken, StoreError> {
        let intent = match (self.intent_fence, self.intent_retried, self.intent_time) {
            (None, None, None) => None,
            (Some(fence), Some(retried), Some(time)) => {
                let time = microseconds(time, "intent_time", name)?;
                Some(RefreshIntent { fence, retried, time })
            }
            _ => return Err(corrupt_column("intent_fence", name)),
        };
        Ok(StoredRefreshToken { token, version: self.token_version, intent })
    }
}

impl AccessTokenRecord {
    pub(in crate::store) fn into_token(
        self,
        value: SecretString,
        name: &GrantName,
    ) -> Result<AccessToken, StoreError> {
        let time =
            |time, column| -> Result<Timestamp, StoreError> { microseconds(time, column, name) };
        Ok(AccessToken {
            value,
            credential_id: CredentialId::from_text(&self.credential_id),
            issue_time: time(self.issue_time, "issue_time")?,
            expire_time: time(self.expire_time, "expire_time")?,
            token_version: self.token_version,
        })
    }
}
