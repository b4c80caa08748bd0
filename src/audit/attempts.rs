//! Unauthenticated attempts: counted by source and minute instead of recorded one by one, so that a flood of them fills
//! neither memory nor disk.

use std::{
    collections::HashMap,
    fmt,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;

use super::{AuditedDecision, EventClass, EventOrigin, EventResult, Trail};
use crate::{
    domain::{Aggregate, AuditRecord, Decision, IPV6_SITE_BITS, Reason, client_network},
    ports::Clock,
};

/// The most sources that are counted separately in a minute.
const MAX_SOURCES: usize = 4096;

/// The most sources that get their own event in a minute: those with most attempts. Without this limit, the owner of
/// many networks could cause thousands of events a minute.
const MAX_SOURCE_EVENTS: usize = 64;

/// The name under which all other sources are counted.
const OVERFLOW: &str = "others";

const MINUTE: Duration = Duration::from_mins(1);

/// The unauthenticated attempts of the current minute, by source.
pub struct UnauthenticatedAttempts {
    counts: Mutex<Counts>,
    clock: Arc<dyn Clock>,
}

type Counts = HashMap<Arc<str>, Attempts>;

/// The attempts of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Attempts {
    count: u64,
    last_time: Timestamp,
}

impl Attempts {
    fn add(&mut self, more: Self) {
        self.count = self.count.saturating_add(more.count);
        self.last_time = self.last_time.max(more.last_time);
    }
}

impl UnauthenticatedAttempts {
    /// Creates an empty counter.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { counts: Mutex::default(), clock }
    }

    /// Counts one attempt from `source`, an address or an IPv6 network.
    pub(super) fn count(&self, source: &str) {
        self.add(source, Attempts { count: 1, last_time: self.clock.now() });
    }

    /// Counts one attempt from this address; an IPv6 address counts as its network.
    pub fn count_address(&self, from: IpAddr) {
        match client_network(from) {
            IpAddr::V4(address) => self.count(&address.to_string()),
            IpAddr::V6(network) => self.count(&format!("{network}/{IPV6_SITE_BITS}")),
        }
    }

    /// Records the counts at the end of every minute, for as long as it is polled.
    pub async fn run(&self, trail: &Trail) {
        loop {
            self.clock.sleep(self.rest_of_minute()).await;
            self.flush(trail);
        }
    }

    /// Records the counts so far: one event for each of the sources with most attempts, and one event for all others.
    /// Counts that the trail cannot accept are kept for the next time.
    pub fn flush(&self, trail: &Trail) {
        let mut counts = std::mem::take(&mut *self.lock());
        let mut others = counts.remove(OVERFLOW);
        let mut counts: Vec<_> = counts.into_iter().collect();
        counts.sort_unstable_by(|(one, more), (other, less)| {
            less.count.cmp(&more.count).then(one.cmp(other))
        });
        for (_, attempts) in counts.iter().skip(MAX_SOURCE_EVENTS) {
            match &mut others {
                Some(others) => others.add(*attempts),
                None => others = Some(*attempts),
            }
        }
        counts.truncate(MAX_SOURCE_EVENTS);
        counts.extend(others.map(|others| (OVERFLOW.into(), others)));
        for (source, attempts) in counts {
            let event = record(&source, attempts);
            // No caller waits for this event.
            if trail.record_in_background(event, EventClass::Credential).is_err() {
                self.add(&source, attempts);
            }
        }
    }

    fn add(&self, source: &str, attempts: Attempts) {
        let mut counts = self.lock();
        if let Some(counted) = counts.get_mut(source) {
            counted.add(attempts);
            return;
        }
        let source = if counts.len() < MAX_SOURCES { source } else { OVERFLOW };
        counts.entry(source.into()).and_modify(|counted| counted.add(attempts)).or_insert(attempts);
    }

    fn rest_of_minute(&self) -> Duration {
        let into = self.clock.now().as_second().rem_euclid(60).unsigned_abs();
        MINUTE.saturating_sub(Duration::from_secs(into))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for UnauthenticatedAttempts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnauthenticatedAttempts")
            .field("sources", &self.lock().len())
            .finish_non_exhaustive()
    }
}

fn record(source: &Arc<str>, attempts: Attempts) -> AuditRecord {
    let origin =
        EventOrigin { client_address: Arc::clone(source).into(), ..EventOrigin::default() };
    let decided = AuditedDecision::new("authenticate", "", Decision::Denied);
    let event = origin.event(decided, EventResult::failed(Reason::CallerUnauthenticated));
    let Attempts { count, last_time } = attempts;
    let aggregate = Aggregate { count, last_time, resources: Vec::new(), resource_count: 0 };
    AuditRecord { aggregate: Some(Arc::new(aggregate)), ..event }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::ManualClock;

    #[test]
    fn counts_ipv4_by_address_and_ipv6_by_network() {
        let attempts =
            UnauthenticatedAttempts::new(Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH)));
        for from in ["192.0.2.1", "::ffff:192.0.2.1", "2001:db8:1:2::3", "2001:db8:1:2:ffff::"] {
            attempts.count_address(from.parse().unwrap());
        }
        let counts = attempts.lock();
        assert_eq!(counts.len(), 2, "{counts:?}");
        assert_eq!((counts["192.0.2.1"].count, counts["2001:db8:1:2::/64"].count), (2, 2));
    }
}
