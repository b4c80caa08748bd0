//! The cache of associates, and the rules for using its entries. Its lock is held only briefly, never across an await.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;

use crate::{
    broker::BrokerError,
    domain::{Actor, AssociateId, ContextIdentifier, TenantName},
};

/// The shortest time between two reads of a tenant that hints cause.
pub(super) const MIN_HINT_INTERVAL: Duration = Duration::from_mins(1);

/// The time for which an entry is used beyond `max_age` while it cannot be read again.
const MAX_STALE: Duration = Duration::from_hours(1);

/// The first pause after a failed read; the pause doubles with each failure …
const FIRST_BACK_OFF: Duration = Duration::from_secs(5);
/// … up to this.
const LAST_BACK_OFF: Duration = Duration::from_mins(5);

/// The most customers with a remembered hint. Beyond that, the whole cache is cleared.
const MAX_HINTS: usize = 65_536;

/// The most ids for each entry that are remembered as absent.
const MAX_ABSENT: usize = 1000;

/// The key of an entry: a tenant, its current lifetime, and the user as whom it is read.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) tenant: TenantName,
    pub(super) actor: Actor,
    /// The time at which the tenant was added, and the version of its system user token. Data that was read with
    /// another token is not used.
    pub(super) lifetime: (Timestamp, i64),
}

/// A value that is read and cached.
pub(super) trait CacheEntry {
    /// Returns the size, counted in associates.
    fn weight(&self) -> usize;

    /// Returns whether a paged list uses this value and may ask for another page of it.
    fn is_paged(&self) -> bool;
}

/// The limits of the cache.
#[derive(Debug, Clone, Copy)]
pub(super) struct CacheRules {
    pub(super) max_age: Duration,
    /// The size limit, counted in associates. The last value that was read is kept whatever its size.
    pub(super) max_weight: usize,
}

/// The cache: for each key the last value that was read, and the previous one if paged lists use it. All times are by
/// the monotonic clock.
pub(super) struct Cache<T> {
    state: Mutex<CacheState<T>>,
    rules: CacheRules,
}

struct CacheState<T> {
    slots: HashMap<Key, Slot<T>>,
    /// The time of the last hint for each customer.
    hints: HashMap<ContextIdentifier, Duration>,
    failures: HashMap<Key, Failure>,
}

struct Slot<T> {
    current: Arc<T>,
    previous: Option<Arc<T>>,
    /// The time at which its read began.
    began: Duration,
    last_used: Duration,
    /// Ids that are neither in the value nor at SuperOffice, and the time at which SuperOffice was asked.
    absent: HashMap<AssociateId, Duration>,
}

/// The error of the last read, which is returned without another attempt until a time.
struct Failure {
    error: BrokerError,
    until: Duration,
    back_off: Duration,
}

/// The result of a look-up.
pub(super) enum CacheLookup<T> {
    /// Use this value.
    Fresh(Arc<T>),
    /// Use this value, and read it again in the background.
    Ageing(Arc<T>),
    /// Read it again, and use this value only if that fails.
    Overdue(Arc<T>),
    /// Read it: there is no usable value.
    Nothing,
    /// Return this error: the last attempt failed recently.
    Failing(BrokerError),
}

impl<T: CacheEntry> Cache<T> {
    pub(super) fn new(rules: CacheRules) -> Self {
        let (slots, hints, failures) = (HashMap::new(), HashMap::new(), HashMap::new());
        Self { state: Mutex::new(CacheState { slots, hints, failures }), rules }
    }

    /// Looks up a value for a call that arrived at `now` and accepts data of the age `max_staleness`, if given.
    pub(super) fn look_up(
        &self,
        key: &Key,
        now: Duration,
        max_staleness: Option<Duration>,
    ) -> CacheLookup<T> {
        let mut known = self.known();
        let failure = known.failures.get(key).filter(|failure| now < failure.until);
        let failure = failure.map(|failure| failure.error.clone());
        let judged = known.classify(key, now, max_staleness, self.rules.max_age);
        match (judged, failure) {
            (CacheLookup::Ageing(read) | CacheLookup::Overdue(read), Some(_)) => {
                CacheLookup::Fresh(read)
            }
            (CacheLookup::Nothing, Some(error)) => CacheLookup::Failing(error),
            (judged, _) => judged,
        }
    }

    /// Returns the last or previous value for which `is_it` is true, unless it has expired.
    pub(super) fn find(
        &self,
        key: &Key,
        now: Duration,
        is_it: impl Fn(&T) -> bool,
    ) -> Option<Arc<T>> {
        let mut known = self.known();
        let slot = known.slots.get_mut(key)?;
        if now.saturating_sub(slot.began) > self.rules.max_age + MAX_STALE {
            return None;
        }
        slot.last_used = slot.last_used.max(now);
        let both = std::iter::once(&slot.current).chain(&slot.previous);
        both.into_iter().find(|one| is_it(one)).map(Arc::clone)
    }

    /// Returns the last value of the first key for which `is_meant` is true, whatever its age.
    pub(super) fn last_value(&self, is_meant: impl Fn(&Key) -> bool) -> Option<Arc<T>> {
        let known = self.known();
        let found = known.slots.iter().find(|(key, _)| is_meant(key));
        found.map(|(_, slot)| Arc::clone(&slot.current))
    }

    /// Inserts a value whose read began at `began`, unless the cache has a newer one. Evicts the least recently used
    /// values if the cache is too large.
    pub(super) fn insert(&self, key: &Key, read: Arc<T>, began: Duration) {
        // Dropped after the lock is released, because dropping many thousand associates takes a while.
        let mut gone = Vec::new();
        let mut known = self.known();
        known.failures.remove(key);
        match known.slots.get_mut(key) {
            Some(slot) if slot.began > began => return,
            Some(slot) => {
                let former = std::mem::replace(&mut slot.current, read);
                gone.extend(slot.previous.take());
                if former.is_paged() {
                    slot.previous = Some(former);
                } else {
                    gone.push(former);
                }
                slot.began = began;
                slot.absent.clear();
            }
            None => {
                known.slots.insert(key.clone(), Slot::new(read, began));
            }
        }
        known.make_room(key, self.rules.max_weight, &mut gone);
        drop(known);
        drop(gone);
    }

    /// Records a failed read. Look-ups return its error for a while, which doubles with each failure.
    pub(super) fn record_failure(&self, key: &Key, error: &BrokerError, now: Duration) {
        let mut known = self.known();
        known.failures.retain(|_, failure| now < failure.until + LAST_BACK_OFF);
        let before = known.failures.get(key).map(|failure| failure.back_off);
        let back_off = before.map_or(FIRST_BACK_OFF, |before| (before * 2).min(LAST_BACK_OFF));
        let failure = Failure { error: error.clone(), until: now + back_off, back_off };
        known.failures.insert(key.clone(), failure);
    }

    /// Records a hint that the data of a customer is outdated.
    pub(super) fn hint(&self, tenant: ContextIdentifier, now: Duration) {
        let mut known = self.known();
        if known.hints.len() >= MAX_HINTS && !known.hints.contains_key(&tenant) {
            // There are too many hints to remember which entries are outdated.
            known.hints.clear();
            known.slots.clear();
        }
        known.hints.insert(tenant, now);
    }

    /// Removes all entries of a tenant.
    pub(super) fn forget(&self, tenant: &TenantName) {
        // Dropped after the lock is released.
        let mut gone = Vec::new();
        let mut known = self.known();
        known.failures.retain(|key, _| key.tenant != *tenant);
        gone.extend(known.slots.extract_if(|key, _| key.tenant == *tenant));
        drop(known);
        drop(gone);
    }

    /// Returns the tenants that have an entry or a failure.
    pub(super) fn tenants(&self) -> Vec<TenantName> {
        let known = self.known();
        known.slots.keys().chain(known.failures.keys()).map(|key| key.tenant.clone()).collect()
    }

    /// Returns whether this id is known to be absent at SuperOffice since less than a minute.
    pub(super) fn is_absent(&self, key: &Key, id: AssociateId, now: Duration) -> bool {
        let known = self.known();
        let looked = known.slots.get(key).and_then(|slot| slot.absent.get(&id));
        looked.is_some_and(|looked| now.saturating_sub(*looked) < MIN_HINT_INTERVAL)
    }

    /// Records that SuperOffice does not have these ids.
    pub(super) fn record_absent(
        &self,
        key: &Key,
        ids: impl Iterator<Item = AssociateId>,
        now: Duration,
    ) {
        if let Some(slot) = self.known().slots.get_mut(key) {
            for id in ids {
                if slot.absent.len() >= MAX_ABSENT {
                    slot.absent.clear();
                }
                slot.absent.insert(id, now);
            }
        }
    }

    /// Removes expired entries.
    pub(super) fn sweep(&self, now: Duration) {
        let oldest = self.rules.max_age + MAX_STALE;
        let mut known = self.known();
        let gone: Vec<_> =
            known.slots.extract_if(|_, slot| now.saturating_sub(slot.began) > oldest).collect();
        known.hints.retain(|_, hinted| now.saturating_sub(*hinted) <= oldest);
        known.failures.retain(|_, failure| now < failure.until + LAST_BACK_OFF);
        drop(known);
        drop(gone);
    }

    /// Returns the size of all values, counted in associates.
    pub(super) fn weight(&self) -> usize {
        self.known().weight()
    }

    fn known(&self) -> MutexGuard<'_, CacheState<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: CacheEntry> CacheState<T> {
    fn classify(
        &mut self,
        key: &Key,
        now: Duration,
        max_staleness: Option<Duration>,
        max_age: Duration,
    ) -> CacheLookup<T> {
        let hinted = self.hints.get(&key.tenant.tenant).copied();
        let Some(slot) = self.slots.get_mut(key) else { return CacheLookup::Nothing };
        slot.last_used = slot.last_used.max(now);
        let present = Arc::clone(&slot.current);
        // The age is zero if the read began after the call arrived.
        let age = now.saturating_sub(slot.began);
        let changed = hinted.is_some_and(|hinted| hinted >= slot.began) && age >= MIN_HINT_INTERVAL;
        if changed || max_staleness.is_some_and(|most| age > most) || age > max_age + MAX_STALE {
            CacheLookup::Nothing
        } else if age > max_age {
            CacheLookup::Overdue(present)
        } else if age > max_age.mul_f64(0.8) {
            CacheLookup::Ageing(present)
        } else {
            CacheLookup::Fresh(present)
        }
    }

    /// Evicts previous values first, because only paged lists need them.
    fn make_room(&mut self, except: &Key, most: usize, gone: &mut Vec<Arc<T>>) {
        let mut weight = self.weight();
        while weight > most {
            let others = self.slots.iter_mut().filter(|(key, _)| *key != except);
            let oldest = others.min_by_key(|(_, slot)| slot.last_used);
            let Some((key, slot)) = oldest else { break };
            weight -= slot.weight();
            gone.extend(slot.previous.take());
            weight += slot.weight();
            if weight > most {
                let key = key.clone();
                weight -= slot.weight();
                gone.extend(self.slots.remove(&key).map(|slot| slot.current));
            }
        }
        if weight > most
            && let Some(slot) = self.slots.get_mut(except)
        {
            gone.extend(slot.previous.take());
        }
    }

    fn weight(&self) -> usize {
        self.slots.values().map(Slot::weight).sum()
    }
}

impl<T: CacheEntry> Slot<T> {
    fn new(present: Arc<T>, began: Duration) -> Self {
        Self { current: present, previous: None, began, last_used: began, absent: HashMap::new() }
    }

    fn weight(&self) -> usize {
        self.current.weight() + self.previous.as_ref().map_or(0, |former| former.weight())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);
    const MAX_AGE: Duration = Duration::from_mins(15);

    #[derive(Debug, PartialEq)]
    struct People(usize);

    impl CacheEntry for People {
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
        Key { tenant, actor: Actor::SystemUser, lifetime: (Timestamp::UNIX_EPOCH, 1) }
    }

    fn down() -> BrokerError {
        BrokerError::UpstreamUnavailable { retry_after: MINUTE, cause: "down".into() }
    }

    /// Returns the result of a look-up as a word.
    fn seen(cache: &Cache<People>, now: Duration, max_staleness: Option<Duration>) -> &'static str {
        match cache.look_up(&key("Cust1"), now, max_staleness) {
            CacheLookup::Fresh(_) => "fresh",
            CacheLookup::Ageing(_) => "ageing",
            CacheLookup::Overdue(_) => "overdue",
            CacheLookup::Nothing => "nothing",
            CacheLookup::Failing(_) => "failing",
        }
    }

    #[test]
    fn an_entry_becomes_ageing_then_overdue_then_expired() {
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
    fn a_caller_can_limit_the_age() {
        let cache = cache(10);
        cache.insert(&key("Cust1"), Arc::new(People(1)), MINUTE);
        let at = |minutes, most: Duration| seen(&cache, MINUTE * minutes, Some(most));
        assert_eq!(at(1, Duration::ZERO), "fresh", "the read began after the call arrived");
        assert_eq!(at(2, Duration::ZERO), "nothing");
        assert_eq!(at(2, MINUTE), "fresh");
        assert_eq!(at(30, MINUTE * 20), "nothing");
        // A caller cannot extend the general limit.
        assert_eq!(at(77, Duration::MAX), "nothing");
    }

    #[test]
    fn a_hint_causes_a_read_at_most_once_a_minute() {
        let cache = cache(10);
        cache.insert(&key("Cust1"), Arc::new(People(1)), MINUTE);
        let hint = |seconds| {
            cache.hint("Cust1".parse().unwrap(), MINUTE + Duration::from_secs(seconds));
        };
        hint(10);
        assert_eq!(seen(&cache, MINUTE + Duration::from_secs(59), None), "fresh");
        assert_eq!(seen(&cache, MINUTE * 2, None), "nothing");
        cache.insert(&key("Cust1"), Arc::new(People(1)), MINUTE * 2);
        assert_eq!(seen(&cache, MINUTE * 5, None), "fresh", "the hint is used up");
        cache.hint("Cust2".parse().unwrap(), MINUTE * 6);
        assert_eq!(seen(&cache, MINUTE * 7, None), "fresh", "the hint is for another customer");
    }

    #[test]
    fn backs_off_after_failed_reads() {
        let cache = cache(10);
        let at = |minutes: f64, most| seen(&cache, MINUTE.mul_f64(minutes), most);
        cache.record_failure(&key("Cust1"), &down(), MINUTE);
        assert_eq!(at(1.0, None), "failing", "also without an earlier value");
        assert_eq!(at(1.1, None), "nothing");
        cache.insert(&key("Cust1"), Arc::new(People(1)), MINUTE);
        cache.record_failure(&key("Cust1"), &down(), MINUTE * 14);
        assert_eq!(at(14.0, None), "fresh", "the value is still usable");
        assert_eq!(at(14.0, Some(MINUTE)), "failing");
        assert_eq!(at(14.1, None), "ageing");
        for minute in [20.0, 20.1] {
            assert_eq!(at(minute, None), "overdue");
            cache.record_failure(&key("Cust1"), &down(), MINUTE.mul_f64(minute));
            assert_eq!(at(minute, None), "fresh");
        }
        assert_eq!(at(20.2, None), "fresh", "the pause doubles");
        assert_eq!(at(20.3, None), "overdue");
    }

    #[test]
    fn a_failure_does_not_make_an_expired_entry_usable() {
        let cache = cache(10);
        cache.insert(&key("Cust1"), Arc::new(People(1)), MINUTE);
        cache.record_failure(&key("Cust1"), &down(), MINUTE * 200);
        assert_eq!(seen(&cache, MINUTE * 200, None), "failing", "the value is too old");
        cache.insert(&key("Cust1"), Arc::new(People(1)), MINUTE * 300);
        cache.hint("Cust1".parse().unwrap(), MINUTE * 301);
        cache.record_failure(&key("Cust1"), &down(), MINUTE * 302);
        assert_eq!(seen(&cache, MINUTE * 302, None), "failing", "the value is outdated");
    }

    #[test]
    fn keeps_a_hint_that_arrives_during_a_read() {
        let cache = cache(10);
        cache.hint("Cust1".parse().unwrap(), MINUTE + Duration::from_secs(1));
        cache.insert(&key("Cust1"), Arc::new(People(1)), MINUTE);
        assert_eq!(seen(&cache, MINUTE * 2, None), "nothing");
    }

    #[test]
    fn a_tenant_with_another_lifetime_has_its_own_entry() {
        let cache = cache(10);
        cache.insert(&key("Cust1"), Arc::new(People(1)), MINUTE);
        let next = Key { lifetime: (Timestamp::UNIX_EPOCH, 2), ..key("Cust1") };
        assert!(matches!(cache.look_up(&next, MINUTE, None), CacheLookup::Nothing));
    }

    #[test]
    fn removes_expired_entries() {
        let cache = cache(10);
        cache.insert(&key("Cust1"), Arc::new(People(4)), MINUTE);
        cache.sweep(MINUTE * 76);
        assert_eq!(cache.weight(), 4);
        assert!(cache.find(&key("Cust1"), MINUTE * 77, |_| true).is_none());
        cache.sweep(MINUTE * 77);
        assert_eq!(cache.weight(), 0);
    }

    #[test]
    fn ignores_a_read_that_is_older_than_the_entry() {
        let cache = cache(10);
        cache.insert(&key("Cust1"), Arc::new(People(2)), MINUTE * 2);
        cache.insert(&key("Cust1"), Arc::new(People(1)), MINUTE);
        assert!(cache.find(&key("Cust1"), MINUTE, |people| people.0 == 1).is_none());
        assert!(cache.find(&key("Cust1"), MINUTE, |people| people.0 == 2).is_some());
    }

    #[test]
    fn a_paged_list_can_continue_in_the_previous_value() {
        let cache = cache(10);
        for (minute, people) in [(1, 1), (2, 2), (3, 3)] {
            cache.insert(&key("Cust1"), Arc::new(People(people)), MINUTE * minute);
        }
        let kept = |count| cache.find(&key("Cust1"), MINUTE, |people| people.0 == count).is_some();
        assert_eq!((kept(1), kept(2), kept(3)), (false, true, true));
        // The previous value is kept only if a paged list uses it, because it doubles the memory.
        for (minute, people) in [(4, 2000), (5, 3000)] {
            cache.insert(&key("Cust1"), Arc::new(People(people)), MINUTE * minute);
        }
        assert_eq!((kept(2000), kept(3000)), (false, true));
    }

    #[test]
    fn evicts_the_least_recently_used_entry_and_keeps_the_last_read() {
        let cache = cache(10);
        let holds = |tenant| cache.find(&key(tenant), MINUTE, |_| true).is_some();
        cache.insert(&key("Cust1"), Arc::new(People(4)), MINUTE);
        cache.insert(&key("Cust2"), Arc::new(People(4)), MINUTE * 2);
        assert_eq!(seen(&cache, MINUTE * 3, None), "fresh");
        cache.insert(&key("Cust3"), Arc::new(People(4)), MINUTE * 4);
        assert_eq!((holds("Cust1"), holds("Cust2"), holds("Cust3")), (true, false, true));
        cache.insert(&key("Cust4"), Arc::new(People(1000)), MINUTE * 5);
        assert_eq!((holds("Cust1"), holds("Cust3"), holds("Cust4")), (false, false, true));
        cache.insert(&key("Cust4"), Arc::new(People(1000)), MINUTE * 6);
        assert_eq!(cache.weight(), 1000, "the previous value is not counted");
    }

    #[test]
    fn remembers_a_limited_number_of_absent_ids_for_a_minute() {
        let cache = cache(10);
        let id = |number| AssociateId::new(number).unwrap();
        let absent = |number, minutes| cache.is_absent(&key("Cust1"), id(number), MINUTE * minutes);
        cache.record_absent(&key("Cust1"), [id(1)].into_iter(), MINUTE);
        assert!(!absent(1, 1), "absent ids are stored only with an entry");
        cache.insert(&key("Cust1"), Arc::new(People(1)), MINUTE);
        cache.record_absent(&key("Cust1"), [id(1)].into_iter(), MINUTE);
        assert_eq!((absent(1, 1), absent(2, 1), absent(1, 2)), (true, false, false));
        cache.record_absent(&key("Cust1"), (1..=10_000).map(id), MINUTE);
        let remembered = (1..=10_000).filter(|number| absent(*number, 1)).count();
        assert!((1..=MAX_ABSENT).contains(&remembered), "{remembered}");
    }
}
