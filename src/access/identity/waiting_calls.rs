//! Limits the calls that wait for an issuer's keys, in total and for each client network.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::domain::client_network;

/// Maximum number of calls that wait for the keys of one issuer. Bounds the memory that made-up key ids can use.
pub(super) const MAX_WAITING: usize = 512;

/// The number of waiting calls for each client network.
#[derive(Default)]
pub(super) struct WaitingCalls(Mutex<HashMap<IpAddr, usize>>);

/// The slot of one waiting call, released when it is dropped.
pub(super) struct WaitingSlot<'a> {
    waiting: &'a WaitingCalls,
    network: IpAddr,
}

impl WaitingCalls {
    /// Returns a slot if more slots are free than this client network uses. So one network gets at most half of the
    /// slots and a second one half of the rest; the last slots are for networks that have none.
    pub(super) fn acquire(&self, from: IpAddr) -> Option<WaitingSlot<'_>> {
        let (mut taken, network) = (self.taken(), client_network(from));
        let free = MAX_WAITING - taken.values().sum::<usize>();
        if taken.get(&network).is_some_and(|own| *own >= free) || free == 0 {
            return None;
        }
        *taken.entry(network).or_default() += 1;
        Some(WaitingSlot { waiting: self, network })
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for WaitingSlot<'_> {
    fn drop(&mut self) {
        if let Entry::Occupied(mut own) = self.waiting.taken().entry(self.network) {
            *own.get_mut() -= 1;
            if *own.get() == 0 {
                own.remove();
            }
        }
    }
}
