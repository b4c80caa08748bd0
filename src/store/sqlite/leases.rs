//! Leases.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use sqlx::SqliteConnection;

use super::{SqliteStore, writer::Transaction};
use crate::{
    ports::{HeldLease, Lease, LeaseStore, StoreError},
    store::record::microseconds,
};

const PRESENT: &str = "SELECT fence, expire_time FROM leases WHERE key = ?1";
const NEXT_FENCE: &str =
    "UPDATE lease_fences SET last = last + 1 WHERE only_row = 1 RETURNING last";
const PUT: &str = "INSERT INTO leases (key, owner, fence, expire_time) VALUES (?1, ?2, ?3, ?4) \
     ON CONFLICT (key) DO UPDATE SET owner = excluded.owner, fence = excluded.fence, \
     expire_time = excluded.expire_time";
const RENEW: &str =
    "UPDATE leases SET expire_time = ?4 WHERE key = ?1 AND owner = ?2 AND fence = ?3";
const RELEASE: &str = "DELETE FROM leases WHERE key = ?1 AND owner = ?2 AND fence = ?3";
const HELD: &str =
    "SELECT EXISTS (SELECT 1 FROM leases WHERE key = ?1 AND owner = ?2 AND fence = ?3)";

#[async_trait]
impl LeaseStore for SqliteStore {
    async fn acquire(
        &self,
        key: &str,
        owner: &str,
        life: Duration,
        now: Timestamp,
    ) -> Result<Option<Lease>, StoreError> {
        let mut writer = self.file.writer().await?;
        let mut transaction = writer.begin().await?;
        let former: Option<(i64, i64)> =
            sqlx::query_as(PRESENT).bind(key).fetch_optional(&mut *transaction).await?;
        if former.is_some_and(|(_, end)| now.as_microsecond() < end) {
            return Ok(None);
        }
        let fence = put(&mut transaction, key, owner, life, now).await?;
        transaction.commit().await?;
        let previous_expire_time = former.map(|(_, end)| time(end, key)).transpose()?;
        Ok(Some(Lease {
            key: key.to_owned(),
            owner: owner.to_owned(),
            fence,
            previous_expire_time,
        }))
    }

    async fn current(&self, key: &str) -> Result<Option<HeldLease>, StoreError> {
        let present: Option<(i64, i64)> =
            sqlx::query_as(PRESENT).bind(key).fetch_optional(self.file.readers()?).await?;
        let held = |(fence, end)| Ok(HeldLease { fence, expire_time: time(end, key)? });
        present.map(held).transpose()
    }

    async fn take_over(
        &self,
        key: &str,
        owner: &str,
        seen: HeldLease,
        life: Duration,
        now: Timestamp,
    ) -> Result<Option<Lease>, StoreError> {
        let mut writer = self.file.writer().await?;
        let mut transaction = writer.begin().await?;
        let present: Option<(i64, i64)> =
            sqlx::query_as(PRESENT).bind(key).fetch_optional(&mut *transaction).await?;
        if present != Some((seen.fence, seen.expire_time.as_microsecond())) {
            return Ok(None);
        }
        let fence = put(&mut transaction, key, owner, life, now).await?;
        transaction.commit().await?;
        let previous_expire_time = Some(seen.expire_time);
        Ok(Some(Lease {
            key: key.to_owned(),
            owner: owner.to_owned(),
            fence,
            previous_expire_time,
        }))
    }

    async fn renew(
        &self,
        lease: &Lease,
        life: Duration,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let mut writer = self.file.writer().await?;
        let mut transaction = writer.begin().await?;
        let done = sqlx::query(RENEW)
            .bind(&lease.key)
            .bind(&lease.owner)
            .bind(lease.fence)
            .bind(expire_micros(life, now))
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(done.rows_affected() == 1)
    }

    async fn release(&self, lease: &Lease) -> Result<(), StoreError> {
        let mut writer = self.file.writer().await?;
        let mut transaction = writer.begin().await?;
        sqlx::query(RELEASE)
            .bind(&lease.key)
            .bind(&lease.owner)
            .bind(lease.fence)
            .execute(&mut *transaction)
            .await?;
        Ok(transaction.commit().await?)
    }
}

/// Writes a new lease, and returns its fence.
async fn put(
    transaction: &mut Transaction<'_>,
    key: &str,
    owner: &str,
    life: Duration,
    now: Timestamp,
) -> Result<i64, StoreError> {
    let fence: i64 = sqlx::query_scalar(NEXT_FENCE).fetch_one(&mut **transaction).await?;
    sqlx::query(PUT)
        .bind(key)
        .bind(owner)
        .bind(fence)
        .bind(expire_micros(life, now))
        .execute(&mut **transaction)
        .await?;
    Ok(fence)
}

fn time(end: i64, key: &str) -> Result<Timestamp, StoreError> {
    microseconds(end, "expire_time", &format_args!("the lease of {key}"))
}

/// Returns whether `lease` is the current one of `key`. An expired lease that was not taken over still counts, because
/// no other holder can have written yet.
pub(super) async fn is_held(
    connection: &mut SqliteConnection,
    key: &str,
    lease: &Lease,
) -> Result<bool, StoreError> {
    let held = sqlx::query_scalar(HELD)
        .bind(key)
        .bind(&lease.owner)
        .bind(lease.fence)
        .fetch_one(connection)
        .await?;
    Ok(held)
}

fn expire_micros(life: Duration, now: Timestamp) -> i64 {
    now.saturating_add(life).unwrap_or(Timestamp::MAX).as_microsecond()
}
