//! Limits the bytes of requests that are held before an authorization decision, over all listeners.

use std::{
    collections::{HashMap, VecDeque},
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use crate::domain::client_network;

/// The memory of all requests on unauthorized connections. With the memory of the connections themselves, this is less
/// than 48 MiB.
const UNAUTHORIZED_BYTES: usize = 14 * 1024 * 1024;

/// The bytes that the requests of one unauthorized connection may always hold: a first call with its headers. The slots
/// for unauthorized connections on all listeners take 7 MiB.
const FLOOR_BYTES: usize = 16 * 1024;

/// The memory of all unauthorized requests on the other connections. One address may hold half of it, which is room for
/// sixteen requests of the maximum size.
const PERMITTED_BYTES: usize = 2 * 16 * (4 * 1024 + 256) * 1024;

/// The addresses that are remembered because a request of theirs was permitted. They are the latest ones.
const KNOWN_SOURCES: usize = 1024;

/// The bytes that all unauthorized requests share. Connections with a permitted request, and those of an address with
/// one, have a budget of their own, so that unauthorized connections cannot keep them out.
#[derive(Debug)]
pub struct IntakeBudget {
    unauthorized: Pool,
    permitted: Pool,
    floor: usize,
    /// The bytes that each address holds, over all listeners. Unused entries are removed before the map grows.
    sources: Mutex<HashMap<IpAddr, Weak<SourceUsage>>>,
    /// The addresses with a permitted request, oldest first. A service that opens many connections at once sends the
    /// headers of all its calls before the first message, which is more than an unknown address may hold.
    known_sources: Mutex<VecDeque<Arc<SourceUsage>>>,
}

#[derive(Debug)]
struct Pool {
    limit: usize,
    held: AtomicUsize,
}

/// The bytes that the unauthorized requests of one address hold.
#[derive(Debug, Default)]
pub(super) struct SourceUsage {
    unauthorized: AtomicUsize,
    permitted: AtomicUsize,
    /// Whether a request of the address was permitted.
    known: AtomicBool,
}

impl SourceUsage {
    /// Returns whether a request of the address was permitted lately.
    pub(super) fn is_known(&self) -> bool {
        self.known.load(Ordering::Relaxed)
    }
}

/// The usage of one connection.
#[derive(Debug, Default)]
pub(super) struct ConnectionUsage {
    /// The bytes that its unauthorized requests hold.
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

/// The counters that count the bytes of a request. The requests of a connection share one, so that a request changes
/// only one counter of references, which no other connection uses.
#[derive(Debug, Default)]
pub(super) struct Account {
    budget: Arc<IntakeBudget>,
    pub(super) source: Arc<SourceUsage>,
    pub(super) connection: Arc<ConnectionUsage>,
}

impl Account {
    /// Returns the account of requests from `source` over a connection.
    pub(super) fn new(
        budget: Arc<IntakeBudget>,
        source: Arc<SourceUsage>,
        connection: Arc<ConnectionUsage>,
    ) -> Self {
        Self { budget, source, connection }
    }

    /// Returns an empty reservation for a request.
    pub(super) fn reservation(self: &Arc<Self>) -> Reservation {
        Reservation { account: Arc::clone(self), permitted: false, bytes: 0 }
    }
}

/// Bytes of the budget that one request holds. They return to the budget when this is dropped.
///
/// The default belongs to a separate budget.
#[derive(Debug, Default)]
pub struct Reservation {
    account: Arc<Account>,
    /// Whether the bytes are those of a permitted connection, or of an address with one.
    permitted: bool,
    bytes: usize,
}

/// The budget has no room for more bytes of this address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many bytes are held by requests that are not authorized yet")]
pub struct IntakeExhausted;

impl Default for IntakeBudget {
    fn default() -> Self {
        Self::new(UNAUTHORIZED_BYTES, PERMITTED_BYTES, FLOOR_BYTES)
    }
}

impl IntakeBudget {
    /// Returns a budget of these numbers of bytes.
    fn new(unauthorized: usize, permitted: usize, floor: usize) -> Self {
        let pool = |limit| Pool { limit, held: AtomicUsize::new(0) };
        let (sources, known_sources) = (Mutex::default(), Mutex::default());
        let (unauthorized, permitted) = (pool(unauthorized), pool(permitted));
        Self { unauthorized, permitted, floor, sources, known_sources }
    }

    /// Records that a request of an address was permitted. Forgets the oldest such address if there are too many.
    pub(super) fn remember(&self, source: &Arc<SourceUsage>) {
        if source.is_known() || source.known.swap(true, Ordering::Relaxed) {
            return;
        }
        let mut known = self.known_sources.lock().unwrap_or_else(PoisonError::into_inner);
        known.push_back(Arc::clone(source));
        if known.len() > KNOWN_SOURCES
            && let Some(oldest) = known.pop_front()
        {
            oldest.known.store(false, Ordering::Relaxed);
        }
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
        let account = Account::new(Arc::clone(self), source, Arc::clone(connection));
        Arc::new(account).reservation()
    }
}

impl Reservation {
    /// Reserves more bytes. An address may hold at most as much as the budget then has left: the first greedy address
    /// gets half, the next one half of the rest. Each unauthorized connection always gets the floor.
    ///
    /// # Errors
    /// If there is no room. The reservation then keeps its size.
    pub fn grow(&mut self, bytes: usize) -> Result<(), IntakeExhausted> {
        if self.bytes == 0 {
            // A request of the connection may have been permitted since the last time.
            self.permitted =
                self.account.connection.is_permitted() || self.account.source.is_known();
        }
        let (pool, source) = self.counters();
        let add = |to: &AtomicUsize| to.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        let (held, own, here) = (add(&pool.held), add(source), add(&self.account.connection.held));
        let fits = own <= pool.limit.saturating_sub(held)
            || (!self.permitted && here <= self.account.budget.floor);
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

    /// Releases the bytes, because policy permits the request, and remembers the address.
    pub(super) fn permit(self) {
        self.account.budget.remember(&self.account.source);
    }

    fn counters(&self) -> (&Pool, &AtomicUsize) {
        let Account { budget, source, .. } = &*self.account;
        if self.permitted {
            (&budget.permitted, &source.permitted)
        } else {
            (&budget.unauthorized, &source.unauthorized)
        }
    }

    fn shrink(&mut self, bytes: usize) {
        let (pool, source) = self.counters();
        pool.held.fetch_sub(bytes, Ordering::Relaxed);
        source.fetch_sub(bytes, Ordering::Relaxed);
        self.account.connection.held.fetch_sub(bytes, Ordering::Relaxed);
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
        assert_eq!(budget.unauthorized.held.load(Ordering::Relaxed), 0);
        assert_eq!(budget.source(address(0)).unauthorized.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn an_unauthorized_connection_gets_the_floor_if_the_budget_is_used_up() {
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
    fn unauthorized_connections_do_not_use_the_budget_of_permitted_ones() {
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
    fn new_connections_of_a_known_address_use_the_budget_of_permitted_connections() {
        let budget = Arc::new(IntakeBudget::new(0, 100, 0));
        assert!(reserve(&budget, 1, 10).is_none());
        budget.reservation(budget.source(address(1)), &Arc::default()).permit();
        assert!(reserve(&budget, 1, 10).is_some());
        assert!(reserve(&budget, 2, 10).is_none());
    }

    #[test]
    fn forgets_the_oldest_known_address_beyond_the_limit() {
        let budget = IntakeBudget::new(0, 0, 0);
        let network = |number: u32| budget.source(IpAddr::from(number.to_be_bytes()));
        (0..=1024).for_each(|number| budget.remember(&network(number)));
        assert_eq!([0, 1, 1024].map(|number| network(number).is_known()), [false, true, true]);
    }

    #[test]
    fn the_documentation_names_the_same_sizes() {
        let page = include_str!("../../docs/reference/limits.md");
        let [unauthorized, permitted] =
            [UNAUTHORIZED_BYTES, PERMITTED_BYTES].map(|bytes| bytes >> 20);
        let limits = format!(
            "{unauthorized} MiB in total, and {permitted} MiB on connections with a permitted \
             request and for the last {KNOWN_SOURCES} addresses with one"
        );
        assert!(page.contains(&limits), "{limits}");
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
