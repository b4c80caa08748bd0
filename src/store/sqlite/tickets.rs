//! Tickets.

use async_trait::async_trait;
use jiff::Timestamp;

use super::SqliteStore;
use crate::{
    domain::{CredentialId, SystemTicket, TenantName},
    ports::{StoreError, TicketStore},
    store::{record::TicketRecord, sealing::TICKET},
};

const GET: &str = "SELECT value, credential_id, issue_time, expire_time, token_version FROM tickets \
     WHERE application = ?1 AND tenant = ?2";
const PUT: &str = "INSERT INTO tickets \
     (application, tenant, value, credential_id, issue_time, expire_time, token_version) \
     SELECT application, tenant, ?3, ?4, ?5, ?6, token_version FROM tenants \
     WHERE application = ?1 AND tenant = ?2 AND token_version = ?7 \
     ON CONFLICT (application, tenant) DO UPDATE SET value = excluded.value, \
     credential_id = excluded.credential_id, issue_time = excluded.issue_time, \
     expire_time = excluded.expire_time, token_version = excluded.token_version";
/// Keeps the later time, because two uses may be recorded in the wrong order.
const EXTEND: &str = "UPDATE tickets SET expire_time = max(expire_time, ?4) \
     WHERE application = ?1 AND tenant = ?2 AND credential_id = ?3";
const DELETE: &str =
    "DELETE FROM tickets WHERE application = ?1 AND tenant = ?2 AND credential_id = ?3";

#[async_trait]
impl TicketStore for SqliteStore {
    async fn get(&self, name: &TenantName) -> Result<Option<SystemTicket>, StoreError> {
        let record: Option<TicketRecord> = sqlx::query_as(GET)
            .bind(name.application.as_str())
            .bind(name.tenant.to_string())
            .fetch_optional(self.file.readers()?)
            .await?;
        let Some(record) = record else {
            return Ok(None);
        };
        let environment = self.environment(&name.application).await?;
        let value = self.sealing.open(TICKET, &environment, name, &record.value)?;
        record.into_ticket(value, name).map(Some)
    }

    async fn put(&self, name: &TenantName, ticket: &SystemTicket) -> Result<bool, StoreError> {
        let environment = self.environment(&name.application).await?;
        let sealed = self.sealing.seal(TICKET, &environment, name, &ticket.value)?;
        let statement = sqlx::query(PUT)
            .bind(name.application.as_str())
            .bind(name.tenant.to_string())
            .bind(sealed)
            .bind(ticket.credential_id.as_str())
            .bind(ticket.issue_time.as_microsecond())
            .bind(ticket.expire_time.as_microsecond())
            .bind(ticket.token_version);
        Ok(self.file.execute(statement).await? == 1)
    }

    async fn extend(
        &self,
        name: &TenantName,
        credential_id: &CredentialId,
        expire_time: Timestamp,
    ) -> Result<(), StoreError> {
        let statement = sqlx::query(EXTEND)
            .bind(name.application.as_str())
            .bind(name.tenant.to_string())
            .bind(credential_id.as_str())
            .bind(expire_time.as_microsecond());
        self.file.execute(statement).await.map(drop)
    }

    async fn delete(
        &self,
        name: &TenantName,
        credential_id: &CredentialId,
    ) -> Result<(), StoreError> {
        let mut writer = self.file.writer().await?;
        let mut transaction = writer.begin().await?;
        sqlx::query(DELETE)
            .bind(name.application.as_str())
            .bind(name.tenant.to_string())
            .bind(credential_id.as_str())
            .execute(&mut *transaction)
            .await?;
        Ok(transaction.commit().await?)
    }
}
