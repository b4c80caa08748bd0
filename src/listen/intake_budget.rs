//! Limits the bytes of requests that are held before an authorization decision, over all listeners.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use crate::domain::client_network;

/// The memory of all undecided requests on connections without a permitted request ("strangers"). With the memory of
/// the connections themselves, strangers cost less than 48 MiB.
const STRANGERS_BYTES: usize = 10 * 1024 * 1024;

/// The bytes that the requests of one stranger's connection may always hold: a first call with its headers. The slots
/// for strangers on all listeners take 7 MiB.
const FLOOR_BYTES: usize = 16 * 1024;

/// The memory of all undecided requests on the other connections. One address may hold half of it, which is room for
/// sixteen requests of the maximum size.
const PERMITTED_BYTES: usize = 2 * 16 * (4 * 1024 + 256) * 1024;

/// The bytes that all undecided requests share. Clients on whose connection a request was permitted have a budget of
/// their own, so that strangers cannot keep them out.
#[derive(Debug)]
pub struct IntakeBudget {
    strangers: Pool,
    permitted: Pool,
    floor: usize,
    /// The bytes that each address holds, over all listeners. Unused entries are removed before the map grows.
    sources: Mutex<HashMap<IpAddr, Weak<SourceUsage>>>,
}

#[derive(Debug)]
struct Pool {
    limit: usize,
    held: AtomicUsize,
}

/// The bytes that the undecided requests of one address hold.
#[derive(Debug, Default)]
pub(super) struct SourceUsage {
    strangers: AtomicUsize,
    permitted: AtomicUsize,
}

/// The usage of one connection.
#[derive(Debug, Default)]
pub(super) struct ConnectionUsage {
    /// The bytes that its undecided requests hold.
    held: AtomicUsize,
    permitted: AtomicBool,
}

impl ConnectionUsage {
    /// Returns whether a request of the connection holds bytes.
    pub(super) fn is_busy(&self) -> bool {
        self.held.load(Ordering::Relaxed) > 0
    }

    /// Returns whether a request of the connection was permitted.
    pub(super) fn is_permitted(&self) -> bool {
        self.permitted.load(Ordering::Relaxed)
    }

    /// Records that a request of the connection was permitted. Returns whether it is the first one.
    pub(super) fn permit(&self) -> bool {
        !self.is_permitted() && !self.permitted.swap(true, Ordering::Relaxed)
    }
}

/// Bytes of the budget that one request holds. They return to the budget when this is dropped.
///
/// The default belongs to a separate budget.
#[derive(Debug, Default)]
pub struct Reservation {
    budget: Arc<IntakeBudget>,
    source: Arc<SourceUsage>,
    connection: Arc<ConnectionUsage>,
    /// Whether the bytes are those of a permitted connection.
    permitted: bool,
    bytes: usize,
}

/// The budget has no room for more bytes of this address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many bytes are held by requests that are not authorized yet")]
pub struct IntakeExhausted;

impl Default for IntakeBudget {
    fn default() -> Self {
        Self::new(STRANGERS_BYTES, PERMITTED_BYTES, FLOOR_BYTES)
    }
}

impl IntakeBudget {
    /// Returns a budget of these numbers of bytes.
    fn new(strangers: usize, permitted: usize, floor: usize) -> Self {
        let pool = |limit| Pool { limit, held: AtomicUsize::new(0) };
        let sources = Mutex::default();
        Self { strangers: pool(strangers), permitted: pool(permitted), floor, sources }
    }

    /// Returns the usage of an address. An IPv6 address stands for its /64 network.
    pub(super) fn source(&self, address: IpAddr) -> Arc<SourceUsage> {
        let address = client_network(address);
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = sources.get(&address).and_then(Weak::upgrade) {
            return known;
        }
        if sources.len() == sources.capacity() {
            sources.retain(|_, usage| usage.strong_count() > 0);
        }
        let usage = Arc::<SourceUsage>::default();
        sources.insert(address, Arc::downgrade(&usage));
        usage
    }

    /// Returns an empty reservation for a request from `source` over a connection.
    pub(super) fn reservation(
        self: &Arc<Self>,
        source: Arc<SourceUsage>,
        connection: &Arc<ConnectionUsage>,
    ) -> Reservation {
        let (budget, connection) = (Arc::clone(self), Arc::clone(connection));
        Reservation { budget, source, connection, permitted: false, bytes: 0 }
    }
}

impl Reservation {
    /// Reserves more bytes. An address may hold at most as much as the budget then has left: the first greedy address
    /// gets half, the next one half of the rest. Each connection of a stranger always gets the floor.
    ///
    /// # Errors
    /// If there is no room. The reservation then keeps its size.
    pub fn grow(&mut self, bytes: usize) -> Result<(), IntakeExhausted> {
        if self.bytes == 0 {
            // A request of the connection may have been permitted since the last time.
            self.permitted = self.connection.is_permitted();
        }
        let (pool, source) = self.counters();
        let add = |to: &AtomicUsize| to.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        let (held, own, here) = (add(&pool.held), add(source), add(&self.connection.held));
        let fits = own <= pool.limit.saturating_sub(held)
            || (!self.permitted && here <= self.budget.floor);
        self.bytes += bytes;
        if !fits {
            self.shrink(bytes);
            return Err(IntakeExhausted);
        }
        Ok(())
    }

    /// Changes the size of the reservation.
    ///
    /// # Errors
    /// Those of [`Self::grow`].
    pub fn resize(&mut self, bytes: usize) -> Result<(), IntakeExhausted> {
        match bytes.checked_sub(self.bytes) {
            Some(0) => Ok(()),
            Some(more) => self.grow(more),
            None => {
                self.shrink(self.bytes - bytes);
                Ok(())
            }
        }
    }

    fn counters(&self) -> (&Pool, &AtomicUsize) {
        if self.permitted {
            (&self.budget.permitted, &self.source.permitted)
        } else {
            (&self.budget.strangers, &self.source.strangers)
        }
    }

    fn shrink(&mut self, bytes: usize) {
        let (pool, source) = self.counters();
        pool.held.fetch_sub(bytes, Ordering::Relaxed);
        source.fetch_sub(bytes, Ordering::Relaxed);
        self.connection.held.fetch_sub(bytes, Ordering::Relaxed);
        self.bytes -= bytes;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.shrink(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(host: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, host])
    }

    /// Reserves bytes for a request on a new connection.
    fn reserve(budget: &Arc<IntakeBudget>, host: u8, bytes: usize) -> Option<Reservation> {
        reserve_on(budget, &Arc::default(), host, bytes)
    }

    fn reserve_on(
        budget: &Arc<IntakeBudget>,
        connection: &Arc<ConnectionUsage>,
        host: u8,
        bytes: usize,
    ) -> Option<Reservation> {
        let mut reservation = budget.reservation(budget.source(address(host)), connection);
        reservation.grow(bytes).ok().map(|()| reservation)
    }

    #[test]
    fn one_address_gets_half_and_the_next_half_of_the_rest() {
        let budget = Arc::new(IntakeBudget::new(1024, 0, 0));
        let mut held = Vec::new();
        let mut taken = Vec::new();
        for host in 0..3 {
            let got: Vec<_> = std::iter::from_fn(|| reserve(&budget, host, 1)).collect();
            taken.push(got.len());
            held.push(got);
        }
        assert_eq!(taken, [512, 256, 128]);
        drop(held);
        assert_eq!(budget.strangers.held.load(Ordering::Relaxed), 0);
        assert_eq!(budget.source(address(0)).strangers.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_strangers_connection_gets_the_floor_if_the_budget_is_used_up() {
        let budget = Arc::new(IntakeBudget::new(100, 0, 10));
        let _greedy: Vec<_> = (0..20).filter_map(|host| reserve(&budget, host, 50)).collect();
        let connection = Arc::default();
        let _first = reserve_on(&budget, &connection, 200, 90).is_none();
        let _held = reserve_on(&budget, &connection, 200, 10).unwrap();
        assert!(connection.is_busy());
        assert!(reserve_on(&budget, &connection, 201, 90).is_none());
    }

    #[test]
    fn a_reservation_that_cannot_grow_keeps_its_size() {
        let budget = Arc::new(IntakeBudget::new(100, 0, 0));
        let mut reservation = reserve(&budget, 1, 40).unwrap();
        assert_eq!(reservation.grow(11), Err(IntakeExhausted));
        reservation.resize(50).unwrap();
        assert_eq!(reservation.resize(51), Err(IntakeExhausted));
        reservation.resize(20).unwrap();
        assert!(reserve(&budget, 1, 30).is_some());
        drop(reservation);
        assert!(reserve(&budget, 1, 50).is_some());
    }

    #[test]
    fn strangers_do_not_use_the_budget_of_permitted_connections() {
        let budget = Arc::new(IntakeBudget::new(100, 100, 0));
        let connection = Arc::<ConnectionUsage>::default();
        let mut reservation = reserve_on(&budget, &connection, 1, 50).unwrap();
        assert!(reserve(&budget, 1, 1).is_none());
        assert!(connection.permit() && !connection.permit());
        let _permitted = reserve_on(&budget, &connection, 1, 50).unwrap();
        // An older reservation moves to this budget once it is empty.
        assert!(reservation.resize(51).is_err());
        reservation.resize(0).unwrap();
        assert!(reservation.grow(1).is_err());
        assert!(reserve(&budget, 2, 50).is_some());
    }

    #[test]
    fn removes_the_entry_of_an_address_that_holds_nothing() {
        let budget = IntakeBudget::new(0, 0, 0);
        for host in 0..u32::from(u16::MAX) {
            drop(budget.source(IpAddr::from(host.to_be_bytes())));
        }
        assert!(budget.sources.lock().unwrap().len() < 10);
    }
}
