//! Used notifications.

use async_trait::async_trait;
use jiff::Timestamp;

use super::SqliteStore;
use crate::ports::{NotificationStore, StoreError};

/// The maximum number of stored notifications. SuperOffice signs each; it is deleted when its token expires.
const LIMIT: i64 = 100_000;

const DELETE_EXPIRED: &str = "DELETE FROM used_notifications WHERE expire_time <= ?1";
const COUNT: &str = "SELECT count(*) FROM used_notifications";
const USE: &str = "INSERT INTO used_notifications (digest, expire_time) VALUES (?1, ?2) \
     ON CONFLICT DO NOTHING";
const IS_USED: &str =
    "SELECT EXISTS (SELECT 1 FROM used_notifications WHERE digest = ?1 AND expire_time > ?2)";

#[async_trait]
impl NotificationStore for SqliteStore {
    async fn mark_used(
        &self,
        digest: &[u8; 32],
        expire_time: Timestamp,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let mut writer = self.file.writer().await?;
        let mut transaction = writer.begin().await?;
        sqlx::query(DELETE_EXPIRED).bind(now.as_microsecond()).execute(&mut *transaction).await?;
        let count: i64 = sqlx::query_scalar(COUNT).fetch_one(&mut *transaction).await?;
        if count >= LIMIT {
            return Err(StoreError::Unavailable("too many notifications are stored".to_owned()));
        }
        let done = sqlx::query(USE)
            .bind(digest.as_slice())
            .bind(expire_time.as_microsecond())
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(done.rows_affected() == 1)
    }

    async fn is_used(&self, digest: &[u8; 32], now: Timestamp) -> Result<bool, StoreError> {
        let used = sqlx::query_scalar(IS_USED)
            .bind(digest.as_slice())
            .bind(now.as_microsecond())
            .fetch_one(self.file.readers()?)
            .await?;
        Ok(used)
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::*;
    use crate::store::{
        SqliteFile,
        contract::{TestSealer, usual_applications},
    };

    #[tokio::test]
    async fn accepts_a_notification_once_even_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let open = async || {
            let file = SqliteFile::open(&folder.path().join("gateway.db")).await.unwrap();
            SqliteStore::new(file, Arc::new(TestSealer), usual_applications())
        };
        let (now, minute) = (Timestamp::UNIX_EPOCH, Duration::from_mins(1));
        let store = open().await;
        assert!(store.mark_used(&[1; 32], now + 5 * minute, now).await.unwrap());
        assert!(!store.mark_used(&[1; 32], now + 5 * minute, now).await.unwrap());
        assert!(store.is_used(&[1; 32], now).await.unwrap());
        assert!(!store.is_used(&[2; 32], now).await.unwrap());
        store.file().close().await;
        let store = open().await;
        assert!(store.is_used(&[1; 32], now + minute).await.unwrap());
        assert!(!store.is_used(&[1; 32], now + 5 * minute).await.unwrap());
        assert!(!store.mark_used(&[1; 32], now + 5 * minute, now + minute).await.unwrap());
        assert!(store.mark_used(&[2; 32], now + 5 * minute, now + minute).await.unwrap());
        assert!(store.mark_used(&[1; 32], now + 9 * minute, now + 5 * minute).await.unwrap());
    }
}
