//! The health of the store: its file, its version, and rows with future times.

use async_trait::async_trait;

use jiff::Timestamp;

use super::SqliteStore;
use crate::ports::{StoreError, StoreHealth};

const ANY_AFTER: &str = "SELECT EXISTS (SELECT 1 FROM tickets WHERE issue_time > ?1) \
     OR EXISTS (SELECT 1 FROM access_tokens WHERE issue_time > ?1) \
     OR EXISTS (SELECT 1 FROM tenants WHERE status_read_time > ?1)";
const DELETE_TICKETS_AFTER: &str = "DELETE FROM tickets WHERE issue_time > ?1";
const DELETE_TOKENS_AFTER: &str = "DELETE FROM access_tokens WHERE issue_time > ?1";
const FORGET_STATUSES_AFTER: &str = "UPDATE tenants SET status_state = NULL, \
     status_valid_until = NULL, status_web_api_uri = NULL, status_version = NULL, \
     status_read_time = NULL WHERE status_read_time > ?1";

#[async_trait]
impl StoreHealth for SqliteStore {
    fn check_file(&self) -> Result<(), StoreError> {
        self.file.check()
    }

    async fn check_writable(&self) -> Result<(), StoreError> {
        let mut writer = self.file.writer().await?;
        let mut transaction = writer.begin().await?;
        // Increments a counter, because SQLite does not write an unchanged page.
        sqlx::query("UPDATE write_probe SET count = count + 1 WHERE only_row = 1")
            .execute(&mut *transaction)
            .await?;
        Ok(transaction.commit().await?)
    }

    async fn external_version(&self) -> Result<i64, StoreError> {
        self.file.writer().await?.data_version().await
    }

    async fn delete_issued_after(&self, latest: Timestamp) -> Result<u64, StoreError> {
        let latest = latest.as_microsecond();
        // Usually there is nothing to delete, and this check does not block writers.
        let any: bool =
            sqlx::query_scalar(ANY_AFTER).bind(latest).fetch_one(self.file.readers()?).await?;
        if !any {
            return Ok(0);
        }
        let mut writer = self.file.writer().await?;
        let mut transaction = writer.begin().await?;
        let mut rows = 0;
        for statement in [DELETE_TICKETS_AFTER, DELETE_TOKENS_AFTER, FORGET_STATUSES_AFTER] {
            let done = sqlx::query(statement).bind(latest).execute(&mut *transaction).await?;
            rows += done.rows_affected();
        }
        transaction.commit().await?;
        Ok(rows)
    }

    async fn close(&self) {
        self.file.close().await;
    }
}
