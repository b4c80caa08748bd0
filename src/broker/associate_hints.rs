//! What SuperOffice tells of changes among a tenant's associates: a hint, never an order (DESIGN section 6, rule 12).
//!
//! A hint makes nobody ask SuperOffice. It makes what was read before out of date, so that the next use reads again:
//! of one tenant at most once a minute, however many come.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use uuid::Uuid;

use super::Counters;
use crate::{domain::TenantName, ports::Clock};

/// Hints of one tenant take effect this often at most.
const PAUSE: Duration = Duration::from_mins(1);

/// Tenants that are told apart. Beyond that all are forgotten, and every tenant is looked at again once.
const MAX_TENANTS: usize = 65_536;

/// Events that are known again. A delivery is repeated within seconds, and the cycle of three a few times after.
const MAX_EVENTS: usize = 4_096;

/// A number for what was read of a tenant. What was read under another than the present one is out of date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Generation(u64);

/// Takes hints, and tells those who remember associates whether there was one.
pub struct AssociateHints {
    heard: Mutex<Heard>,
    clock: Arc<dyn Clock>,
    counters: Arc<Counters>,
}

#[derive(Default)]
struct Heard {
    tenants: HashMap<TenantName, Tenant>,
    /// Of tenants that are not there.
    rest: u64,
    /// The number that was given last.
    last: u64,
    events: HashSet<(TenantName, Uuid)>,
    /// The same, the oldest first.
    order: VecDeque<(TenantName, Uuid)>,
}

struct Tenant {
    generation: u64,
    /// When it began, by the monotonic clock.
    since: Duration,
    /// A hint came that has not taken effect yet.
    waiting: bool,
}

impl AssociateHints {
    /// Nothing was heard so far.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, counters: Arc<Counters>) -> Self {
        Self { heard: Mutex::default(), clock, counters }
    }

    /// Associates of this tenant have changed, an event says. Whether the event is new: it is delivered again until
    /// it was answered.
    pub fn hint(&self, tenant: &TenantName, event: Uuid) -> bool {
        let now = self.clock.monotonic();
        let mut heard = self.heard();
        if !heard.is_new(tenant, event) {
            return false;
        }
        heard.hint(tenant, now);
        self.counters.associate_hints.increment();
        true
    }

    /// The present number of a tenant, to be asked before its associates are read and again before what was read is
    /// used.
    #[must_use]
    pub fn generation(&self, tenant: &TenantName) -> Generation {
        let now = self.clock.monotonic();
        let mut heard = self.heard();
        let Heard { tenants, rest, last, .. } = &mut *heard;
        let Some(known) = tenants.get_mut(tenant) else { return Generation(*rest) };
        if known.waiting && now.saturating_sub(known.since) >= PAUSE {
            *last += 1;
            *known = Tenant { generation: *last, since: now, waiting: false };
        }
        Generation(known.generation)
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Heard {
    fn is_new(&mut self, tenant: &TenantName, event: Uuid) -> bool {
        let event = (tenant.clone(), event);
        if !self.events.insert(event.clone()) {
            return false;
        }
        self.order.push_back(event);
        if self.order.len() > MAX_EVENTS
            && let Some(oldest) = self.order.pop_front()
        {
            self.events.remove(&oldest);
        }
        true
    }

    fn hint(&mut self, tenant: &TenantName, now: Duration) {
        if let Some(known) = self.tenants.get_mut(tenant)
            && now.saturating_sub(known.since) < PAUSE
        {
            known.waiting = true;
            return;
        }
        self.last += 1;
        if self.tenants.len() >= MAX_TENANTS && !self.tenants.contains_key(tenant) {
            self.tenants.clear();
            self.rest = self.last;
            self.last += 1;
        }
        let generation = self.last;
        self.tenants.insert(tenant.clone(), Tenant { generation, since: now, waiting: false });
    }
}

impl fmt::Debug for AssociateHints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tenants = self.heard().tenants.len();
        f.debug_struct("AssociateHints").field("tenants", &tenants).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::ports::ManualClock;

    fn hints() -> (AssociateHints, Arc<ManualClock>, Arc<Counters>) {
        let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
        let counters = Arc::new(Counters::default());
        (AssociateHints::new(clock.clone(), counters.clone()), clock, counters)
    }

    fn tenant(number: usize) -> TenantName {
        format!("applications/a/tenants/Cust{number}").parse().unwrap()
    }

    fn event(number: u128) -> Uuid {
        Uuid::from_u128(number)
    }

    #[test]
    fn a_hint_makes_out_of_date_what_was_read_before_it_and_of_that_tenant_only() {
        let (hints, _, counters) = hints();
        let (one, other) = (hints.generation(&tenant(1)), hints.generation(&tenant(2)));
        assert!(hints.hint(&tenant(1), event(1)));
        assert_ne!(hints.generation(&tenant(1)), one);
        assert_eq!(hints.generation(&tenant(2)), other);
        assert_eq!(counters.associate_hints.get(), 1);
    }

    #[test]
    fn hints_take_effect_once_a_minute_and_none_is_lost() {
        let (hints, clock, _) = hints();
        hints.hint(&tenant(1), event(1));
        let first = hints.generation(&tenant(1));
        clock.advance(Duration::from_secs(59));
        for number in 2..100 {
            assert!(hints.hint(&tenant(1), event(number)));
            assert_eq!(hints.generation(&tenant(1)), first);
        }
        clock.advance(Duration::from_secs(1));
        let second = hints.generation(&tenant(1));
        assert_ne!(second, first);
        clock.advance(Duration::from_hours(1));
        assert_eq!(hints.generation(&tenant(1)), second);
        hints.hint(&tenant(1), event(100));
        assert_ne!(hints.generation(&tenant(1)), second);
    }

    #[test]
    fn an_event_counts_once_for_each_tenant() {
        let (hints, clock, counters) = hints();
        assert!(hints.hint(&tenant(1), event(1)));
        let generation = hints.generation(&tenant(1));
        clock.advance(Duration::from_hours(1));
        assert!(!hints.hint(&tenant(1), event(1)));
        assert_eq!(hints.generation(&tenant(1)), generation);
        assert!(hints.hint(&tenant(2), event(1)));
        assert_eq!(counters.associate_hints.get(), 2);
    }

    #[test]
    fn a_flood_takes_no_more_room_than_is_set_aside_and_hides_no_hint() {
        let (hints, _, _) = hints();
        let unhinted = hints.generation(&tenant(0));
        hints.hint(&tenant(1), event(0));
        let hinted = hints.generation(&tenant(1));
        for number in 1..=MAX_TENANTS {
            hints.hint(&tenant(number), event(number as u128));
        }
        let heard = hints.heard();
        assert!(heard.tenants.len() <= MAX_TENANTS);
        assert_eq!((heard.events.len(), heard.order.len()), (MAX_EVENTS, MAX_EVENTS));
        drop(heard);
        assert_eq!(hints.generation(&tenant(1)), hinted, "its second hint came too soon");
        hints.hint(&tenant(MAX_TENANTS + 1), event(1 << 64));
        assert_ne!(hints.generation(&tenant(1)), hinted);
        assert_ne!(hints.generation(&tenant(0)), unhinted);
    }
}
