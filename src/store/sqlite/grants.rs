//! Grants and their tokens.

mod queries;
pub(super) mod statements;

use async_trait::async_trait;
use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use sqlx::{Sqlite, SqliteConnection, query::Query, sqlite::SqliteArguments};

pub(super) use self::queries::tenant_statement;
use self::{
    queries::{grant_query, grant_statement, key, outcome_query, put_access_token},
    statements as sql,
};
use super::{SqliteStore, leases::is_held};
use crate::{
    domain::{
        AccessToken, ApplicationId, AssociateId, CredentialId, Grant, GrantId, GrantName,
        GrantScope, GrantState, TenantName, VerifiedIdentity, folded_name, is_same_name,
    },
    ports::{
        GrantStore, Lease, RefreshOutcome, RotationOutcome, StoreError, StoredConsent,
        StoredRefreshToken,
    },
    store::{
        record::{AccessTokenRecord, GrantNameRecord, GrantRecord, RefreshTokenRecord},
        sealing::{ACCESS_TOKEN, REFRESH_TOKEN, SecretColumn},
    },
};

#[async_trait]
impl GrantStore for SqliteStore {
    async fn store_consent(
        &self,
        application: &ApplicationId,
        person: &VerifiedIdentity,
        refresh_token: &SecretString,
        new_id: &GrantId,
        now: Timestamp,
    ) -> Result<Option<StoredConsent>, StoreError> {
        let environment = self.environment(application).await?;
        let tenant = person.tenant.to_string();
        let mut writer = self.file.writer().await?;
        let mut transaction = writer.begin().await?;
        let known: bool = sqlx::query_scalar(sql::HAS_TENANT)
            .bind(application.as_str())
            .bind(&tenant)
            .fetch_one(&mut *transaction)
            .await?;
        if !known {
            return Ok(None);
        }
        let record: GrantRecord = sqlx::query_as(sql::CONSENTED)
            .bind(application.as_str())
            .bind(&tenant)
            .bind(new_id.as_str())
            .bind(person.associate_id.get())
            .bind(&person.user_principal_name)
            .bind(folded_name(&person.user_principal_name).into_owned())
            .bind(&person.full_name)
            .bind(now.as_microsecond())
            .fetch_one(&mut *transaction)
            .await?;
        let grant = record.into_grant()?;
        let former: Option<(Vec<u8>,)> = grant_query(sql::PREVIOUS_REFRESH_TOKEN, &grant.name)
            .fetch_optional(&mut *transaction)
            .await?;
        let replaced = former.and_then(|(sealed,)| {
            let opened = self.sealing.open(REFRESH_TOKEN, &environment, &grant.name, &sealed);
            // A consent must not fail because of the previous token.
            opened
                .inspect_err(|error| {
                    tracing::error!(%error, grant = %grant.name, "cannot open the previous refresh token, so it stays valid at SuperOffice");
                })
                .ok()
        });
        // The grant name, to which the token is bound, is known only now.
        let sealed = self.sealing.seal(REFRESH_TOKEN, &environment, &grant.name, refresh_token)?;
        grant_statement(sql::PUT_REFRESH_TOKEN, &grant.name)
            .bind(sealed)
            .execute(&mut *transaction)
            .await?;
        grant_statement(sql::DELETE_ACCESS_TOKEN, &grant.name).execute(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(Some(StoredConsent { created: grant.token_version == 1, grant, replaced }))
    }

    async fn get(&self, name: &GrantName) -> Result<Option<Grant>, StoreError> {
        to_grant(grant_query(sql::GET, name).fetch_optional(self.file.readers()?).await?)
    }

    async fn find_by_associate(
        &self,
        tenant: &TenantName,
        associate: AssociateId,
    ) -> Result<Option<Grant>, StoreError> {
        let record = sqlx::query_as(sql::FIND)
            .bind(tenant.application.as_str())
            .bind(tenant.tenant.to_string())
            .bind(associate.get())
            .fetch_optional(self.file.readers()?)
            .await?;
        to_grant(record)
    }

    async fn find_by_user_principal_name(
        &self,
        tenant: &TenantName,
        user_principal_name: &str,
    ) -> Result<Vec<Grant>, StoreError> {
        let records: Vec<GrantRecord> = sqlx::query_as(sql::FIND_BY_USER)
            .bind(tenant.application.as_str())
            .bind(tenant.tenant.to_string())
            .bind(folded_name(user_principal_name).into_owned())
            .fetch_all(self.file.readers()?)
            .await?;
        let mut grants = to_grants(records)?;
        // A row that was edited by hand may have a wrong key.
        grants.retain(|grant| is_same_name(user_principal_name, &grant.user_principal_name));
        Ok(grants)
    }

    async fn list(
        &self,
        scope: &GrantScope,
        after: Option<&GrantName>,
        limit: u32,
    ) -> Result<Vec<Grant>, StoreError> {
        let (after_tenant, after_id) = after.map_or_else(Default::default, |name| {
            (name.tenant.tenant.to_string(), name.grant.as_str().to_owned())
        });
        let statement = match scope {
            GrantScope::Application(application) => sqlx::query_as(sql::LIST_OF_APPLICATION)
                .bind(application.as_str())
                .bind(after_tenant),
            GrantScope::Tenant(tenant) => sqlx::query_as(sql::LIST_OF_TENANT)
                .bind(tenant.application.as_str())
                .bind(tenant.tenant.to_string()),
        };
        to_grants(statement.bind(after_id).bind(limit).fetch_all(self.file.readers()?).await?)
    }

    async fn refresh_token(
        &self,
        name: &GrantName,
    ) -> Result<Option<StoredRefreshToken>, StoreError> {
        self.open_refresh_token(sql::USABLE_REFRESH_TOKEN, name).await
    }

    async fn record_intent(
        &self,
        name: &GrantName,
        lease: &Lease,
        token_version: i64,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let statement = grant_statement(sql::INTEND, name)
            .bind(token_version)
            .bind(lease.fence)
            .bind(now.as_microsecond());
        self.execute_with_lease(lease, name, statement).await
    }

    async fn retry_orphaned_intent(
        &self,
        name: &GrantName,
        lease: &Lease,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let statement =
            grant_statement(sql::RETRY_ORPHAN, name).bind(lease.fence).bind(now.as_microsecond());
        self.execute_with_lease(lease, name, statement).await
    }

    async fn store_rotated_token(
        &self,
        name: &GrantName,
        lease: &Lease,
        token_version: i64,
        refresh_token: &SecretString,
    ) -> Result<RotationOutcome, StoreError> {
        let sealed = self.seal(REFRESH_TOKEN, name, refresh_token).await?;
        let mut writer = self.file.writer().await?;
        let mut transaction = writer.begin().await?;
        if !is_held(&mut transaction, &name.to_string(), lease).await? {
            return Ok(RotationOutcome::Discarded);
        }
        let rotated: Option<(i64, bool)> = grant_query(sql::ROTATED, name)
            .bind(token_version)
            .fetch_optional(&mut *transaction)
            .await?;
        let Some((version, to_be_revoked)) = rotated else {
            let next = token_version + 1;
            return self.earlier_rotation(&mut transaction, name, next, refresh_token).await;
        };
        grant_statement(sql::PUT_REFRESH_TOKEN, name)
            .bind(sealed)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(if to_be_revoked {
            RotationOutcome::ToBeRevoked
        } else {
            RotationOutcome::Stored(version)
        })
    }

    async fn record_outcome(
        &self,
        name: &GrantName,
        lease: &Lease,
        token_version: i64,
        outcome: &RefreshOutcome,
        now: Timestamp,
    ) -> Result<Option<Grant>, StoreError> {
        let access_token = match outcome {
            RefreshOutcome::Refreshed { access_token, .. } => {
                let sealed = self.seal(ACCESS_TOKEN, name, &access_token.value).await?;
                Some((access_token, sealed))
            }
            RefreshOutcome::ConsentRequired { .. } | RefreshOutcome::Failed { .. } => None,
        };
        let mut writer = self.file.writer().await?;
        let mut transaction = writer.begin().await?;
        if !is_held(&mut transaction, &name.to_string(), lease).await? {
            return Ok(None);
        }
        // Clears the intent even if the outcome is not stored, because the use has ended.
        grant_statement(sql::CLEAR_INTENT, name).execute(&mut *transaction).await?;
        let statement = outcome_query(name, lease, token_version, outcome, now);
        let grant = to_grant(statement.fetch_optional(&mut *transaction).await?)?;
        match (&grant, access_token) {
            (Some(grant), Some((token, sealed))) => {
                put_access_token(grant, token, sealed).execute(&mut *transaction).await?;
            }
            (Some(_), None) if matches!(outcome, RefreshOutcome::ConsentRequired { .. }) => {
                grant_statement(sql::DELETE_ACCESS_TOKEN, name).execute(&mut *transaction).await?;
            }
            _ => {}
        }
        transaction.commit().await?;
        Ok(grant)
    }

    async fn access_token(&self, name: &GrantName) -> Result<Option<AccessToken>, StoreError> {
        let record: Option<AccessTokenRecord> =
            grant_query(sql::GET_ACCESS_TOKEN, name).fetch_optional(self.file.readers()?).await?;
        let Some(record) = record else {
            return Ok(None);
        };
        let value = self.open(ACCESS_TOKEN, name, &record.value).await?;
        record.into_token(value, name).map(Some)
    }

    async fn delete_access_token(
        &self,
        name: &GrantName,
        credential_id: &CredentialId,
    ) -> Result<(), StoreError> {
        let mut writer = self.file.writer().await?;
        let mut transaction = writer.begin().await?;
        grant_statement(sql::DELETE_DEAD_ACCESS_TOKEN, name)
            .bind(credential_id.as_str())
            .execute(&mut *transaction)
            .await?;
        Ok(transaction.commit().await?)
    }

    async fn revoke(&self, name: &GrantName) -> Result<Option<Grant>, StoreError> {
        let mut writer = self.file.writer().await?;
        let mut transaction = writer.begin().await?;
        let mut record = grant_query(sql::REVOKE, name).fetch_optional(&mut *transaction).await?;
        if record.is_none() {
            record = grant_query(sql::GET, name).fetch_optional(&mut *transaction).await?;
        }
        grant_statement(sql::DELETE_ACCESS_TOKEN, name).execute(&mut *transaction).await?;
        transaction.commit().await?;
        to_grant(record)
    }

    async fn pending_revocations(
        &self,
        after: Option<&GrantName>,
        limit: u32,
    ) -> Result<Vec<GrantName>, StoreError> {
        let (application, tenant, id) = after.map_or_else(Default::default, key);
        let records: Vec<GrantNameRecord> = sqlx::query_as(sql::PENDING)
            .bind(application)
            .bind(tenant)
            .bind(id)
            .bind(limit)
            .fetch_all(self.file.readers()?)
            .await?;
        records.into_iter().map(GrantNameRecord::into_name).collect()
    }

    async fn token_to_revoke(
        &self,
        name: &GrantName,
    ) -> Result<Option<StoredRefreshToken>, StoreError> {
        self.open_refresh_token(sql::TO_REVOKE, name).await
    }

    async fn mark_revoked_upstream(
        &self,
        name: &GrantName,
        token_version: i64,
    ) -> Result<Option<Grant>, StoreError> {
        let mut writer = self.file.writer().await?;
        let mut transaction = writer.begin().await?;
        let record = grant_query(sql::REVOKED_UPSTREAM, name)
            .bind(token_version)
            .fetch_optional(&mut *transaction)
            .await?;
        let Some(grant) = to_grant(record)? else {
            return Ok(None);
        };
        grant_statement(sql::DELETE_REFRESH_TOKEN, name).execute(&mut *transaction).await?;
        grant_statement(sql::DELETE_WITHOUT_TENANT, name).execute(&mut *transaction).await?;
        transaction.commit().await?;
        // The token is deleted even if the WAL cannot be emptied now.
        let _ = writer.truncate_wal().await;
        Ok(Some(grant))
    }

    async fn mark_all_unconfirmed(&self, tenant: &TenantName) -> Result<u64, StoreError> {
        let mut writer = self.file.writer().await?;
        let mut transaction = writer.begin().await?;
        let doubted =
            tenant_statement(sql::MARK_ALL_UNPROVEN, tenant).execute(&mut *transaction).await?;
        tenant_statement(sql::DELETE_ACCESS_TOKENS, tenant).execute(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(doubted.rows_affected())
    }
}

impl SqliteStore {
    async fn open_refresh_token(
        &self,
        statement: &'static str,
        name: &GrantName,
    ) -> Result<Option<StoredRefreshToken>, StoreError> {
        let record: Option<RefreshTokenRecord> =
            grant_query(statement, name).fetch_optional(self.file.readers()?).await?;
        let Some(record) = record else {
            return Ok(None);
        };
        let token = self.open(REFRESH_TOKEN, name, &record.value).await?;
        record.into_token(token, name).map(Some)
    }

    /// Returns the result of an earlier attempt with unknown outcome, which may have stored the token.
    async fn earlier_rotation(
        &self,
        connection: &mut SqliteConnection,
        name: &GrantName,
        version: i64,
        refresh_token: &SecretString,
    ) -> Result<RotationOutcome, StoreError> {
        let record: Option<RefreshTokenRecord> = grant_query(sql::REFRESH_TOKEN_OF_VERSION, name)
            .bind(version)
            .fetch_optional(&mut *connection)
            .await?;
        let Some(record) = record else {
            return Ok(RotationOutcome::Discarded);
        };
        let kept = self.open(REFRESH_TOKEN, name, &record.value).await?;
        if kept.expose_secret() != refresh_token.expose_secret() {
            return Ok(RotationOutcome::Discarded);
        }
        let grant = to_grant(grant_query(sql::GET, name).fetch_optional(connection).await?)?;
        Ok(match grant.map(|grant| grant.state) {
            Some(GrantState::Revoked) => RotationOutcome::ToBeRevoked,
            Some(GrantState::Active | GrantState::ConsentRequired) => {
                RotationOutcome::Stored(version)
            }
            None => RotationOutcome::Discarded,
        })
    }

    /// Runs a statement that changes at most one row, if the lease is held. Returns whether it changed one.
    async fn execute_with_lease(
        &self,
        lease: &Lease,
        name: &GrantName,
        statement: Query<'static, Sqlite, SqliteArguments>,
    ) -> Result<bool, StoreError> {
        let mut writer = self.file.writer().await?;
        let mut transaction = writer.begin().await?;
        if !is_held(&mut transaction, &name.to_string(), lease).await? {
            return Ok(false);
        }
        let done = statement.execute(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(done.rows_affected() == 1)
    }

    async fn seal(
        &self,
        column: SecretColumn,
        name: &GrantName,
        secret: &SecretString,
    ) -> Result<Vec<u8>, StoreError> {
        let environment = self.environment(&name.tenant.application).await?;
        Ok(self.sealing.seal(column, &environment, name, secret)?)
    }

    async fn open(
        &self,
        column: SecretColumn,
        name: &GrantName,
        sealed: &[u8],
    ) -> Result<SecretString, StoreError> {
        let environment = self.environment(&name.tenant.application).await?;
        Ok(self.sealing.open(column, &environment, name, sealed)?)
    }
}

fn to_grant(record: Option<GrantRecord>) -> Result<Option<Grant>, StoreError> {
    record.map(GrantRecord::into_grant).transpose()
}

fn to_grants(records: Vec<GrantRecord>) -> Result<Vec<Grant>, StoreError> {
    records.into_iter().map(GrantRecord::into_grant).collect()
}
