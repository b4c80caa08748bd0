//! One at a time, for all replicas.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use super::StoreError;

/// The right to be the only one that does something, until it expires or is given back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// What it is for: the name of a resource.
    pub key: String,
    /// Whose it is.
    pub owner: String,
    /// Higher than that of any lease before it, of whatever key. A write that carries the number of a lease that is
    /// no longer the present one is refused.
    pub fence: i64,
    /// When the former holder's lease expired that was never given back. What that one had begun may still be under
    /// way: wait until it must have timed out.
    pub took_over: Option<Timestamp>,
}

/// A lease that somebody has, as the store shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldLease {
    /// Its number.
    pub fence: i64,
    /// When it expires, by the wall clock of its holder.
    pub expire_time: Timestamp,
}

/// Gives out leases (DESIGN section 7, "Refresh tokens").
#[async_trait]
pub trait LeaseStore: Send + Sync + 'static {
    /// Takes the lease of `key` for so long from `now`. `None` while somebody holds it, be it the same owner: two
    /// tasks of one process are two.
    async fn acquire(
        &self,
        key: &str,
        owner: &str,
        life: Duration,
        now: Timestamp,
    ) -> Result<Option<Lease>, StoreError>;

    /// Reads the present lease of `key`, whoever has it.
    async fn present(&self, key: &str) -> Result<Option<HeldLease>, StoreError>;

    /// Takes the lease of `key` from a holder that must be gone, though its lease has not expired. `None` unless the
    /// present lease is still exactly `seen`.
    async fn take_over(
        &self,
        key: &str,
        owner: &str,
        seen: HeldLease,
        life: Duration,
        now: Timestamp,
    ) -> Result<Option<Lease>, StoreError>;

    /// Makes it last for so long from `now`. `false` if somebody else has taken it since; one that expired and that
    /// nobody took is still its holder's.
    async fn renew(
        &self,
        lease: &Lease,
        life: Duration,
        now: Timestamp,
    ) -> Result<bool, StoreError>;

    /// Gives it back. Does nothing if somebody else has it.
    async fn release(&self, lease: &Lease) -> Result<(), StoreError>;
}
