//! Rate limits of callers, and of refused calls.
//!
//! Token buckets: one for each caller, one for each caller in each tenant, and one for the refusals of each source. The
//! last makes guessing slow: while a source's bucket is empty, only credentials that were verified before are accepted
//! from it. A caller that was verified from that source in the last hour has a reserve of its own, so that its new
//! tokens are still verified during a flood.

mod buckets;

use std::{
    hash::{BuildHasher as _, RandomState},
    net::IpAddr,
    num::NonZeroU32,
    sync::Arc,
    time::Duration,
};

use quick_cache::sync::Cache;

use self::buckets::Buckets;
pub use self::buckets::Rate;
use super::Caller;
use crate::{
    domain::{TenantName, client_network},
    ports::Clock,
};

/// Maximum number of cached pairs of verified caller and source address.
const MAX_VERIFIED: usize = 65_536;

/// Time for which a caller stays cached as verified.
const VERIFIED_FOR: Duration = Duration::from_hours(1);

/// Rate at which tokens of one such caller are verified while the bucket of its source is empty.
const RESERVE: Rate =
    Rate { per_second: NonZeroU32::MIN, burst: NonZeroU32::MIN.saturating_add(4) };

/// The configured rate limits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QuotaRules {
    /// The limit for the calls of one caller; `None` means no limit.
    pub per_caller: Option<Rate>,
    /// The limit for the calls of one caller in one tenant; `None` means no limit.
    pub per_caller_and_tenant: Option<Rate>,
    /// The limit for refused (unauthenticated or denied) calls of one source; `None` means no limit.
    pub refused_per_source: Option<Rate>,
}

/// The quota that a call exceeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuotaKind {
    /// The calls of the caller.
    Caller,
    /// The calls of the caller in this tenant.
    CallerAndTenant,
    /// The refused calls of the source.
    Refused,
}

impl QuotaKind {
    /// Returns the configuration key that sets the quota.
    #[must_use]
    pub fn config_key(self) -> &'static str {
        match self {
            Self::Caller => "quotas.per_caller",
            Self::CallerAndTenant => "quotas.per_caller_and_tenant",
            Self::Refused => "quotas.refused_per_source",
        }
    }

    /// Returns whose calls are counted, as the subject in `google.rpc.QuotaFailure`.
    #[must_use]
    pub fn subject(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::CallerAndTenant => "caller and tenant",
            Self::Refused => "source of refused calls",
        }
    }
}

/// A call exceeds a quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("over {}", quota.config_key())]
pub struct OverQuota {
    /// The exceeded quota.
    pub quota: QuotaKind,
    /// The time to wait before the next call.
    pub retry_after: Duration,
}

/// The source whose refused calls are counted.
#[derive(Debug, Clone, Copy)]
pub(super) enum Source<'a> {
    /// The client's address, before the caller is authenticated.
    Address(IpAddr),
    /// An authenticated caller.
    Caller(&'a Caller),
}

/// All quotas.
pub(super) struct Quotas {
    caller: Option<Buckets>,
    caller_and_tenant: Option<Buckets>,
    refused: Option<Buckets>,
    reserve: Buckets,
    /// The time (monotonic clock) when a caller was last verified from an address.
    verified: Cache<u64, Duration>,
    clock: Arc<dyn Clock>,
    hasher: RandomState,
}

impl Quotas {
    pub(super) fn new(rules: QuotaRules, clock: &Arc<dyn Clock>) -> Self {
        let buckets = |rate: Rate| Buckets::new(rate, Arc::clone(clock));
        Self {
            caller: rules.per_caller.map(buckets),
            caller_and_tenant: rules.per_caller_and_tenant.map(buckets),
            refused: rules.refused_per_source.map(buckets),
            reserve: buckets(RESERVE),
            verified: Cache::new(MAX_VERIFIED),
            clock: Arc::clone(clock),
            hasher: RandomState::new(),
        }
    }

    /// Counts a call against the caller's quota.
    pub(super) fn count_call(&self, caller: &Caller) -> Result<(), OverQuota> {
        let Some(buckets) = &self.caller else { return Ok(()) };
        let quota = QuotaKind::Caller;
        let taken = buckets.take(self.hasher.hash_one(caller.identity_hash()));
        taken.map_err(|retry_after| OverQuota { quota, retry_after })
    }

    /// Counts a call against the quota of caller and tenant.
    pub(super) fn count_tenant_call(
        &self,
        caller: &Caller,
        tenant: &TenantName,
    ) -> Result<(), OverQuota> {
        let Some(buckets) = &self.caller_and_tenant else { return Ok(()) };
        let quota = QuotaKind::CallerAndTenant;
        let taken = buckets.take(self.hasher.hash_one((caller.identity_hash(), tenant)));
        taken.map_err(|retry_after| OverQuota { quota, retry_after })
    }

    /// Starts an attempt that may be refused. It counts as refused until it is refunded, so that concurrent ones count.
    ///
    /// # Errors
    /// Returns an error if the source must wait after too many refusals.
    pub(super) fn attempt(&self, source: Source<'_>) -> Result<Attempt<'_>, OverQuota> {
        let Some(refused) = &self.refused else { return Ok(Attempt::default()) };
        let key = self.key(source);
        match refused.take(key) {
            Ok(()) => Ok(Attempt { source: Some((refused, key)), reserve: None }),
            Err(retry_after) => Err(OverQuota { quota: QuotaKind::Refused, retry_after }),
        }
    }

    /// Counts a refusal of a call of this caller.
    pub(super) fn count_refusal(&self, caller: &Caller) {
        // An attempt that is not refunded counts as refused. Without a permit left, nothing more can be counted.
        let _ = self.attempt(Source::Caller(caller));
    }

    /// Starts an attempt that uses the reserve of a caller that was verified from this address. The credential only
    /// claims to be of that caller. The attempt takes a permit from the reserve and, on credit, from the source: a false
    /// claim uses up only the reserve of the claimed caller, and the source is still limited to its rate of refusals.
    pub(super) fn attempt_from_reserve(&self, from: IpAddr, claim: &[u8]) -> Option<Attempt<'_>> {
        let key = self.claim_key(from, claim);
        let since = self.clock.monotonic().saturating_sub(self.verified.get(&key)?);
        if since >= VERIFIED_FOR {
            return None;
        }
        self.reserve.take(key).ok()?;
        let mut attempt = Attempt { source: None, reserve: Some((&self.reserve, key)) };
        if let Some(refused) = &self.refused {
            let source = self.key(Source::Address(from));
            if refused.overdraw(source).is_err() {
                attempt.refund();
                return None;
            }
            attempt.source = Some((refused, source));
        }
        Some(attempt)
    }

    /// Records that a caller was verified from this address.
    pub(super) fn record_verified(&self, from: IpAddr, claim: &[u8]) {
        self.verified.insert(self.claim_key(from, claim), self.clock.monotonic());
    }

    fn claim_key(&self, from: IpAddr, claim: &[u8]) -> u64 {
        self.hasher.hash_one((client_network(from), claim))
    }

    fn key(&self, source: Source<'_>) -> u64 {
        match source {
            Source::Caller(caller) => self.hasher.hash_one(caller.identity_hash()),
            Source::Address(address) => self.hasher.hash_one(client_network(address)),
        }
    }
}

/// An attempt that counts as a refusal unless it is refunded.
#[derive(Default)]
pub(super) struct Attempt<'a> {
    /// The buckets that gave a permit, with the key of each.
    source: Option<(&'a Buckets, u64)>,
    reserve: Option<(&'a Buckets, u64)>,
}

impl Attempt<'_> {
    /// Returns the taken permits: the attempt was not refused, or was refused through no fault of the client.
    pub(super) fn refund(self) {
        for (buckets, key) in self.source.into_iter().chain(self.reserve) {
            buckets.give_back(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::ports::ManualClock;

    fn rate(per_second: u32, burst: u32) -> Rate {
        let number = |n| NonZeroU32::new(n).unwrap();
        Rate { per_second: number(per_second), burst: number(burst) }
    }

    fn quotas(
        per_caller: Option<Rate>,
        per_caller_and_tenant: Option<Rate>,
        refused_per_source: Option<Rate>,
    ) -> (Quotas, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
        let rules = QuotaRules { per_caller, per_caller_and_tenant, refused_per_source };
        (Quotas::new(rules, &(clock.clone() as Arc<dyn Clock>)), clock)
    }

    #[test]
    fn limits_each_caller_separately() {
        let (quotas, clock) = quotas(Some(rate(2, 3)), None, None);
        let (one, other) = (Caller::command_line("one"), Caller::command_line("other"));
        for _ in 0..3 {
            quotas.count_call(&one).unwrap();
        }
        let over = quotas.count_call(&one).unwrap_err();
        assert_eq!(over.quota, QuotaKind::Caller);
        assert_eq!(over.retry_after, Duration::from_millis(500));
        quotas.count_call(&other).unwrap();
        clock.advance(over.retry_after);
        quotas.count_call(&one).unwrap();
        quotas.count_call(&one).unwrap_err();
    }

    #[test]
    fn limits_each_tenant_separately() {
        let (quotas, _) = quotas(None, Some(rate(1, 1)), None);
        let caller = Caller::command_line("one");
        let name = |tenant: &str| format!("applications/a/tenants/{tenant}").parse().unwrap();
        quotas.count_tenant_call(&caller, &name("Cust1")).unwrap();
        quotas.count_tenant_call(&caller, &name("Cust1")).unwrap_err();
        quotas.count_tenant_call(&caller, &name("Cust2")).unwrap();
        quotas.count_call(&caller).unwrap();
    }

    #[test]
    fn limits_refusals_of_each_source_separately() {
        let (quotas, clock) = quotas(None, None, Some(rate(50, 200)));
        let [bad, neighbour, site, same_site, mapped] =
            ["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::ffff:1", "::ffff:192.0.2.1"]
                .map(|address| Source::Address(address.parse().unwrap()));
        for _ in 0..200 {
            let _ = quotas.attempt(bad).unwrap();
            let _ = quotas.attempt(site).unwrap();
        }
        let over = quotas.attempt(bad).err().unwrap();
        assert_eq!(over.quota, QuotaKind::Refused);
        assert_eq!(over.retry_after, Duration::from_millis(20));
        assert!(quotas.attempt(mapped).is_err());
        assert!(quotas.attempt(same_site).is_err());
        assert!(quotas.attempt(neighbour).is_ok());
        clock.advance(over.retry_after);
        assert!(quotas.attempt(bad).is_ok());
        assert!(quotas.attempt(bad).is_err());
    }

    #[test]
    fn a_flood_gets_exactly_its_rate_of_refusals() {
        let (quotas, clock) = quotas(None, None, Some(rate(50, 200)));
        let source = Source::Address("192.0.2.1".parse().unwrap());
        let mut admitted = 0;
        // A flood of ten seconds with ten attempts each millisecond.
        for _ in 0..10_000 {
            for _ in 0..10 {
                admitted += u32::from(quotas.attempt(source).map(drop).is_ok());
            }
            clock.advance(Duration::from_millis(1));
        }
        assert_eq!(admitted, 200 + 50 * 10 - 1, "burst, and one each 20 ms after the first");
    }

    #[test]
    fn open_attempts_count_and_refunded_attempts_do_not() {
        let (quotas, _) = quotas(None, None, Some(rate(1, 3)));
        let source = Source::Address("192.0.2.1".parse().unwrap());
        for _ in 0..100 {
            quotas.attempt(source).unwrap().refund();
        }
        let open: Vec<_> = (0..3).map(|_| quotas.attempt(source).unwrap()).collect();
        assert!(quotas.attempt(source).is_err());
        for attempt in open {
            attempt.refund();
        }
        assert!(quotas.attempt(source).is_ok());
    }

    #[test]
    fn a_verified_caller_has_a_reserve_that_only_claims_of_its_own_name_use() {
        let (quotas, clock) = quotas(None, None, Some(rate(50, 200)));
        let (here, elsewhere) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        for caller in [b"sync", b"mail"] {
            quotas.record_verified(here, caller);
        }
        let flood = || while quotas.attempt(Source::Address(here)).is_ok() {};
        flood();
        assert!(quotas.attempt_from_reserve(here, b"unknown").is_none());
        assert!(quotas.attempt_from_reserve(elsewhere, b"sync").is_none());
        // An attacker claims to be one of the verified callers.
        for _ in 0..5 {
            assert!(quotas.attempt_from_reserve(here, b"sync").is_some());
        }
        assert!(quotas.attempt_from_reserve(here, b"sync").is_none());
        quotas.attempt_from_reserve(here, b"mail").unwrap().refund();
        // The permits that the claims took on credit are not available to the flood.
        clock.advance(Duration::from_millis(100));
        assert!(quotas.attempt(Source::Address(here)).is_err());
        clock.advance(Duration::from_secs(1));
        assert!(quotas.attempt_from_reserve(here, b"sync").is_some());
        clock.advance(VERIFIED_FOR);
        flood();
        assert!(quotas.attempt_from_reserve(here, b"mail").is_none());
    }
}
