//! Tenants and their system user tokens.

pub(super) mod statements;

use std::collections::BTreeMap;

use async_trait::async_trait;
use jiff::Timestamp;
use secrecy::SecretString;

use self::statements::{
    APPLICATIONS_OF, CREATE, DELETE, DELETE_TICKET, GET, GET_TOKEN, GET_VERSION, LIST,
    LIST_OF_APPLICATION, NEXT_TOKEN_VERSION, PUT_COMPANY_NAME, PUT_STATUS, SET_DISABLED, SET_TOKEN,
    STOPPED_OF,
};
use super::{
    SqliteStore, consents,
    grants::{statements as grants, tenant_statement},
};
use crate::{
    domain::{ApplicationId, ContextIdentifier, Tenant, TenantName, TenantStatus},
    ports::{Deletion, StoreError, StoredToken, TenantStore},
    store::{
        record::{TenantRecord, TokenRecord, application_id},
        sealing::SYSTEM_USER_TOKEN,
    },
};

#[async_trait]
impl TenantStore for SqliteStore {
    async fn create(
        &self,
        name: &TenantName,
        labels: &BTreeMap<String, String>,
        now: Timestamp,
    ) -> Result<Tenant, StoreError> {
        let labels = serde_json::to_string(labels)
            .map_err(|_| StoreError::Corrupt("labels cannot be written".to_owned()))?;
        let mut writer = self.file.writer().await?;
        let mut transaction = writer.begin().await?;
        let record: TenantRecord = sqlx::query_as(CREATE)
            .bind(name.application.as_str())
            .bind(name.tenant.to_string())
            .bind(labels)
            .bind(now.as_microsecond())
            .fetch_one(&mut *transaction)
            .await?;
        transaction.commit().await?;
        record.into_tenant(&self.applications)
    }

    async fn get(&self, name: &TenantName) -> Result<Option<Tenant>, StoreError> {
        let record: Option<TenantRecord> = sqlx::query_as(GET)
            .bind(name.application.as_str())
            .bind(name.tenant.to_string())
            .fetch_optional(self.file.readers()?)
            .await?;
        self.to_tenant(record)
    }

    async fn list(
        &self,
        application: Option<&ApplicationId>,
        after: Option<&TenantName>,
        limit: u32,
    ) -> Result<Vec<Tenant>, StoreError> {
        // The empty string sorts before every id.
        let after_tenant = after.map(|name| name.tenant.to_string()).unwrap_or_default();
        let after_application = after.map_or("", |name| name.application.as_str());
        let statement = match application.map(ApplicationId::as_str) {
            Some(id) if id < after_application => return Ok(Vec::new()),
            Some(id) if id > after_application => {
                sqlx::query_as(LIST_OF_APPLICATION).bind(id).bind("")
            }
            Some(id) => sqlx::query_as(LIST_OF_APPLICATION).bind(id).bind(after_tenant),
            None => sqlx::query_as(LIST).bind(after_application).bind(after_tenant),
        };
        let records: Vec<TenantRecord> =
            statement.bind(limit).fetch_all(self.file.readers()?).await?;
        records.into_iter().map(|record| record.into_tenant(&self.applications)).collect()
    }

    async fn find_stopped(&self, names: &[TenantName]) -> Result<Vec<TenantName>, StoreError> {
        let pairs: Vec<(&str, String)> =
            names.iter().map(|name| (name.application.as_str(), name.tenant.to_string())).collect();
        let pairs = serde_json::to_string(&pairs)
            .map_err(|_| StoreError::Corrupt("names cannot be written".to_owned()))?;
        let places: Vec<i64> =
            sqlx::query_scalar(STOPPED_OF).bind(pairs).fetch_all(self.file.readers()?).await?;
        let found = places.into_iter().filter_map(|place| names.get(usize::try_from(place).ok()?));
        Ok(found.cloned().collect())
    }

    async fn applications_of(
        &self,
        tenant: ContextIdentifier,
    ) -> Result<Vec<ApplicationId>, StoreError> {
        let ids: Vec<String> = sqlx::query_scalar(APPLICATIONS_OF)
            .bind(tenant.to_string())
            .fetch_all(self.file.readers()?)
            .await?;
        ids.iter().map(|id| application_id(id)).collect()
    }

    async fn set_disabled(
        &self,
        name: &TenantName,
        disabled: bool,
        now: Timestamp,
    ) -> Result<Option<Tenant>, StoreError> {
        let tenant = name.tenant.to_string();
        let mut writer = self.file.writer().await?;
        let mut transaction = writer.begin().await?;
        let mut record: Option<TenantRecord> = sqlx::query_as(SET_DISABLED)
            .bind(name.application.as_str())
            .bind(&tenant)
            .bind(disabled)
            .bind(now.as_microsecond())
            .fetch_optional(&mut *transaction)
            .await?;
        if record.is_none() {
            record = sqlx::query_as(GET)
                .bind(name.application.as_str())
                .bind(&tenant)
                .fetch_optional(&mut *transaction)
                .await?;
        }
        transaction.commit().await?;
        self.to_tenant(record)
    }

    async fn set_system_user_token(
        &self,
        name: &TenantName,
        token: &SecretString,
        now: Timestamp,
    ) -> Result<Option<Tenant>, StoreError> {
        let environment = self.environment(&name.application).await?;
        let sealed = self.sealing.seal(SYSTEM_USER_TOKEN, &environment, name, token)?;
        let tenant = name.tenant.to_string();
        let mut writer = self.file.writer().await?;
        let mut transaction = writer.begin().await?;
        sqlx::query(NEXT_TOKEN_VERSION).execute(&mut *transaction).await?;
        let record: Option<TenantRecord> = sqlx::query_as(SET_TOKEN)
            .bind(name.application.as_str())
            .bind(&tenant)
            .bind(sealed)
            .bind(now.as_microsecond())
            .fetch_optional(&mut *transaction)
            .await?;
        sqlx::query(DELETE_TICKET)
            .bind(name.application.as_str())
            .bind(&tenant)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        self.to_tenant(record)
    }

    async fn system_user_token(
        &self,
        name: &TenantName,
    ) -> Result<Option<StoredToken>, StoreError> {
        let record: Option<TokenRecord> = sqlx::query_as(GET_TOKEN)
            .bind(name.application.as_str())
            .bind(name.tenant.to_string())
            .fetch_optional(self.file.readers()?)
            .await?;
        let Some(record) = record else {
            return Ok(None);
        };
        let environment = self.environment(&name.application).await?;
        let sealed = &record.system_user_token;
        Ok(Some(StoredToken {
            token: self.sealing.open(SYSTEM_USER_TOKEN, &environment, name, sealed)?,
            version: record.token_version,
        }))
    }

    async fn put_status(&self, name: &TenantName, status: &TenantStatus) -> Result<(), StoreError> {
        let statement = sqlx::query(PUT_STATUS)
            .bind(name.application.as_str())
            .bind(name.tenant.to_string())
            .bind(status.state.as_str())
            .bind(status.valid_until.as_microsecond())
            .bind(status.web_api_uri.as_ref().map(|uri| uri.as_str().to_owned()))
            .bind(&status.version)
            .bind(status.read_time.as_microsecond());
        self.file.execute(statement).await.map(drop)
    }

    async fn put_company_name(&self, name: &TenantName, company: &str) -> Result<(), StoreError> {
        let statement = sqlx::query(PUT_COMPANY_NAME)
            .bind(name.application.as_str())
            .bind(name.tenant.to_string())
            .bind(company);
        self.file.execute(statement).await.map(drop)
    }

    async fn delete(
        &self,
        name: &TenantName,
        expected_version: Option<i64>,
        force: bool,
    ) -> Result<Deletion, StoreError> {
        let tenant = name.tenant.to_string();
        let mut writer = self.file.writer().await?;
        let mut transaction = writer.begin().await?;
        let version: Option<i64> = sqlx::query_scalar(GET_VERSION)
            .bind(name.application.as_str())
            .bind(&tenant)
            .fetch_optional(&mut *transaction)
            .await?;
        let Some(version) = version else {
            return Ok(Deletion::NotFound);
        };
        if expected_version.is_some_and(|expected| expected != version) {
            return Err(StoreError::Conflict);
        }
        let has_grants: bool = sqlx::query_scalar(grants::HAS_GRANTS)
            .bind(name.application.as_str())
            .bind(&tenant)
            .fetch_one(&mut *transaction)
            .await?;
        if has_grants && !force {
            return Ok(Deletion::HasGrants);
        }
        for statement in [
            grants::REVOKE_ALL,
            grants::DELETE_ACCESS_TOKENS,
            grants::DELETE_REVOKED,
            consents::DELETE_OPEN_OF_TENANT,
        ] {
            tenant_statement(statement, name).execute(&mut *transaction).await?;
        }
        sqlx::query(DELETE)
            .bind(name.application.as_str())
            .bind(&tenant)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        // The tenant is deleted even if the WAL cannot be emptied now.
        let _ = writer.truncate_wal().await;
        Ok(Deletion::Deleted)
    }
}

impl SqliteStore {
    fn to_tenant(&self, record: Option<TenantRecord>) -> Result<Option<Tenant>, StoreError> {
        record.map(|record| record.into_tenant(&self.applications)).transpose()
    }
}
