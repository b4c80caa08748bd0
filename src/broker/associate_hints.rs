//! What SuperOffice tells of changes among a tenant's associates: a hint, never an order (DESIGN section 6, rule 12).

use std::{
    collections::{HashSet, VecDeque},
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use uuid::Uuid;

use super::Counters;
use crate::domain::{ContextIdentifier, TenantName};

/// Events that are known again. A delivery is repeated within seconds, and the cycle of three a few times after.
const MAX_EVENTS: usize = 4_096;

/// Is told each new hint: whose associates have changed.
type Listener = Box<dyn Fn(ContextIdentifier) + Send + Sync>;

/// Takes hints, each once.
pub struct AssociateHints {
    listener: Listener,
    events: Mutex<Events>,
    counters: Arc<Counters>,
}

#[derive(Default)]
struct Events {
    known: HashSet<(TenantName, Uuid)>,
    /// The same, the oldest first.
    order: VecDeque<(TenantName, Uuid)>,
}

impl AssociateHints {
    /// Nothing was heard so far.
    #[must_use]
    pub fn new(listener: Listener, counters: Arc<Counters>) -> Self {
        Self { listener, events: Mutex::default(), counters }
    }

    /// Associates of this tenant have changed, an event says. Whether the event is new: it is delivered again until
    /// it was answered.
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
        if !self.known.insert(event.clone()) {
            return false;
        }
        self.order.push_back(event);
        if self.order.len() > MAX_EVENTS
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
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
    fn an_event_is_new_once_until_many_others_came() {
        let tenant = |name: &str| -> TenantName {
            format!("applications/a/tenants/{name}").parse().unwrap()
        };
        let event = |number: usize| Uuid::from_u128(number as u128);
        let mut events = Events::default();
        assert!(events.is_new((tenant("Cust1"), event(0))));
        assert!(!events.is_new((tenant("Cust1"), event(0))));
        assert!(events.is_new((tenant("Cust2"), event(0))), "of another tenant");
        for number in 1..MAX_EVENTS {
            assert!(events.is_new((tenant("Cust1"), event(number))));
        }
        assert!(events.is_new((tenant("Cust1"), event(0))), "long ago");
        assert_eq!((events.known.len(), events.order.len()), (MAX_EVENTS, MAX_EVENTS));
    }
}
