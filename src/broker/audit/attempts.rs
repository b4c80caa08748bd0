//! Those who never said who they are: counted by source and minute, not written down one by one, so that a flood of
//! them fills neither memory nor disk.

use std::{
    collections::HashMap,
    fmt,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::{Trail, Weight};
use crate::{
    domain::{AuditRecord, Decision, Reason},
    ports::Clock,
};

/// Sources that are told apart in a minute.
const SOURCES: usize = 4096;

/// Of these, how many get an event of their own: those with most attempts. Who has a network of many networks could
/// else write thousands of events a minute.
const WRITTEN: usize = 64;

/// All others.
const OVERFLOW: &str = "others";

const MINUTE: Duration = Duration::from_mins(1);

/// An IPv6 host has a whole network of this length to choose its address from (RFC 6177).
const IPV6_SITE_BITS: u32 = 64;

/// The gRPC code UNAUTHENTICATED.
const UNAUTHENTICATED: i32 = 16;

/// Unauthenticated attempts of the running minute, by source.
pub struct Attempts {
    counts: Mutex<HashMap<Arc<str>, u64>>,
    clock: Arc<dyn Clock>,
}

impl Attempts {
    /// Nobody so far.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { counts: Mutex::default(), clock }
    }

    /// One more from `source`: an address, of IPv6 better the network, because one machine has many addresses.
    pub fn count(&self, source: &str) {
        self.add(source, 1);
    }

    /// One more from this address, or of IPv6 from its network.
    pub fn count_address(&self, from: IpAddr) {
        match from.to_canonical() {
            IpAddr::V4(address) => self.count(&address.to_string()),
            IpAddr::V6(address) => {
                let network = u128::MAX << (u128::BITS - IPV6_SITE_BITS) & address.to_bits();
                self.count(&format!("{}/{IPV6_SITE_BITS}", Ipv6Addr::from_bits(network)));
            }
        }
    }

    /// Writes what was counted in every minute when it has passed, for as long as it is polled.
    pub async fn run(&self, trail: &Trail) {
        loop {
            self.clock.sleep(self.rest_of_minute()).await;
            self.flush(trail);
        }
    }

    /// Hands what was counted so far to the trail: one event for each of the sources with most attempts, and one for
    /// all others. What the trail cannot take stays counted.
    pub fn flush(&self, trail: &Trail) {
        let mut counts = std::mem::take(&mut *self.lock());
        let mut others = counts.remove(OVERFLOW).unwrap_or_default();
        let mut counts: Vec<_> = counts.into_iter().collect();
        counts.sort_unstable_by(|(one, more), (other, less)| less.cmp(more).then(one.cmp(other)));
        for (_, count) in counts.iter().skip(WRITTEN) {
            others = others.saturating_add(*count);
        }
        counts.truncate(WRITTEN);
        if others > 0 {
            counts.push((OVERFLOW.into(), others));
        }
        for (source, count) in counts {
            // Nobody waits for it.
            if trail.note(record(&source, count), Weight::Credential).is_err() {
                self.add(&source, count);
            }
        }
    }

    fn add(&self, source: &str, count: u64) {
        let mut counts = self.lock();
        if let Some(counted) = counts.get_mut(source) {
            *counted = counted.saturating_add(count);
            return;
        }
        let source = if counts.len() < SOURCES { source } else { OVERFLOW };
        let counted = counts.entry(source.into()).or_default();
        *counted = counted.saturating_add(count);
    }

    fn rest_of_minute(&self) -> Duration {
        let into = self.clock.now().as_second().rem_euclid(60).unsigned_abs();
        MINUTE.saturating_sub(Duration::from_secs(into))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Arc<str>, u64>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Attempts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attempts").field("sources", &self.lock().len()).finish_non_exhaustive()
    }
}

fn record(source: &Arc<str>, count: u64) -> AuditRecord {
    let times = if count == 1 { "attempt" } else { "attempts" };
    AuditRecord {
        code: UNAUTHENTICATED,
        error_reason: Some(Reason::CallerUnauthenticated),
        reason: format!("{count} {times}").into(),
        client_address: Arc::clone(source).into(),
        ..AuditRecord::new("authenticate", Decision::Denied)
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::ports::ManualClock;

    #[test]
    fn an_address_is_a_source_and_of_ipv6_its_network_is() {
        let attempts = Attempts::new(Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH)));
        for from in ["192.0.2.1", "::ffff:192.0.2.1", "2001:db8:1:2::3", "2001:db8:1:2:ffff::"] {
            attempts.count_address(from.parse().unwrap());
        }
        let counts = attempts.lock();
        assert_eq!(counts.len(), 2, "{counts:?}");
        assert_eq!((counts["192.0.2.1"], counts["2001:db8:1:2::/64"]), (2, 2));
    }
}
