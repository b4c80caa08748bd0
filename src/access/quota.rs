//! How often callers may ask, and how often anybody may be refused.
//!
//! Token buckets (GCRA, in the words of the library): one for each caller, one for each caller in each tenant, and
//! one for the refusals of each source. The last makes guessing slow: a source that was refused too often is not
//! even looked at for a moment, except with what is known to be good already.

use std::{
    hash::{BuildHasher as _, Hash, RandomState},
    net::IpAddr,
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use governor::{
    Quota, RateLimiter, clock, middleware::NoOpMiddleware, nanos::Nanos,
    state::keyed::DashMapStateStore,
};
use quick_cache::sync::Cache;

use super::Caller;
use crate::{
    domain::{TenantName, site},
    ports::Clock,
};

/// Buckets of one kind that are remembered. Beyond that all share these …
const MAX_BUCKETS: usize = 65_536;
/// … until enough of them are full again.
const SHARED_BUCKETS: u64 = 4_096;
/// Full buckets are forgotten after so many checks, if there are too many.
const CHECKS_TO_TIDY: u32 = 1_024;
/// Sources that are not looked at for the moment.
const MAX_SLOWED: usize = 16_384;

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
    /// Until when a source is not looked at, by the monotonic clock.
    slowed: Cache<u64, Duration>,
    clock: Arc<dyn Clock>,
    hasher: RandomState,
}

impl Quotas {
    pub(super) fn new(rules: QuotaRules, clock: Arc<dyn Clock>) -> Self {
        let buckets = |rate: Option<Rate>| rate.map(|rate| Buckets::new(rate, Arc::clone(&clock)));
        Self {
            caller: buckets(rules.per_caller),
            caller_and_tenant: buckets(rules.per_caller_and_tenant),
            refused: buckets(rules.refused_per_source),
            slowed: Cache::new(MAX_SLOWED),
            clock,
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

    /// Counts a refusal.
    pub(super) fn refused(&self, source: Source<'_>) {
        let Some(buckets) = &self.refused else { return };
        let key = self.key(source);
        if let Err(wait) = buckets.take(key) {
            self.slowed.insert(key, self.clock.monotonic() + wait);
        }
    }

    /// Whether a source was refused so often that it has to wait before it may try anything that is not known to be
    /// good.
    pub(super) fn check_not_slowed(&self, source: Source<'_>) -> Result<(), OverQuota> {
        if self.slowed.is_empty() {
            return Ok(());
        }
        let now = self.clock.monotonic();
        match self.slowed.get(&self.key(source)) {
            Some(until) if now < until => {
                Err(OverQuota { quota: QuotaKind::Refused, retry_after: until.saturating_sub(now) })
            }
            _ => Ok(()),
        }
    }

    fn key(&self, source: Source<'_>) -> u64 {
        match source {
            Source::Caller(caller) => self.hasher.hash_one(identity(caller)),
            Source::Address(address) => self.hasher.hash_one(site(address)),
        }
    }
}

fn identity(caller: &Caller) -> impl Hash {
    (caller.id(), caller.method(), caller.issuer())
}

type Limiter = RateLimiter<u64, DashMapStateStore<u64>, Monotonic, NoOpMiddleware<Nanos>>;

/// Token buckets of one rate, by a keyed hash of whose they are.
struct Buckets {
    limiter: Limiter,
    clock: Monotonic,
    checks: AtomicU32,
    /// More are in use than are remembered.
    crowded: AtomicBool,
}

impl Buckets {
    fn new(rate: Rate, clock: Arc<dyn Clock>) -> Self {
        let quota = Quota::per_second(rate.per_second).allow_burst(rate.burst);
        let clock = Monotonic(clock);
        Self {
            limiter: Limiter::dashmap_with_clock(quota, clock.clone()),
            clock,
            checks: AtomicU32::new(0),
            crowded: AtomicBool::new(false),
        }
    }

    /// Takes one token, or tells when there is one.
    fn take(&self, key: u64) -> Result<(), Duration> {
        if self.checks.fetch_add(1, Ordering::Relaxed).is_multiple_of(CHECKS_TO_TIDY) {
            self.tidy();
        }
        let crowded = self.crowded.load(Ordering::Relaxed);
        let key = if crowded { key % SHARED_BUCKETS } else { key };
        self.limiter.check_key(&key).map_err(|early| {
            early.wait_time_from(clock::Clock::now(&self.clock)).max(Duration::from_millis(1))
        })
    }

    fn tidy(&self) {
        if self.limiter.len() < MAX_BUCKETS && !self.crowded.load(Ordering::Relaxed) {
            return;
        }
        self.limiter.retain_recent();
        self.crowded.store(self.limiter.len() >= MAX_BUCKETS / 2, Ordering::Relaxed);
    }
}

/// Our monotonic clock, in the words of the library.
#[derive(Clone)]
struct Monotonic(Arc<dyn Clock>);

impl clock::Clock for Monotonic {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.0.monotonic().into()
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
        (Quotas::new(rules, clock.clone()), clock)
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
            quotas.refused(bad);
            quotas.refused(site);
        }
        quotas.check_not_slowed(bad).unwrap();
        quotas.refused(bad);
        quotas.refused(site);
        let over = quotas.check_not_slowed(bad).unwrap_err();
        assert_eq!(over.quota, QuotaKind::Refused);
        assert_eq!(over.retry_after, Duration::from_millis(20));
        quotas.check_not_slowed(mapped).unwrap_err();
        quotas.check_not_slowed(same_site).unwrap_err();
        quotas.check_not_slowed(neighbour).unwrap();
        clock.advance(over.retry_after);
        quotas.check_not_slowed(bad).unwrap();
    }

    #[test]
    fn a_flood_of_names_takes_no_more_room_than_is_set_aside() {
        let (quotas, clock) = quotas(Some(rate(1, 1)), None, None);
        let buckets = quotas.caller.as_ref().unwrap();
        let most = MAX_BUCKETS + CHECKS_TO_TIDY as usize + usize::try_from(SHARED_BUCKETS).unwrap();
        for name in 0..3 * MAX_BUCKETS as u64 {
            let _ = buckets.take(quotas.hasher.hash_one(name));
            assert!(buckets.limiter.len() <= most);
        }
        // And when it is over, everybody has a bucket again: also where the first look in between came too early.
        buckets.crowded.store(true, Ordering::Relaxed);
        clock.advance(Duration::from_secs(10));
        for name in 0..u64::from(2 * CHECKS_TO_TIDY) {
            let _ = buckets.take(name);
        }
        assert!(!buckets.crowded.load(Ordering::Relaxed));
    }
}
