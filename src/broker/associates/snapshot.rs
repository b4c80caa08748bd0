//! A snapshot of all associates of a tenant, as one credential saw them at one time.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;

use super::cache::CacheEntry;
use crate::domain::{
    Associate, AssociateId, Directory, Languages, ListedAssociate, LookupKey, Order,
};

/// The most associates that are read: more than any tenant has.
pub(super) const MAX_ASSOCIATES: usize = 1_000_000;

/// The most sort orders that are cached for a snapshot.
const MAX_ORDERS: usize = 4;

/// A sort order: positions in the list by id.
pub(super) type Sorted = Arc<[u32]>;

/// All associates by ascending id. Immutable.
pub(super) struct Snapshot {
    /// A random id.
    pub(super) id: u128,
    /// The time at which its read began, by the monotonic clock and by the wall clock.
    pub(super) began: Duration,
    pub(super) read_time: Timestamp,
    pub(super) directory: Directory,
    associates: Vec<Arc<Associate>>,
    orders: Mutex<Vec<((Order, Languages), Sorted)>>,
    paged: AtomicBool,
}

impl Snapshot {
    /// Creates a snapshot. `associates` must be sorted by ascending id.
    pub(super) fn new(
        id: u128,
        (began, read_time): (Duration, Timestamp),
        directory: Directory,
        mut associates: Vec<Arc<Associate>>,
    ) -> Self {
        associates.shrink_to_fit();
        let (orders, paged) = (Mutex::default(), AtomicBool::new(false));
        Self { id, began, read_time, directory, associates, orders, paged }
    }

    pub(super) fn get(&self, id: AssociateId) -> Option<&Arc<Associate>> {
        let found = self.associates.binary_search_by_key(&id, |associate| associate.id).ok()?;
        self.associates.get(found)
    }

    /// Returns the position of the first associate with a greater id.
    pub(super) fn position_after(&self, id: AssociateId) -> usize {
        self.associates.partition_point(|associate| associate.id <= id)
    }

    pub(super) fn at(&self, position: usize) -> Option<&Arc<Associate>> {
        self.associates.get(position)
    }

    /// Marks the snapshot as used by a paged list.
    pub(super) fn mark_paged(&self) {
        self.paged.store(true, Ordering::Relaxed);
    }

    /// Returns all associates that match, by ascending id.
    pub(super) fn find(&self, key: &LookupKey) -> Vec<&Arc<Associate>> {
        self.associates.iter().filter(|associate| key.matches(associate)).collect()
    }

    /// Returns the positions in this order if they are cached.
    pub(super) fn sorted(&self, order: &Order, languages: &Languages) -> Option<Sorted> {
        let mut orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |key: &(Order, Languages)| key.0 == *order && key.1 == *languages;
        let found = orders.iter().position(|(key, _)| same(key))?;
        // Moves it to the end: the least recently used order is first.
        let found = orders.remove(found);
        let sorted = Arc::clone(&found.1);
        orders.push(found);
        Some(sorted)
    }

    /// Returns the positions in this order. Must not run on an async thread, because it takes long for many associates.
    pub(super) fn sort(&self, order: &Order, languages: &Languages) -> Sorted {
        if let Some(sorted) = self.sorted(order, languages) {
            return sorted;
        }
        let listed: Vec<_> =
            self.associates.iter().map(|one| ListedAssociate::new(one, languages)).collect();
        let mut positions: Vec<u32> = (0..).take(listed.len()).collect();
        // The sort is stable, so equal associates stay ordered by id.
        positions.sort_by(|a, b| match (listed.get(*a as usize), listed.get(*b as usize)) {
            (Some(a), Some(b)) => order.compare(a, b),
            _ => std::cmp::Ordering::Equal,
        });
        let sorted: Sorted = positions.into();
        let mut orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        if orders.len() == MAX_ORDERS {
            orders.remove(0);
        }
        orders.push(((order.clone(), languages.clone()), Arc::clone(&sorted)));
        sorted
    }
}

impl CacheEntry for Snapshot {
    fn weight(&self) -> usize {
        self.associates.len().max(1)
    }

    fn is_paged(&self) -> bool {
        self.paged.load(Ordering::Relaxed)
    }
}
