//! What is in memory of the people of tenants, and whether it may still be used. Short critical sections, never across
//! an await.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::domain::{AssociateId, ContextIdentifier, Eyes, TenantName};

/// Because somebody says that something has changed, a tenant is read again at most once in this time.
pub(super) const HINT_PAUSE: Duration = Duration::from_mins(1);

/// While it cannot be read again, what was read is used for so much longer than it is otherwise.
const STALE: Duration = Duration::from_hours(1);

/// After a reading that failed, what is at hand is used for this long without another try.
const RETRY: Duration = Duration::from_secs(5);

/// How many ids are remembered that nobody has.
const MAX_ABSENT: usize = 1000;

/// A tenant and whose eyes look at it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) tenant: TenantName,
    pub(super) eyes: Eyes,
}

/// What is read and kept.
pub(super) trait Reading {
    /// How much room it takes, in associates.
    fn weight(&self) -> usize;

    /// Whether a list goes through it and may want it once more.
    fn is_paged(&self) -> bool;
}

/// How long things are kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct CacheRules {
    pub(super) max_age: Duration,
    /// In associates; the last one read is kept whatever its weight.
    pub(super) max_weight: usize,
}

/// By tenant and eyes, the last reading, and the one before it if lists go through that. All times by the
/// monotonic clock.
pub(super) struct Cache<T> {
    slots: Mutex<HashMap<Key, Slot<T>>>,
    rules: CacheRules,
}

struct Slot<T> {
    present: Arc<T>,
    former: Option<Arc<T>>,
    /// When its reading began.
    began: Duration,
    last_used: Duration,
    /// When somebody said that it is out of date.
    hinted: Option<Duration>,
    /// When it could not be read again.
    failed: Option<Duration>,
    /// Not in the reading, and not at SuperOffice when we looked.
    absent: HashMap<AssociateId, Duration>,
}

/// What a use may do with what is at hand.
pub(super) enum AtHand<T> {
    /// Use it.
    Fresh(Arc<T>),
    /// Use it, and have it read again meanwhile.
    Ageing(Arc<T>),
    /// Read it again; if that fails, use it.
    Overdue(Arc<T>),
    /// Read it.
    Nothing,
}

impl<T: Reading> Cache<T> {
    pub(super) fn new(rules: CacheRules) -> Self {
        Self { slots: Mutex::default(), rules }
    }

    /// What is at hand for a call that came at `now` and accepts an age of `max_staleness`, if it says so.
    pub(super) fn look(
        &self,
        key: &Key,
        now: Duration,
        max_staleness: Option<Duration>,
    ) -> AtHand<T> {
        let mut slots = self.slots();
        let Some(slot) = slots.get_mut(key) else { return AtHand::Nothing };
        slot.last_used = slot.last_used.max(now);
        let present = Arc::clone(&slot.present);
        // Read after the call came: as new as can be.
        let age = now.saturating_sub(slot.began);
        if max_staleness.is_some_and(|most| age > most) {
            return AtHand::Nothing;
        }
        let max_age = self.rules.max_age;
        let changed = slot.hinted.is_some_and(|hinted| hinted >= slot.began) && age >= HINT_PAUSE;
        if !changed && age <= max_age.mul_f64(0.8) {
            return AtHand::Fresh(present);
        }
        if slot.failed.is_some_and(|failed| now.saturating_sub(failed) < RETRY) {
            return AtHand::Fresh(present);
        }
        match age {
            age if changed || age > max_age + STALE => AtHand::Nothing,
            age if age > max_age => AtHand::Overdue(present),
            _ => AtHand::Ageing(present),
        }
    }

    /// A reading by its id: the last one or the one before.
    pub(super) fn kept(&self, key: &Key, is_it: impl Fn(&T) -> bool) -> Option<Arc<T>> {
        let slots = self.slots();
        let slot = slots.get(key)?;
        let both = std::iter::once(&slot.present).chain(&slot.former);
        both.into_iter().find(|one| is_it(one)).map(Arc::clone)
    }

    /// Takes in a reading that began at `began`, unless a newer one is here. Lets go of what was used longest ago
    /// where room is short.
    pub(super) fn insert(&self, key: &Key, read: Arc<T>, began: Duration) {
        let mut slots = self.slots();
        match slots.get_mut(key) {
            Some(slot) if slot.began > began => return,
            Some(slot) => {
                let former = std::mem::replace(&mut slot.present, read);
                slot.former = former.is_paged().then_some(former);
                slot.began = began;
                slot.failed = None;
                slot.absent.clear();
            }
            None => {
                slots.insert(key.clone(), Slot::new(read, began));
            }
        }
        self.make_room(&mut slots, key);
    }

    /// It could not be read again.
    pub(super) fn failed(&self, key: &Key, now: Duration) {
        if let Some(slot) = self.slots().get_mut(key) {
            slot.failed = Some(now);
        }
    }

    /// Somebody says that what is known of a tenant is out of date. Takes no room for tenants that nobody looks at.
    pub(super) fn hint(&self, tenant: ContextIdentifier, now: Duration) {
        let mut slots = self.slots();
        for (_, slot) in slots.iter_mut().filter(|(key, _)| key.tenant.tenant == tenant) {
            slot.hinted = Some(now);
        }
    }

    /// Whether we looked for it at SuperOffice just now, and nobody had this id.
    pub(super) fn is_absent(&self, key: &Key, id: AssociateId, now: Duration) -> bool {
        let slots = self.slots();
        let looked = slots.get(key).and_then(|slot| slot.absent.get(&id));
        looked.is_some_and(|looked| now.saturating_sub(*looked) < HINT_PAUSE)
    }

    /// Nobody has these ids.
    pub(super) fn absent(&self, key: &Key, ids: impl Iterator<Item = AssociateId>, now: Duration) {
        if let Some(slot) = self.slots().get_mut(key) {
            for id in ids {
                if slot.absent.len() >= MAX_ABSENT {
                    slot.absent.clear();
                }
                slot.absent.insert(id, now);
            }
        }
    }

    /// How much is in memory.
    pub(super) fn weight(&self) -> usize {
        self.slots().values().map(Slot::weight).sum()
    }

    /// Former readings go first: only lists that are being paged through need them.
    fn make_room(&self, slots: &mut HashMap<Key, Slot<T>>, except: &Key) {
        let mut weight: usize = slots.values().map(Slot::weight).sum();
        while weight > self.rules.max_weight {
            let others = slots.iter_mut().filter(|(key, _)| *key != except);
            let oldest = others.min_by_key(|(_, slot)| slot.last_used);
            let Some((key, slot)) = oldest else { break };
            weight -= slot.weight();
            slot.former = None;
            weight += slot.weight();
            if weight > self.rules.max_weight {
                let key = key.clone();
                weight -= slots.remove(&key).map_or(0, |slot| slot.weight());
            }
        }
        if weight > self.rules.max_weight
            && let Some(slot) = slots.get_mut(except)
        {
            slot.former = None;
        }
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<Key, Slot<T>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Reading> Slot<T> {
    fn new(present: Arc<T>, began: Duration) -> Self {
        let absent = HashMap::new();
        Self { present, former: None, began, last_used: began, hinted: None, failed: None, absent }
    }

    fn weight(&self) -> usize {
        self.present.weight() + self.former.as_ref().map_or(0, |former| former.weight())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);
    const MAX_AGE: Duration = Duration::from_mins(15);

    #[derive(Debug, PartialEq)]
    struct People(usize);

    impl Reading for People {
        fn weight(&self) -> usize {
            self.0
        }

        fn is_paged(&self) -> bool {
            self.0 < 1000
        }
    }

    fn cache(max_weight: usize) -> Cache<People> {
        Cache::new(CacheRules { max_age: MAX_AGE, max_weight })
    }

    fn key(tenant: &str) -> Key {
        let tenant = format!("applications/a/tenants/{tenant}").parse().unwrap();
        Key { tenant, eyes: Eyes::SystemUser }
    }

    /// What is at hand, as a word.
    fn seen(cache: &Cache<People>, now: Duration, max_staleness: Option<Duration>) -> &'static str {
        match cache.look(&key("Cust1"), now, max_staleness) {
            AtHand::Fresh(_) => "fresh",
            AtHand::Ageing(_) => "ageing",
            AtHand::Overdue(_) => "overdue",
            AtHand::Nothing => "nothing",
        }
    }

    #[test]
    fn a_reading_is_used_then_renewed_behind_its_readers_then_waited_for_and_at_last_given_up() {
        let cache = cache(10);
        assert_eq!(seen(&cache, MINUTE, None), "nothing");
        cache.insert(&key("Cust1"), Arc::new(People(1)), MINUTE);
        for (minutes, wanted) in [
            (0, "fresh"),
            (1, "fresh"),
            (13, "fresh"),
            (14, "ageing"),
            (16, "ageing"),
            (17, "overdue"),
            (76, "overdue"),
            (77, "nothing"),
        ] {
            assert_eq!(seen(&cache, MINUTE * minutes, None), wanted, "minute {minutes}");
        }
    }

    #[test]
    fn a_caller_bounds_the_age_itself() {
        let cache = cache(10);
        cache.insert(&key("Cust1"), Arc::new(People(1)), MINUTE);
        let at = |minutes, most: Duration| seen(&cache, MINUTE * minutes, Some(most));
        assert_eq!(at(1, Duration::ZERO), "fresh", "read when the call had come");
        assert_eq!(at(2, Duration::ZERO), "nothing");
        assert_eq!(at(2, MINUTE), "fresh");
        assert_eq!(at(30, MINUTE * 20), "nothing");
        // It cannot stretch what everybody else is held to.
        assert_eq!(at(77, Duration::MAX), "nothing");
    }

    #[test]
    fn a_hint_has_it_read_again_but_at_most_once_a_minute() {
        let cache = cache(10);
        cache.insert(&key("Cust1"), Arc::new(People(1)), MINUTE);
        let hint = |seconds| {
            cache.hint("Cust1".parse().unwrap(), MINUTE + Duration::from_secs(seconds));
        };
        hint(10);
        assert_eq!(seen(&cache, MINUTE + Duration::from_secs(59), None), "fresh");
        assert_eq!(seen(&cache, MINUTE * 2, None), "nothing");
        cache.insert(&key("Cust1"), Arc::new(People(1)), MINUTE * 2);
        assert_eq!(seen(&cache, MINUTE * 5, None), "fresh", "the hint is answered");
        cache.hint("Cust2".parse().unwrap(), MINUTE * 6);
        assert_eq!(seen(&cache, MINUTE * 7, None), "fresh", "of another customer");
    }

    #[test]
    fn what_could_not_be_read_again_is_not_tried_by_each_call() {
        let cache = cache(10);
        cache.insert(&key("Cust1"), Arc::new(People(1)), MINUTE);
        cache.failed(&key("Cust1"), MINUTE * 20);
        assert_eq!(seen(&cache, MINUTE * 20, None), "fresh");
        assert_eq!(seen(&cache, MINUTE * 20 + RETRY, None), "overdue");
    }

    #[test]
    fn a_reading_that_was_overtaken_changes_nothing() {
        let cache = cache(10);
        cache.insert(&key("Cust1"), Arc::new(People(2)), MINUTE * 2);
        cache.insert(&key("Cust1"), Arc::new(People(1)), MINUTE);
        assert!(cache.kept(&key("Cust1"), |people| people.0 == 1).is_none());
        assert!(cache.kept(&key("Cust1"), |people| people.0 == 2).is_some());
    }

    #[test]
    fn a_list_can_go_on_in_the_reading_before_the_last() {
        let cache = cache(10);
        for (minute, people) in [(1, 1), (2, 2), (3, 3)] {
            cache.insert(&key("Cust1"), Arc::new(People(people)), MINUTE * minute);
        }
        let kept = |count| cache.kept(&key("Cust1"), |people| people.0 == count).is_some();
        assert_eq!((kept(1), kept(2), kept(3)), (false, true, true));
        // But only where a list goes through it: it takes as much room again.
        for (minute, people) in [(4, 2000), (5, 3000)] {
            cache.insert(&key("Cust1"), Arc::new(People(people)), MINUTE * minute);
        }
        assert_eq!((kept(2000), kept(3000)), (false, true));
    }

    #[test]
    fn who_was_not_looked_at_for_longest_goes_first_and_the_last_read_stays() {
        let cache = cache(10);
        let holds = |tenant| cache.kept(&key(tenant), |_| true).is_some();
        cache.insert(&key("Cust1"), Arc::new(People(4)), MINUTE);
        cache.insert(&key("Cust2"), Arc::new(People(4)), MINUTE * 2);
        assert_eq!(seen(&cache, MINUTE * 3, None), "fresh");
        cache.insert(&key("Cust3"), Arc::new(People(4)), MINUTE * 4);
        assert_eq!((holds("Cust1"), holds("Cust2"), holds("Cust3")), (true, false, true));
        cache.insert(&key("Cust4"), Arc::new(People(1000)), MINUTE * 5);
        assert_eq!((holds("Cust1"), holds("Cust3"), holds("Cust4")), (false, false, true));
        cache.insert(&key("Cust4"), Arc::new(People(1000)), MINUTE * 6);
        assert_eq!(cache.weight(), 1000, "without the one before");
    }

    #[test]
    fn ids_that_nobody_has_are_remembered_for_a_minute_and_not_without_end() {
        let cache = cache(10);
        let id = |number| AssociateId::new(number).unwrap();
        let absent = |number, minutes| cache.is_absent(&key("Cust1"), id(number), MINUTE * minutes);
        cache.absent(&key("Cust1"), [id(1)].into_iter(), MINUTE);
        assert!(!absent(1, 1), "without a reading there is nothing to compare with");
        cache.insert(&key("Cust1"), Arc::new(People(1)), MINUTE);
        cache.absent(&key("Cust1"), [id(1)].into_iter(), MINUTE);
        assert_eq!((absent(1, 1), absent(2, 1), absent(1, 2)), (true, false, false));
        cache.absent(&key("Cust1"), (1..=10_000).map(id), MINUTE);
        let remembered = (1..=10_000).filter(|number| absent(*number, 1)).count();
        assert!((1..=MAX_ABSENT).contains(&remembered), "{remembered}");
    }
}
