//! The file's own state.

use async_trait::async_trait;

use super::SqliteStore;
use crate::ports::{StoreError, StoreWatch};

#[async_trait]
impl StoreWatch for SqliteStore {
    fn check_file(&self) -> Result<(), StoreError> {
        self.file.check()
    }

    async fn writable(&self) -> Result<(), StoreError> {
        let mut writer = self.file.writer().await?;
        let mut transaction = writer.begin().await?;
        // Counts, because SQLite does not write a page that stays the same.
        sqlx::query("UPDATE write_probe SET count = count + 1 WHERE only_row = 1")
            .execute(&mut *transaction)
            .await?;
        Ok(transaction.commit().await?)
    }

    async fn external_version(&self) -> Result<i64, StoreError> {
        self.file.writer().await?.data_version().await
    }

    async fn close(&self) {
        self.file.close().await;
    }
}
