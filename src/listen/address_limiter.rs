//! Limits the connections of each client address, so that one client cannot use up all connections.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::domain::client_network;

/// The limit of connections for each address on one listener. An IPv6 address stands for its /64 network.
#[derive(Debug, Clone)]
pub struct AddressLimiter {
    limit: usize,
    taken: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// One connection that is counted. Dropping this releases it.
#[derive(Debug)]
pub struct AddressSlot {
    network: IpAddr,
    limiter: AddressLimiter,
}

impl AddressLimiter {
    /// Returns a limiter that allows `each` connections for each address.
    #[must_use]
    pub fn new(each: usize) -> Self {
        Self { limit: each, taken: Arc::default() }
    }

    /// Counts a new connection. Returns `None` if the address has reached the limit.
    #[must_use]
    pub fn take(&self, address: IpAddr) -> Option<AddressSlot> {
        let network = client_network(address);
        let mut taken = self.lock();
        let count = taken.entry(network).or_default();
        if *count >= self.limit {
            return None;
        }
        *count += 1;
        Some(AddressSlot { network, limiter: self.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for AddressSlot {
    fn drop(&mut self) {
        if let Entry::Occupied(mut count) = self.limiter.lock().entry(self.network) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_each_ipv4_address_and_each_ipv6_network() {
        let places = AddressLimiter::new(2);
        let take = |address: &str| places.take(address.parse().unwrap());
        let first = take("192.0.2.1").unwrap();
        let second = take("::ffff:192.0.2.1").unwrap();
        assert!(take("192.0.2.1").is_none());
        assert!(take("192.0.2.2").is_some());
        let network = [take("2001:db8::1").unwrap(), take("2001:db8::2").unwrap()];
        assert!(take("2001:db8::3").is_none());
        assert!(take("2001:db8:0:1::1").is_some());
        drop(first);
        let again = take("192.0.2.1").unwrap();
        assert!(take("192.0.2.1").is_none());
        drop((second, again, network));
        assert!(places.lock().is_empty());
    }
}
