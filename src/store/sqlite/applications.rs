//! The environment and client id of each application id.

use async_trait::async_trait;

use super::SqliteStore;
use crate::{
    domain::{ApplicationId, Environment},
    ports::{ApplicationBinding, ApplicationStore, StoreError},
};

#[async_trait]
impl ApplicationStore for SqliteStore {
    async fn binding(&self, id: &ApplicationId) -> Result<Option<ApplicationBinding>, StoreError> {
        let row: Option<(String, String)> =
            sqlx::query_as("SELECT environment, client_id FROM applications WHERE id = ?1")
                .bind(id.as_str())
                .fetch_optional(self.file.readers()?)
                .await?;
        Ok(row.map(|(environment, client_id)| ApplicationBinding { environment, client_id }))
    }

    async fn bind(
        &self,
        id: &ApplicationId,
        environment: Environment,
        client_id: &str,
    ) -> Result<(), StoreError> {
        let mut writer = self.file.writer().await?;
        let mut transaction = writer.begin().await?;
        sqlx::query(
            "INSERT INTO applications (id, environment, client_id) VALUES (?1, ?2, ?3) \
             ON CONFLICT (id) DO UPDATE SET environment = excluded.environment, client_id = excluded.client_id",
        )
        .bind(id.as_str())
        .bind(environment.as_str())
        .bind(client_id)
        .execute(&mut *transaction)
        .await?;
        Ok(transaction.commit().await?)
    }
}
