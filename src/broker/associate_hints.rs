//! SuperOffice's notifications of changes to a tenant's associates. They are hints that only invalidate the cache.

use std::{
    collections::{HashSet, VecDeque},
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use uuid::Uuid;

use super::Counters;
use crate::domain::{ContextIdentifier, TenantName};

/// The number of remembered events. SuperOffice repeats a delivery within seconds, and that cycle a few times later.
const MAX_EVENTS: usize = 4_096;

/// Receives each new hint: the customer whose associates have changed.
type Listener = Box<dyn Fn(ContextIdentifier) + Send + Sync>;

/// Receives hints and passes each event on once.
pub struct AssociateHints {
    listener: Listener,
    events: Mutex<Events>,
    counters: Arc<Counters>,
}

#[derive(Default)]
struct Events {
    seen: HashSet<(TenantName, Uuid)>,
    /// The same events, oldest first.
    order: VecDeque<(TenantName, Uuid)>,
}

impl AssociateHints {
    /// Creates a receiver without remembered events.
    #[must_use]
    pub fn new(listener: Listener, counters: Arc<Counters>) -> Self {
        Self { listener, events: Mutex::default(), counters }
    }

    /// Handles an event which says that associates of this tenant have changed. Returns whether the event is new:
    /// SuperOffice delivers an event again until it gets a response.
    pub fn hint(&self, tenant: &TenantName, event: Uuid) -> bool {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        let new = events.is_new((tenant.clone(), event));
        drop(events);
        if new {
            (self.listener)(tenant.tenant);
            self.counters.associate_hints.increment();
        }
        new
    }
}

impl Events {
    fn is_new(&mut self, event: (TenantName, Uuid)) -> bool {
        if !self.seen.insert(event.clone()) {
            return false;
        }
        self.order.push_back(event);
        if self.order.len() > MAX_EVENTS
            && let Some(oldest) = self.order.pop_front()
        {
            self.seen.remove(&oldest);
        }
        true
    }
}

impl fmt::Debug for AssociateHints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AssociateHints").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recognizes_a_repeated_event_until_many_others_came() {
        let tenant = |name: &str| -> TenantName {
            format!("applications/a/tenants/{name}").parse().unwrap()
        };
        let event = |number: usize| Uuid::from_u128(number as u128);
        let mut events = Events::default();
        assert!(events.is_new((tenant("Cust1"), event(0))));
        assert!(!events.is_new((tenant("Cust1"), event(0))));
        assert!(events.is_new((tenant("Cust2"), event(0))), "the event belongs to another tenant");
        for number in 1..MAX_EVENTS {
            assert!(events.is_new((tenant("Cust1"), event(number))));
        }
        assert!(events.is_new((tenant("Cust1"), event(0))), "the event is no longer remembered");
        assert_eq!((events.seen.len(), events.order.len()), (MAX_EVENTS, MAX_EVENTS));
    }
}
