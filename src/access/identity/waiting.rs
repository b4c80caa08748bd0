//! Who waits for the keys of an issuer: many, and from nowhere all.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::domain::site;

/// Calls that wait for the keys of one issuer at one time. Who makes up names of keys fills this, not our memory.
pub(super) const MAX_WAITING: usize = 512;

/// The calls that wait, by where they come from.
#[derive(Default)]
pub(super) struct Waiting(Mutex<HashMap<IpAddr, usize>>);

/// One of them, until it is dropped.
pub(super) struct Place<'a> {
    waiting: &'a Waiting,
    site: IpAddr,
}

impl Waiting {
    /// A place, as long as more are free than are taken from there: so one address gets half of them at most, a second
    /// half of the rest, and the last ones are for those who have none.
    pub(super) fn take(&self, from: IpAddr) -> Option<Place<'_>> {
        let (mut taken, site) = (self.taken(), site(from));
        let free = MAX_WAITING - taken.values().sum::<usize>();
        if taken.get(&site).is_some_and(|own| *own >= free) || free == 0 {
            return None;
        }
        *taken.entry(site).or_default() += 1;
        Some(Place { waiting: self, site })
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Entry::Occupied(mut own) = self.waiting.taken().entry(self.site) {
            *own.get_mut() -= 1;
            if *own.get() == 0 {
                own.remove();
            }
        }
    }
}
