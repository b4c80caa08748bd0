//! The audit trail.
//!
//! A group is one transaction on the writing connection: the head first, which is also the check that the group
//! follows it, then the events, many a statement. Every statement is a hand-over to the driver's thread, which costs
//! more than a row does.

mod record;
pub(super) mod statements;

use async_trait::async_trait;
use jiff::Timestamp;
use sqlx::{Sqlite, SqliteConnection, Transaction, sqlite::SqliteArguments};

use self::{
    record::{ChainRecord, EventRecord, KeyRecord, ListedRecord, PointRecord},
    statements::{
        CHAIN, CHAINS, DELETE_EVENTS, EVENTS, FOLLOW_HEAD, HASHES, INSERTS, KEEP_KEY, KEYS, NEWEST,
        NEWEST_AFTER, PRUNABLE, PUT_CHECKPOINT,
    },
};
use super::SqliteStore;
use crate::{
    domain::{AuditRow, ChainPoint, ChainState, SignedPoint},
    ports::{
        AuditGroup, AuditPosition, AuditStore, ChainedRow, KeptPublicKey, StoreError, TimeSpan,
    },
};

#[async_trait]
impl AuditStore for SqliteStore {
    async fn append(&self, group: &AuditGroup) -> Result<(), StoreError> {
        let mut writer = self.file.writer().await?;
        let mut transaction = writer.begin().await?;
        let Some(chain_id) = follow_head(&mut transaction, group).await? else {
            transaction.rollback().await?;
            return self.kept_already(group).await;
        };
        insert(&mut transaction, chain_id, &group.rows).await?;
        Ok(transaction.commit().await?)
    }

    async fn chains(&self) -> Result<Vec<ChainState>, StoreError> {
        let records: Vec<ChainRecord> =
            sqlx::query_as(CHAINS).fetch_all(self.file.readers()).await?;
        Ok(records.into_iter().map(ChainRecord::into_state).collect())
    }

    async fn chain(&self, chain: &str) -> Result<Option<ChainState>, StoreError> {
        let record: Option<ChainRecord> =
            sqlx::query_as(CHAIN).bind(chain).fetch_optional(self.file.readers()).await?;
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
            .fetch_all(self.file.readers())
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
        let records: Vec<ListedRecord> = query.fetch_all(self.file.readers()).await?;
        Ok(records.into_iter().map(ListedRecord::into_row).collect())
    }

    async fn prunable(
        &self,
        chain: &str,
        before: Timestamp,
        limit: u32,
    ) -> Result<Option<ChainPoint>, StoreError> {
        let record: Option<PointRecord> = sqlx::query_as(PRUNABLE)
            .bind(chain)
            .bind(before.as_microsecond())
            .bind(limit)
            .fetch_optional(self.file.readers())
            .await?;
        Ok(record.map(|record| record.into_point(chain)))
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

    async fn public_keys(&self) -> Result<Vec<KeptPublicKey>, StoreError> {
        let records: Vec<KeyRecord> = sqlx::query_as(KEYS).fetch_all(self.file.readers()).await?;
        Ok(records.into_iter().map(KeyRecord::into_key).collect())
    }

    async fn keep_public_key(&self, key: &KeptPublicKey) -> Result<(), StoreError> {
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
            .fetch_all(self.file.readers())
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

/// Moves the head on and gives the chain's number; `None` if the group does not follow it.
async fn follow_head(
    transaction: &mut Transaction<'_, Sqlite>,
    group: &AuditGroup,
) -> Result<Option<i64>, StoreError> {
    let SignedPoint { point, signature } = &group.head;
    let chain_id = sqlx::query_scalar(FOLLOW_HEAD)
        .bind(&*point.chain)
        .bind(point.sequence)
        .bind(&point.hash[..])
        .bind(point.time.as_microsecond())
        .bind(&*signature.key_id)
        .bind(&signature.bytes)
        .bind(group.first_sequence())
        .fetch_optional(&mut **transaction)
        .await?;
    Ok(chain_id)
}

/// In as few statements as there are bits in the number of rows, because each size is a statement to prepare once.
async fn insert(
    connection: &mut SqliteConnection,
    chain_id: i64,
    mut rows: &[AuditRow],
) -> Result<(), StoreError> {
    for (size, statement) in INSERTS.iter() {
        while let Some((chunk, rest)) = rows.split_at_checked(*size) {
            let mut query = sqlx::query::<Sqlite>(statement.as_str());
            for row in chunk {
                query = bind(query, chain_id, row);
            }
            query.execute(&mut *connection).await?;
            rows = rest;
        }
    }
    Ok(())
}

type Query<'q> = sqlx::query::Query<'q, Sqlite, SqliteArguments>;

fn bind<'q>(query: Query<'q>, chain_id: i64, row: &'q AuditRow) -> Query<'q> {
    query
        .bind(chain_id)
        .bind(row.sequence)
        .bind(row.time.as_microsecond())
        .bind(&row.hash[..])
        .bind(&row.body)
}

#[cfg(test)]
mod tests;
