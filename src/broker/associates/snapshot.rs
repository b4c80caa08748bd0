//! Everybody of a tenant as one credential saw them at one time.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;

use super::cache::Reading;
use crate::domain::{
    Associate, AssociateId, Directory, Languages, ListedAssociate, LookupKey, Order,
};

/// More users than any tenant has.
pub(super) const MAX_ASSOCIATES: usize = 1_000_000;

/// How many orders of one snapshot are kept: a list by another one is sorted again.
const MAX_ORDERS: usize = 4;

/// In which order a list shows them: positions in the list by id.
pub(super) type Sorted = Arc<[u32]>;

/// Everybody, by ascending id. Never changes.
pub(super) struct Snapshot {
    /// Made by us, random.
    pub(super) id: u128,
    /// When its reading began, by the monotonic clock and by the wall clock.
    pub(super) began: Duration,
    pub(super) read_time: Timestamp,
    pub(super) directory: Directory,
    associates: Vec<Arc<Associate>>,
    orders: Mutex<Vec<((Order, Languages), Sorted)>>,
    paged: AtomicBool,
}

impl Snapshot {
    /// `associates` by ascending id.
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

    /// Where those with a greater id begin.
    pub(super) fn position_after(&self, id: AssociateId) -> usize {
        self.associates.partition_point(|associate| associate.id <= id)
    }

    pub(super) fn at(&self, position: usize) -> Option<&Arc<Associate>> {
        self.associates.get(position)
    }

    /// A list will go on in it.
    pub(super) fn will_be_paged(&self) {
        self.paged.store(true, Ordering::Relaxed);
    }

    /// All that have this, in order of their ids.
    pub(super) fn find(&self, key: &LookupKey) -> Vec<&Arc<Associate>> {
        self.associates.iter().filter(|associate| key.matches(associate)).collect()
    }

    /// The positions in this order, if somebody has asked for it before.
    pub(super) fn sorted(&self, order: &Order, languages: &Languages) -> Option<Sorted> {
        let mut orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |key: &(Order, Languages)| key.0 == *order && key.1 == *languages;
        let found = orders.iter().position(|(key, _)| same(key))?;
        // The one that was not asked for for longest stands first.
        let found = orders.remove(found);
        let sorted = Arc::clone(&found.1);
        orders.push(found);
        Some(sorted)
    }

    /// The positions in this order. Takes a while for many thousand: not for a thread that others wait for.
    pub(super) fn sort(&self, order: &Order, languages: &Languages) -> Sorted {
        if let Some(sorted) = self.sorted(order, languages) {
            return sorted;
        }
        let listed: Vec<_> =
            self.associates.iter().map(|one| ListedAssociate::new(one, languages)).collect();
        let mut positions: Vec<u32> = (0..).take(listed.len()).collect();
        // Stable: among equal ones the id decides.
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

impl Reading for Snapshot {
    fn weight(&self) -> usize {
        self.associates.len().max(1)
    }

    fn is_paged(&self) -> bool {
        self.paged.load(Ordering::Relaxed)
    }
}
