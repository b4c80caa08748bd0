//! Limits connections without a permitted request, and shares them fairly between addresses.
//!
//! A connection is unauthorized until its first permitted request. Unauthorized connections share a fixed number of
//! slots. When all are taken, the address with the most loses its oldest one. So no address can block others with idle
//! connections.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::intake_budget::{Account, ConnectionUsage, IntakeBudget, Reservation};
use crate::domain::client_network;

/// The slots for unauthorized connections of one listener.
#[derive(Clone)]
pub(super) struct ConnectionLimiter {
    capacity: usize,
    intake: Arc<IntakeBudget>,
    slots: Arc<Mutex<Slots>>,
}

/// The slots that are taken.
#[derive(Default)]
struct Slots {
    /// The number of unauthorized connections, over all addresses.
    taken: usize,
    /// The sequence number of the next slot. A lower number is older.
    next: u64,
    /// The unauthorized connections of each address, oldest first. An IPv6 address stands for its /64 network.
    addresses: HashMap<IpAddr, BTreeMap<u64, UnauthorizedConnection>>,
}

/// A connection without a permitted request.
struct UnauthorizedConnection {
    since: Instant,
    evicted: CancellationToken,
    usage: Arc<ConnectionUsage>,
}

impl UnauthorizedConnection {
    /// Returns whether it has had enough time to send a request that is permitted.
    fn is_evictable(&self, now: Instant) -> bool {
        let time = if self.usage.is_busy() { DECISION_TIME } else { FIRST_REQUEST_TIME };
        now.saturating_duration_since(self.since) >= time
    }
}

/// The slot of one connection. Dropping this frees the slot.
pub(super) struct ConnectionSlot {
    limiter: ConnectionLimiter,
    address: IpAddr,
    number: u64,
    evicted: CancellationToken,
    /// The account of the requests of its address.
    account: Arc<Account>,
}

/// The time for which a connection without a request keeps its slot while others of its address wait for one.
const FIRST_REQUEST_TIME: Duration = Duration::from_secs(2);
/// The same time for a connection with a request: the keys of its issuer may have to be fetched.
const DECISION_TIME: Duration = Duration::from_secs(8);

/// All slots are taken. This address holds its share, and its oldest connection may not be evicted yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooManyConnections;

impl ConnectionLimiter {
    /// Returns a limiter with `capacity` slots for unauthorized connections, whose requests are charged to `intake`.
    pub(super) fn new(capacity: usize, intake: Arc<IntakeBudget>) -> Self {
        Self { capacity, intake, slots: Arc::default() }
    }

    /// Takes a slot for a new connection. If all are taken, evicts the oldest connection of the address with the most,
    /// or of this address.
    ///
    /// # Errors
    /// If this address would lose its oldest connection, which has had no time for a request yet.
    pub(super) fn take(&self, address: IpAddr) -> Result<Arc<ConnectionSlot>, TooManyConnections> {
        let (address, now) = (client_network(address), Instant::now());
        let mut slots = self.lock();
        if slots.taken >= self.capacity {
            slots.evict_oldest_for(address, now)?;
        }
        slots.taken += 1;
        slots.next += 1;
        let number = slots.next;
        let evicted = CancellationToken::new();
        let usage = Arc::<ConnectionUsage>::default();
        let connection = UnauthorizedConnection {
            since: now,
            evicted: evicted.clone(),
            usage: Arc::clone(&usage),
        };
        slots.addresses.entry(address).or_default().insert(number, connection);
        drop(slots);
        let account = Account::new(Arc::clone(&self.intake), self.intake.source(address), usage);
        Ok(Arc::new(ConnectionSlot {
            limiter: self.clone(),
            address,
            number,
            evicted,
            account: Arc::new(account),
        }))
    }

    fn lock(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slots {
    /// Evicts a connection for one of the address `newcomer`.
    fn evict_oldest_for(
        &mut self,
        newcomer: IpAddr,
        now: Instant,
    ) -> Result<(), TooManyConnections> {
        let own = self.count_of(newcomer);
        let most = |(address, connections): (&IpAddr, &BTreeMap<u64, UnauthorizedConnection>)| {
            let (oldest, _) = connections.first_key_value()?;
            Some((connections.len(), std::cmp::Reverse(*oldest), *address))
        };
        let (count, _, largest) =
            self.addresses.iter().filter_map(most).max().ok_or(TooManyConnections)?;
        // An address without a slot always gets one. Otherwise the largest address loses a slot only if it keeps at
        // least as many as the newcomer then has; else the newcomer loses its own oldest one.
        let evicts_own = own + 1 >= count && own > 0;
        let loser = if evicts_own { newcomer } else { largest };
        let connections = self.addresses.get(&loser).ok_or(TooManyConnections)?;
        let (number, oldest) = connections.first_key_value().ok_or(TooManyConnections)?;
        if evicts_own && !oldest.is_evictable(now) {
            return Err(TooManyConnections);
        }
        oldest.evicted.cancel();
        let number = *number;
        self.free(loser, number);
        Ok(())
    }

    fn count_of(&self, address: IpAddr) -> usize {
        self.addresses.get(&address).map_or(0, BTreeMap::len)
    }

    /// Frees the slot, if it has not been evicted.
    fn free(&mut self, address: IpAddr, number: u64) {
        let Some(connections) = self.addresses.get_mut(&address) else { return };
        if connections.remove(&number).is_some() {
            self.taken -= 1;
        }
        if connections.is_empty() {
            self.addresses.remove(&address);
        }
    }
}

impl ConnectionSlot {
    /// Frees the slot for another connection, because a request of this connection was permitted.
    pub(super) fn permit(&self) {
        if self.account.connection.permit() {
            self.limiter.intake.remember(&self.account.source);
            self.limiter.lock().free(self.address, self.number);
        }
    }

    /// Returns whether a request of the connection was permitted.
    pub(super) fn is_permitted(&self) -> bool {
        self.account.connection.is_permitted()
    }

    /// Returns whether a request of the connection, or lately one of its address, was permitted.
    pub(super) fn has_recent_permit(&self) -> bool {
        self.is_permitted() || self.account.source.is_known()
    }

    /// Returns the token that is cancelled when the slot is evicted.
    pub(super) fn evicted(&self) -> &CancellationToken {
        &self.evicted
    }

    /// Returns an empty reservation for the memory of the connection itself.
    pub(super) fn reservation(&self) -> Reservation {
        self.account.reservation()
    }

    /// Returns an empty reservation for a request of a client, which may be behind a trusted proxy.
    pub(super) fn reservation_of(&self, client: IpAddr) -> Reservation {
        if client_network(client) == self.address {
            return self.reservation();
        }
        let intake = &self.limiter.intake;
        intake.reservation(intake.source(client), &self.account.connection)
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.limiter.lock().free(self.address, self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limiter(capacity: usize) -> ConnectionLimiter {
        ConnectionLimiter::new(capacity, Arc::default())
    }

    fn address(host: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, host])
    }

    fn take(limiter: &ConnectionLimiter, host: u8) -> Arc<ConnectionSlot> {
        limiter.take(address(host)).unwrap()
    }

    #[test]
    fn evicts_the_oldest_connection_of_the_address_with_the_most() {
        let limiter = limiter(4);
        let quiet = take(&limiter, 1);
        let crowd: Vec<_> = (0..3).map(|_| take(&limiter, 2)).collect();
        let newcomer = take(&limiter, 3);
        let evicted = |slot: &Arc<ConnectionSlot>| slot.evicted().is_cancelled();
        assert_eq!(crowd.iter().map(evicted).collect::<Vec<_>>(), [true, false, false]);
        assert!(!evicted(&quiet) && !evicted(&newcomer));
    }

    #[tokio::test(start_paused = true)]
    async fn the_address_with_the_most_waits_until_its_oldest_is_evictable() {
        let limiter = limiter(3);
        let held: Vec<_> = [1, 2, 2].map(|host| take(&limiter, host)).into();
        assert!(limiter.take(address(2)).is_err());
        assert!(held.iter().all(|slot| !slot.evicted().is_cancelled()));
        tokio::time::advance(FIRST_REQUEST_TIME).await;
        let _newcomer = take(&limiter, 2);
        let evicted: Vec<_> = held.iter().map(|slot| slot.evicted().is_cancelled()).collect();
        assert_eq!(evicted, [false, true, false]);
        drop(held);
        take(&limiter, 2);
    }

    #[test]
    fn evicts_the_oldest_if_each_address_has_one_connection() {
        let limiter = limiter(2);
        let (oldest, newer) = (take(&limiter, 1), take(&limiter, 2));
        let newest = take(&limiter, 3);
        assert!(oldest.evicted().is_cancelled());
        assert!(!newer.evicted().is_cancelled() && !newest.evicted().is_cancelled());
    }

    #[test]
    fn a_connection_with_a_permitted_request_holds_no_slot_and_is_not_evicted() {
        let limiter = limiter(1);
        let permitted = take(&limiter, 1);
        permitted.permit();
        permitted.permit();
        let unauthorized = take(&limiter, 1);
        let newcomer = take(&limiter, 2);
        assert!(unauthorized.evicted().is_cancelled());
        assert!(!permitted.evicted().is_cancelled() && !newcomer.evicted().is_cancelled());
        drop((permitted, unauthorized, newcomer));
        let slots = limiter.lock();
        assert_eq!((slots.taken, slots.addresses.len()), (0, 0));
    }

    #[test]
    fn a_network_of_ipv6_is_one_address_and_a_mapped_address_is_its_ipv4_address() {
        let limiter = limiter(2);
        let take = |text: &str| limiter.take(text.parse().unwrap());
        let _held = [take("2001:db8::1").unwrap(), take("2001:db8::2").unwrap()];
        assert!(take("2001:db8::3").is_err());
        let _mapped = take("::ffff:192.0.2.1").unwrap();
        assert_eq!(limiter.lock().count_of(address(1)), 1);
    }
}
