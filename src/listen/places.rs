//! How many connections one address may have: whoever opens all it can must not leave the others without.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::domain::site;

/// The places of a listener.
#[derive(Debug, Clone)]
pub struct Places {
    each: usize,
    taken: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// The place of a connection, which is free again when this is dropped.
#[derive(Debug)]
pub struct Place {
    site: IpAddr,
    places: Places,
}

impl Places {
    /// So many for each address.
    #[must_use]
    pub fn of_each(each: usize) -> Self {
        Self { each, taken: Arc::default() }
    }

    /// `None` if this address has its share.
    #[must_use]
    pub fn take(&self, address: IpAddr) -> Option<Place> {
        let site = site(address);
        let mut taken = self.lock();
        let count = taken.entry(site).or_default();
        if *count >= self.each {
            return None;
        }
        *count += 1;
        Some(Place { site, places: self.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Entry::Occupied(mut count) = self.places.lock().entry(self.site) {
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
    fn an_address_has_its_share_and_a_network_of_ipv6_that_of_one() {
        let places = Places::of_each(2);
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
