//! The network of a client, by its address, and counts for each network.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Prefix length of the network from which an IPv6 host can choose its addresses (RFC 6177).
pub const IPV6_SITE_BITS: u32 = 64;

/// Returns an address that stands for the client's network: an IPv4 address itself, or the network of an IPv6 address.
/// Clients are counted by it, because one client can use all addresses of its network.
#[must_use]
pub fn client_network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(host) => host.into(),
        IpAddr::V6(host) => {
            Ipv6Addr::from_bits(host.to_bits() >> IPV6_SITE_BITS << IPV6_SITE_BITS).into()
        }
    }
}

/// Counts the slots that each client network holds. Clones share the counts.
#[derive(Debug, Clone, Default)]
pub struct NetworkCounter(Arc<Mutex<NetworkCounts>>);

#[derive(Debug, Default)]
struct NetworkCounts {
    total: usize,
    networks: HashMap<IpAddr, usize>,
}

/// A slot that is counted. Dropping this releases it.
#[derive(Debug)]
pub struct NetworkSlot {
    network: IpAddr,
    counter: NetworkCounter,
}

impl NetworkCounter {
    /// Takes a slot for a client if `admits` accepts the number of slots that its network holds, and that of all
    /// networks.
    #[must_use]
    pub fn take(
        &self,
        client: IpAddr,
        admits: impl FnOnce(usize, usize) -> bool,
    ) -> Option<NetworkSlot> {
        let network = client_network(client);
        let mut counts = self.lock();
        let own = counts.networks.get(&network).copied().unwrap_or_default();
        if !admits(own, counts.total) {
            return None;
        }
        counts.total += 1;
        counts.networks.insert(network, own + 1);
        Some(NetworkSlot { network, counter: self.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, NetworkCounts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for NetworkSlot {
    fn drop(&mut self) {
        let mut counts = self.counter.lock();
        counts.total -= 1;
        if let Entry::Occupied(mut own) = counts.networks.entry(self.network) {
            *own.get_mut() -= 1;
            if *own.get() == 0 {
                own.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_each_ipv4_address_and_each_ipv6_network() {
        let counter = NetworkCounter::default();
        let take = |address: &str| counter.take(address.parse().unwrap(), |own, _| own < 2);
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
        assert_eq!(counter.lock().total, 4);
        drop((second, again, network));
        assert!(counter.lock().networks.is_empty());
        assert_eq!(counter.lock().total, 0);
    }
}
