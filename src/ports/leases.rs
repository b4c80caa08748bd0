//! Leases: mutual exclusion between all replicas.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use super::StoreError;

/// The exclusive right to work on a resource until the lease expires or is released.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The name of the resource.
    pub key: String,
    /// The holder of the lease.
    pub owner: String,
    /// The fencing number: higher than that of any earlier lease of any key. A write with the number of a lease that is
    /// no longer current is rejected.
    pub fence: i64,
    /// The expiry of the previous lease, if its holder never released it. The work of that holder may still be running:
    /// wait until it must have timed out.
    pub previous_expire_time: Option<Timestamp>,
}

/// A stored lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldLease {
    /// The fencing number.
    pub fence: i64,
    /// The expiry, by the wall clock of the holder.
    pub expire_time: Timestamp,
}

/// Grants leases.
#[async_trait]
pub trait LeaseStore: Send + Sync + 'static {
    /// Acquires the lease of `key` for `life` from `now`. Returns `None` while it is held, even by the same owner: two
    /// tasks of one process exclude each other.
    async fn acquire(
        &self,
        key: &str,
        owner: &str,
        life: Duration,
        now: Timestamp,
    ) -> Result<Option<Lease>, StoreError>;

    /// Reads the current lease of `key`, whoever holds it.
    async fn current(&self, key: &str) -> Result<Option<HeldLease>, StoreError>;

    /// Takes the unexpired lease of `key` from a holder that no longer runs. Returns `None` unless the current lease is
    /// still exactly `seen`.
    async fn take_over(
        &self,
        key: &str,
        owner: &str,
        seen: HeldLease,
        life: Duration,
        now: Timestamp,
    ) -> Result<Option<Lease>, StoreError>;

    /// Extends the lease to `life` from `now`. Returns `false` if another holder has acquired it since; an expired
    /// lease that nobody acquired can still be renewed.
    async fn renew(
        &self,
        lease: &Lease,
        life: Duration,
        now: Timestamp,
    ) -> Result<bool, StoreError>;

    /// Releases the lease. Does nothing if another holder has it.
    async fn release(&self, lease: &Lease) -> Result<(), StoreError>;
}
