//! How often callers may call, and how often they may be refused.
//!
//! Token buckets: one for each caller, one for each caller in each tenant, and one for the refusals of each source. The
//! last makes guessing slow: while the bucket of a source is empty, only credentials that were verified before are
//! accepted from there. Callers that were verified from there in the last hour have a reserve of their own, so that
//! their new tokens are still verified during a flood.

mod buckets;

use std::{
    hash::{BuildHasher as _, Hash, RandomState},
    net::IpAddr,
    num::NonZeroU32,
    sync::Arc,
    time::Duration,
};

use quick_cache::sync::Cache;

use self::buckets::Buckets;
use super::Caller;
use crate::{
    domain::{TenantName, site},
    ports::Clock,
};

/// Callers that are remembered as verified, each with the address that it called from.
const MAX_VERIFIED: usize = 65_536;

/// How long a caller is remembered as verified.
const VERIFIED_FOR: Duration = Duration::from_hours(1);

/// The tokens of one such caller that are verified although the bucket of its source is empty.
const RESERVE: Rate =
    Rate { per_second: NonZeroU32::MIN, burst: NonZeroU32::MIN.saturating_add(4) };

/// A rate: so many a second over time, and `burst` at once after a pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Over time.
    pub per_second: NonZeroU32,
    /// At once.
    pub burst: NonZeroU32,
}

/// The configurable part.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QuotaRules {
    /// Calls of one caller; `None` is no limit.
    pub per_caller: Option<Rate>,
    /// Calls of one caller in one tenant; `None` is no limit.
    pub per_caller_and_tenant: Option<Rate>,
    /// Refusals (unauthenticated, denied) of one source; `None` is no limit.
    pub refused_per_source: Option<Rate>,
}

/// Which quota a call is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuotaKind {
    /// Of the caller.
    Caller,
    /// Of the caller in this tenant.
    CallerAndTenant,
    /// Of refusals.
    Refused,
}

impl QuotaKind {
    /// The key of the configuration that sets it.
    #[must_use]
    pub fn config_key(self) -> &'static str {
        match self {
            Self::Caller => "quotas.per_caller",
            Self::CallerAndTenant => "quotas.per_caller_and_tenant",
            Self::Refused => "quotas.refused_per_source",
        }
    }

    /// Whose calls are counted, as `google.rpc.QuotaFailure` names it.
    #[must_use]
    pub fn subject(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::CallerAndTenant => "caller and tenant",
            Self::Refused => "source of refused calls",
        }
    }
}

/// A call came too soon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("over {}", quota.config_key())]
pub struct OverQuota {
    /// Which quota is used up.
    pub quota: QuotaKind,
    /// When the next call may come.
    pub retry_after: Duration,
}

/// Who is made to wait after too many refusals.
#[derive(Debug, Clone, Copy)]
pub(super) enum Source<'a> {
    /// Whoever is behind an address, as long as nobody knows who.
    Address(IpAddr),
    /// A known caller.
    Caller(&'a Caller),
}

/// All quotas.
pub(super) struct Quotas {
    caller: Option<Buckets>,
    caller_and_tenant: Option<Buckets>,
    refused: Option<Buckets>,
    reserve: Buckets,
    /// When a caller was last verified from an address, by the monotonic clock.
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

    /// Counts a call of a caller.
    pub(super) fn call(&self, caller: &Caller) -> Result<(), OverQuota> {
        let Some(buckets) = &self.caller else { return Ok(()) };
        let quota = QuotaKind::Caller;
        let taken = buckets.take(self.hasher.hash_one(identity(caller)));
        taken.map_err(|retry_after| OverQuota { quota, retry_after })
    }

    /// Counts a call of a caller in a tenant.
    pub(super) fn call_in(&self, caller: &Caller, tenant: &TenantName) -> Result<(), OverQuota> {
        let Some(buckets) = &self.caller_and_tenant else { return Ok(()) };
        let quota = QuotaKind::CallerAndTenant;
        let taken = buckets.take(self.hasher.hash_one((identity(caller), tenant)));
        taken.map_err(|retry_after| OverQuota { quota, retry_after })
    }

    /// Begins something that may be refused. It counts as refused from now on, so that attempts at the same time are
    /// counted too, until it is excused.
    ///
    /// # Errors
    /// If the source was refused so often that it has to wait.
    pub(super) fn attempt(&self, source: Source<'_>) -> Result<Attempt<'_>, OverQuota> {
        let Some(refused) = &self.refused else { return Ok(Attempt::default()) };
        let key = self.key(source);
        match refused.take(key) {
            Ok(()) => Ok(Attempt { source: Some((refused, key)), reserve: None }),
            Err(retry_after) => Err(OverQuota { quota: QuotaKind::Refused, retry_after }),
        }
    }

    /// The same from the reserve of a caller that claims to be one that was verified from there. It counts against the
    /// reserve and, on credit, against the source: whoever claims to be somebody else uses up that caller's reserve
    /// alone, and the source is still refused no more often than its rate says.
    pub(super) fn attempt_of_claimed(&self, from: IpAddr, claim: &[u8]) -> Option<Attempt<'_>> {
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
                attempt.excuse();
                return None;
            }
            attempt.source = Some((refused, source));
        }
        Some(attempt)
    }

    /// Remembers that a caller was verified from there.
    pub(super) fn verified(&self, from: IpAddr, claim: &[u8]) {
        self.verified.insert(self.claim_key(from, claim), self.clock.monotonic());
    }

    fn claim_key(&self, from: IpAddr, claim: &[u8]) -> u64 {
        self.hasher.hash_one((site(from), claim))
    }

    fn key(&self, source: Source<'_>) -> u64 {
        match source {
            Source::Caller(caller) => self.hasher.hash_one(identity(caller)),
            Source::Address(address) => self.hasher.hash_one(site(address)),
        }
    }
}

/// Something that counts as refused unless it is excused.
#[derive(Default)]
pub(super) struct Attempt<'a> {
    /// The buckets that gave a token, and the key of each.
    source: Option<(&'a Buckets, u64)>,
    reserve: Option<(&'a Buckets, u64)>,
}

impl Attempt<'_> {
    /// It was not refused, or not by its own fault.
    pub(super) fn excuse(self) {
        for (buckets, key) in self.source.into_iter().chain(self.reserve) {
            buckets.give_back(key);
        }
    }
}

fn identity(caller: &Caller) -> impl Hash {
    (caller.id(), caller.method(), caller.issuer())
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
    fn a_caller_over_its_rate_waits_and_others_do_not() {
        let (quotas, clock) = quotas(Some(rate(2, 3)), None, None);
        let (one, other) = (Caller::command_line("one"), Caller::command_line("other"));
        for _ in 0..3 {
            quotas.call(&one).unwrap();
        }
        let over = quotas.call(&one).unwrap_err();
        assert_eq!(over.quota, QuotaKind::Caller);
        assert_eq!(over.retry_after, Duration::from_millis(500));
        quotas.call(&other).unwrap();
        clock.advance(over.retry_after);
        quotas.call(&one).unwrap();
        quotas.call(&one).unwrap_err();
    }

    #[test]
    fn each_tenant_has_a_rate_of_its_own() {
        let (quotas, _) = quotas(None, Some(rate(1, 1)), None);
        let caller = Caller::command_line("one");
        let name = |tenant: &str| format!("applications/a/tenants/{tenant}").parse().unwrap();
        quotas.call_in(&caller, &name("Cust1")).unwrap();
        quotas.call_in(&caller, &name("Cust1")).unwrap_err();
        quotas.call_in(&caller, &name("Cust2")).unwrap();
        quotas.call(&caller).unwrap();
    }

    #[test]
    fn after_too_many_refusals_a_source_waits_and_others_do_not() {
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
    fn a_source_is_refused_exactly_as_often_as_its_rate_says() {
        let (quotas, clock) = quotas(None, None, Some(rate(50, 200)));
        let source = Source::Address("192.0.2.1".parse().unwrap());
        let mut admitted = 0;
        // Ten seconds of a flood, ten attempts each millisecond.
        for _ in 0..10_000 {
            for _ in 0..10 {
                admitted += u32::from(quotas.attempt(source).map(drop).is_ok());
            }
            clock.advance(Duration::from_millis(1));
        }
        assert_eq!(admitted, 200 + 50 * 10 - 1, "burst, and one each 20 ms after the first");
    }

    #[test]
    fn attempts_that_were_excused_count_for_nothing_and_open_ones_for_one_each() {
        let (quotas, _) = quotas(None, None, Some(rate(1, 3)));
        let source = Source::Address("192.0.2.1".parse().unwrap());
        for _ in 0..100 {
            quotas.attempt(source).unwrap().excuse();
        }
        let open: Vec<_> = (0..3).map(|_| quotas.attempt(source).unwrap()).collect();
        assert!(quotas.attempt(source).is_err());
        for attempt in open {
            attempt.excuse();
        }
        assert!(quotas.attempt(source).is_ok());
    }

    #[test]
    fn a_verified_caller_keeps_a_reserve_that_only_claims_of_its_own_name_use_up() {
        let (quotas, clock) = quotas(None, None, Some(rate(50, 200)));
        let (here, elsewhere) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        for caller in [b"sync", b"mail"] {
            quotas.verified(here, caller);
        }
        let flood = || while quotas.attempt(Source::Address(here)).is_ok() {};
        flood();
        assert!(quotas.attempt_of_claimed(here, b"unknown").is_none());
        assert!(quotas.attempt_of_claimed(elsewhere, b"sync").is_none());
        // An attacker claims to be one of them.
        for _ in 0..5 {
            assert!(quotas.attempt_of_claimed(here, b"sync").is_some());
        }
        assert!(quotas.attempt_of_claimed(here, b"sync").is_none());
        quotas.attempt_of_claimed(here, b"mail").unwrap().excuse();
        // What the claims used on credit, the flood does not get.
        clock.advance(Duration::from_millis(100));
        assert!(quotas.attempt(Source::Address(here)).is_err());
        clock.advance(Duration::from_secs(1));
        assert!(quotas.attempt_of_claimed(here, b"sync").is_some());
        clock.advance(VERIFIED_FOR);
        flood();
        assert!(quotas.attempt_of_claimed(here, b"mail").is_none());
    }
}
