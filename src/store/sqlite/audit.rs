//! The audit trail.
//!
//! A group is one statement on the writing connection: the head first, which is also the check that the group
//! follows it, then the events. So it is one hand-over to the driver's thread, which costs more than a row does.

mod record;
pub(super) mod statements;

use std::fmt::Write as _;

use async_trait::async_trait;

use self::{
    record::{ChainRecord, EventRecord, KeyRecord, ListedRecord},
    statements::{
        APPEND, CHAIN, CHAINS, DELETE_EVENTS, EVENTS, HASHES, KEEP_KEY, KEYS, NEWEST, NEWEST_AFTER,
        PREPARE_APPEND, PUT_CHECKPOINT,
    },
};
use super::SqliteStore;
use crate::{
    domain::{AuditRow, ChainState, SignedPoint},
    ports::{
        AuditGroup, AuditPosition, AuditStore, ChainedRow, StoreError, StoredPublicKey, TimeSpan,
    },
};

#[async_trait]
impl AuditStore for SqliteStore {
    async fn append(&self, group: &AuditGroup) -> Result<(), StoreError> {
        let SignedPoint { point, signature } = &group.head;
        let (index, bytes) = packed(&group.rows);
        let append = sqlx::query(APPEND)
            .bind(&*point.chain)
            .bind(point.sequence)
            .bind(&point.hash[..])
            .bind(point.time.as_microsecond())
            .bind(&*signature.key_id)
            .bind(&signature.bytes)
            .bind(group.first_sequence())
            .bind(index)
            .bind(bytes);
        let mut writer = self.file.writer().await?;
        let followed = writer.execute_single(append, PREPARE_APPEND).await?;
        drop(writer);
        if followed { Ok(()) } else { self.kept_already(group).await }
    }

    async fn chains(&self) -> Result<Vec<ChainState>, StoreError> {
        let records: Vec<ChainRecord> =
            sqlx::query_as(CHAINS).fetch_all(self.file.readers()?).await?;
        Ok(records.into_iter().map(ChainRecord::into_state).collect())
    }

    async fn chain(&self, chain: &str) -> Result<Option<ChainState>, StoreError> {
        let record: Option<ChainRecord> =
            sqlx::query_as(CHAIN).bind(chain).fetch_optional(self.file.readers()?).await?;
        Ok(record.map(ChainRecord::into_state))
    }

    async fn events(
        &self,
        chain: &str,
        after: i64,
        limit: u32,
    ) -> Result<Vec<AuditRow>, StoreError> {
        let records: Vec<EventRecord> = sqlx::query_as(EVENTS)
            .bind(chain)
            .bind(after)
            .bind(limit)
            .fetch_all(self.file.readers()?)
            .await?;
        Ok(records.into_iter().map(EventRecord::into_row).collect())
    }

    async fn newest_events(
        &self,
        span: TimeSpan,
        after: Option<&AuditPosition>,
        limit: u32,
    ) -> Result<Vec<ChainedRow>, StoreError> {
        let (from, to) = (span.from.as_microsecond(), span.to.as_microsecond());
        let query = match after {
            None => sqlx::query_as(NEWEST).bind(from).bind(to).bind(limit),
            Some(position) => sqlx::query_as(NEWEST_AFTER)
                .bind(from)
                .bind(to)
                .bind(limit)
                .bind(position.time.as_microsecond())
                .bind(&*position.chain)
                .bind(position.sequence),
        };
        let records: Vec<ListedRecord> = query.fetch_all(self.file.readers()?).await?;
        Ok(records.into_iter().map(ListedRecord::into_row).collect())
    }

    async fn prune(&self, checkpoint: &SignedPoint) -> Result<(), StoreError> {
        let SignedPoint { point, signature } = checkpoint;
        let mut writer = self.file.writer().await?;
        let mut transaction = writer.begin().await?;
        let chain_id: Option<i64> = sqlx::query_scalar(PUT_CHECKPOINT)
            .bind(&*point.chain)
            .bind(point.sequence)
            .bind(&point.hash[..])
            .bind(point.time.as_microsecond())
            .bind(&*signature.key_id)
            .bind(&signature.bytes)
            .fetch_optional(&mut *transaction)
            .await?;
        let Some(chain_id) = chain_id else {
            transaction.rollback().await?;
            return Err(StoreError::Conflict);
        };
        sqlx::query(DELETE_EVENTS)
            .bind(chain_id)
            .bind(point.sequence)
            .execute(&mut *transaction)
            .await?;
        Ok(transaction.commit().await?)
    }

    async fn public_keys(&self) -> Result<Vec<StoredPublicKey>, StoreError> {
        let records: Vec<KeyRecord> = sqlx::query_as(KEYS).fetch_all(self.file.readers()?).await?;
        Ok(records.into_iter().map(KeyRecord::into_key).collect())
    }

    async fn store_public_key(&self, key: &StoredPublicKey) -> Result<(), StoreError> {
        let mut writer = self.file.writer().await?;
        let mut transaction = writer.begin().await?;
        sqlx::query(KEEP_KEY)
            .bind(&key.key_id)
            .bind(&key.public_key)
            .bind(&*key.certificate.key_id)
            .bind(&key.certificate.bytes)
            .execute(&mut *transaction)
            .await?;
        Ok(transaction.commit().await?)
    }
}

impl SqliteStore {
    /// A group that does not follow the head is there already, or never will be.
    async fn kept_already(&self, group: &AuditGroup) -> Result<(), StoreError> {
        let kept: Vec<(i64, Vec<u8>)> = sqlx::query_as(HASHES)
            .bind(&*group.head.point.chain)
            .bind(group.first_sequence())
            .bind(group.head.point.sequence)
            .fetch_all(self.file.readers()?)
            .await?;
        let same = |(row, (sequence, hash)): (&AuditRow, &(i64, Vec<u8>))| {
            row.sequence == *sequence && row.hash[..] == hash[..]
        };
        if kept.len() == group.rows.len() && group.rows.iter().zip(&kept).all(same) {
            Ok(())
        } else {
            Err(StoreError::Conflict)
        }
    }
}

/// Sequence, time, place and length of each row as JSON; and the hash and the body of each, one behind the other.
fn packed(rows: &[AuditRow]) -> (String, Vec<u8>) {
    let size = rows.iter().map(|row| row.hash.len() + row.body.len()).sum();
    let mut bytes = Vec::with_capacity(size);
    let mut index = String::with_capacity(rows.len() * 40);
    for row in rows {
        let (sequence, time, length) = (row.sequence, row.time.as_microsecond(), row.body.len());
        // SQL counts from 1.
        let place = bytes.len() + 1;
        let separator = if index.is_empty() { '[' } else { ',' };
        // Cannot happen: writing to a string does not fail.
        let _ = write!(index, "{separator}[{sequence},{time},{place},{length}]");
        bytes.extend_from_slice(&row.hash);
        bytes.extend_from_slice(&row.body);
    }
    index.push(']');
    (index, bytes)
}

#[cfg(test)]
mod tests;
