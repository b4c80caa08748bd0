//! Limits connections without a permitted request, and shares them fairly between addresses.
//!
//! A connection is a stranger's until its first permitted request. Strangers share a fixed number of slots. When all
//! are taken, the address with the most strangers loses its oldest one. So no address can block others with idle
//! connections.

use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::intake_budget::{ConnectionUsage, IntakeBudget, Reservation, SourceUsage};
use crate::domain::client_network;

/// The slots for strangers of one listener.
#[derive(Clone)]
pub(super) struct ConnectionLimiter {
    capacity: usize,
    intake: Arc<IntakeBudget>,
    slots: Arc<Mutex<Slots>>,
}

/// The slots that are taken.
#[derive(Default)]
struct Slots {
    /// The number of strangers, over all addresses.
    taken: usize,
    /// The sequence number of the next slot. A lower number is older.
    next: u64,
    addresses: HashMap<IpAddr, Address>,
}

/// The connections of one address. An IPv6 address stands for its /64 network.
#[derive(Default)]
struct Address {
    /// The strangers among them, oldest first.
    strangers: BTreeMap<u64, Stranger>,
    /// All connections of the address.
    connections: usize,
}

/// A connection without a permitted request.
struct Stranger {
    since: Instant,
    evicted: CancellationToken,
    usage: Arc<ConnectionUsage>,
}

impl Stranger {
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
    source: Arc<SourceUsage>,
    usage: Arc<ConnectionUsage>,
}

/// A stranger that has sent nothing keeps its slot for this long while others of its address wait for one.
const FIRST_REQUEST_TIME: Duration = Duration::from_secs(2);
/// A stranger with a request keeps its slot for this long: the keys of its issuer may have to be fetched.
const DECISION_TIME: Duration = Duration::from_secs(8);

/// All slots are taken, and this address holds the most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "too many connections without a permitted request, most of them from this address; close idle \
     connections, or send a permitted request on each"
)]
pub(super) struct TooManyConnections;

impl ConnectionLimiter {
    /// Returns a limiter with `capacity` slots for strangers, whose requests are charged to `intake`.
    pub(super) fn new(capacity: usize, intake: Arc<IntakeBudget>) -> Self {
        Self { capacity, intake, slots: Arc::default() }
    }

    /// Takes a slot for a new connection. If all are taken, evicts the oldest stranger of the address with the most.
    ///
    /// # Errors
    /// If that is this address, and its oldest stranger has had no time for a request yet.
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
        let entry = slots.addresses.entry(address).or_default();
        let usage = Arc::<ConnectionUsage>::default();
        let stranger = Stranger { since: now, evicted: evicted.clone(), usage: Arc::clone(&usage) };
        entry.strangers.insert(number, stranger);
        entry.connections += 1;
        drop(slots);
        let source = self.intake.source(address);
        Ok(Arc::new(ConnectionSlot {
            limiter: self.clone(),
            address,
            number,
            evicted,
            source,
            usage,
        }))
    }

    fn lock(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slots {
    /// Evicts the oldest stranger of the address that has the most strangers.
    fn evict_oldest_for(
        &mut self,
        newcomer: IpAddr,
        now: Instant,
    ) -> Result<(), TooManyConnections> {
        let own = self.strangers_of(newcomer);
        let most = |(address, entry): (&IpAddr, &Address)| {
            let (oldest, _) = entry.strangers.first_key_value()?;
            Some((entry.strangers.len(), std::cmp::Reverse(*oldest), *address))
        };
        let (count, _, largest) =
            self.addresses.iter().filter_map(most).max().ok_or(TooManyConnections)?;
        // The address that loses a slot must keep at least as many as the new one gets.
        let own_turn = own + 1 >= count && own > 0;
        let loser = if own_turn { newcomer } else { largest };
        let strangers = &mut self.addresses.get_mut(&loser).ok_or(TooManyConnections)?.strangers;
        let oldest = strangers.first_entry().ok_or(TooManyConnections)?;
        if own_turn && !oldest.get().is_evictable(now) {
            return Err(TooManyConnections);
        }
        oldest.remove().evicted.cancel();
        self.taken -= 1;
        Ok(())
    }

    fn strangers_of(&self, address: IpAddr) -> usize {
        self.addresses.get(&address).map_or(0, |entry| entry.strangers.len())
    }

    /// Frees the slot, if it has not been evicted.
    fn free(&mut self, address: IpAddr, number: u64) {
        let entry = self.addresses.get_mut(&address);
        if entry.is_some_and(|entry| entry.strangers.remove(&number).is_some()) {
            self.taken -= 1;
        }
    }
}

impl ConnectionSlot {
    /// Frees the slot for another stranger, because a request of this connection was permitted.
    pub(super) fn permit(&self) {
        if self.usage.permit() {
            self.limiter.lock().free(self.address, self.number);
        }
    }

    /// Returns whether a request of the connection was permitted.
    pub(super) fn is_permitted(&self) -> bool {
        self.usage.is_permitted()
    }

    /// Returns the token that is cancelled when the slot is evicted.
    pub(super) fn evicted(&self) -> &CancellationToken {
        &self.evicted
    }

    /// Returns an empty reservation for the memory of the connection itself.
    pub(super) fn reservation(&self) -> Reservation {
        self.limiter.intake.reservation(Arc::clone(&self.source), &self.usage)
    }

    /// Returns an empty reservation for a request of a client, which may be behind a trusted proxy.
    pub(super) fn reservation_of(&self, client: IpAddr) -> Reservation {
        if client_network(client) == self.address {
            return self.reservation();
        }
        let intake = &self.limiter.intake;
        intake.reservation(intake.source(client), &self.usage)
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        let mut slots = self.limiter.lock();
        slots.free(self.address, self.number);
        if let Entry::Occupied(mut entry) = slots.addresses.entry(self.address) {
            entry.get_mut().connections -= 1;
            if entry.get().connections == 0 {
                entry.remove();
            }
        }
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
        let stranger = take(&limiter, 1);
        let newcomer = take(&limiter, 2);
        assert!(stranger.evicted().is_cancelled());
        assert!(!permitted.evicted().is_cancelled() && !newcomer.evicted().is_cancelled());
        drop((permitted, stranger, newcomer));
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
        assert_eq!(limiter.lock().strangers_of(address(1)), 1);
    }
}
