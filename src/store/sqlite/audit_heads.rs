//! The newest known heads of audit chains.

use async_trait::async_trait;
use jiff::Timestamp;

use super::SqliteStore;
use crate::{
    domain::{AuditSignature, ChainPoint, NO_HASH, SignedPoint},
    ports::{AuditHeadStore, StoreError},
};

const PUT: &str = "INSERT INTO audit_heads (chain, sequence, hash, time, key_id, signature) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (chain) DO UPDATE SET \
     sequence = excluded.sequence, hash = excluded.hash, time = excluded.time, \
     key_id = excluded.key_id, signature = excluded.signature \
     WHERE audit_heads.sequence < excluded.sequence";
const LIST: &str = "SELECT chain, sequence, hash, time, key_id, signature FROM audit_heads \
     ORDER BY chain";

/// A row of `audit_heads`.
#[derive(sqlx::FromRow)]
struct HeadRecord {
    chain: String,
    sequence: i64,
    hash: Vec<u8>,
    time: i64,
    key_id: String,
    signature: Vec<u8>,
}

impl HeadRecord {
    /// Returns the head. Invalid columns become values that no signature covers, so one changed row hides no other.
    fn into_head(self) -> SignedPoint {
        let point = ChainPoint {
            chain: self.chain.into(),
            sequence: self.sequence,
            hash: self.hash.try_into().unwrap_or(NO_HASH),
            time: Timestamp::from_microsecond(self.time).unwrap_or(Timestamp::MIN),
        };
        let signature = AuditSignature { key_id: self.key_id.into(), bytes: self.signature };
        SignedPoint { point, signature }
    }
}

#[async_trait]
impl AuditHeadStore for SqliteStore {
    async fn put_head(&self, head: &SignedPoint) -> Result<(), StoreError> {
        let SignedPoint { point, signature } = head;
        let mut writer = self.file.writer().await?;
        let mut transaction = writer.begin().await?;
        sqlx::query(PUT)
            .bind(&*point.chain)
            .bind(point.sequence)
            .bind(&point.hash[..])
            .bind(point.time.as_microsecond())
            .bind(&*signature.key_id)
            .bind(&signature.bytes)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await
    }

    async fn heads(&self) -> Result<Vec<SignedPoint>, StoreError> {
        let records: Vec<HeadRecord> = sqlx::query_as(LIST).fetch_all(self.file.readers()?).await?;
        Ok(records.into_iter().map(HeadRecord::into_head).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::ports::StoreHealth as _;
    use crate::store::{
        SqliteFile,
        contract::{TestSealer, usual_applications},
    };

    fn head(chain: &str, sequence: i64) -> SignedPoint {
        let time = Timestamp::from_second(sequence).unwrap();
        let point = ChainPoint { chain: chain.into(), sequence, hash: [9; 32], time };
        let signature = AuditSignature { key_id: "k-1".into(), bytes: vec![7; 64] };
        SignedPoint { point, signature }
    }

    #[tokio::test]
    async fn keeps_the_newest_head_of_each_chain() {
        let folder = tempfile::tempdir().unwrap();
        let file = SqliteFile::open(&folder.path().join("gateway.db")).await.unwrap();
        let store = SqliteStore::new(file, Arc::new(TestSealer), usual_applications());
        for (chain, sequence) in [("serve-1", 3), ("cli", 1), ("serve-1", 5), ("serve-1", 4)] {
            store.put_head(&head(chain, sequence)).await.unwrap();
        }
        assert_eq!(store.heads().await.unwrap(), [head("cli", 1), head("serve-1", 5)]);
        store.close().await;
    }
}
