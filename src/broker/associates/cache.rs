//! What is in memory of the people of tenants, and whether it may still be used. Short critical sections, never across
//! an await.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;

use crate::{
    broker::BrokerError,
    domain::{AssociateId, ContextIdentifier, Eyes, TenantName},
};

/// Because somebody says that something has changed, a tenant is read again at most once in this time.
pub(super) const HINT_PAUSE: Duration = Duration::from_mins(1);

/// While it cannot be read again, what was read is used for so much longer than it is otherwise.
const STALE: Duration = Duration::from_hours(1);

/// After a reading that failed nobody tries again for this long at first, then twice as long …
const FIRST_BACK_OFF: Duration = Duration::from_secs(5);
/// … up to this.
const LAST_BACK_OFF: Duration = Duration::from_mins(5);

/// How many customers can be told apart that somebody says have changed. Beyond that, all have.
const MAX_HINTS: usize = 65_536;

/// How many ids are remembered that nobody has.
const MAX_ABSENT: usize = 1000;

/// A tenant in its present life, and whose eyes look at it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) tenant: TenantName,
    pub(super) eyes: Eyes,
    /// When the tenant was added, and which system user token it has: what was seen under another is not seen now.
    pub(super) life: (Timestamp, i64),
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
    known: Mutex<Known<T>>,
    rules: CacheRules,
}

struct Known<T> {
    slots: HashMap<Key, Slot<T>>,
    /// When somebody last said that what is known of a customer is out of date.
    hints: HashMap<ContextIdentifier, Duration>,
    failures: HashMap<Key, Failure>,
}

struct Slot<T> {
    present: Arc<T>,
    former: Option<Arc<T>>,
    /// When its reading began.
    began: Duration,
    last_used: Duration,
    /// Not in the reading, and not at SuperOffice when we looked.
    absent: HashMap<AssociateId, Duration>,
}

/// Why it could not be read, which is not found out again before a time.
struct Failure {
    error: BrokerError,
    until: Duration,
    back_off: Duration,
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
    /// It was tried just now.
    Failing(BrokerError),
}

impl<T: Reading> Cache<T> {
    pub(super) fn new(rules: CacheRules) -> Self {
        let (slots, hints, failures) = (HashMap::new(), HashMap::new(), HashMap::new());
        Self { known: Mutex::new(Known { slots, hints, failures }), rules }
    }

    /// What is at hand for a call that came at `now` and accepts an age of `max_staleness`, if it says so.
    pub(super) fn look(
        &self,
        key: &Key,
        now: Duration,
        max_staleness: Option<Duration>,
    ) -> AtHand<T> {
        let mut known = self.known();
        let failure = known.failures.get(key).filter(|failure| now < failure.until);
        let failure = failure.map(|failure| failure.error.clone());
        let judged = known.judge(key, now, max_staleness, self.rules.max_age);
        match (judged, failure) {
            (AtHand::Ageing(read) | AtHand::Overdue(read), Some(_)) => AtHand::Fresh(read),
            (AtHand::Nothing, Some(error)) => AtHand::Failing(error),
            (judged, _) => judged,
        }
    }

    /// A reading by its id: the last one or the one before, if it may still be used at all.
    pub(super) fn kept(
        &self,
        key: &Key,
        now: Duration,
        is_it: impl Fn(&T) -> bool,
    ) -> Option<Arc<T>> {
        let mut known = self.known();
        let slot = known.slots.get_mut(key)?;
        if now.saturating_sub(slot.began) > self.rules.max_age + STALE {
            return None;
        }
        slot.last_used = slot.last_used.max(now);
        let both = std::iter::once(&slot.present).chain(&slot.former);
        both.into_iter().find(|one| is_it(one)).map(Arc::clone)
    }

    /// The last reading of the first that is meant, however old.
    pub(super) fn seen(&self, is_meant: impl Fn(&Key) -> bool) -> Option<Arc<T>> {
        let known = self.known();
        let found = known.slots.iter().find(|(key, _)| is_meant(key));
        found.map(|(_, slot)| Arc::clone(&slot.present))
    }

    /// Takes in a reading that began at `began`, unless a newer one is here. Lets go of what was used longest ago
    /// where room is short.
    pub(super) fn insert(&self, key: &Key, read: Arc<T>, began: Duration) {
        // Dropped when nobody waits for the lock any more: many thousand people take a while.
        let mut gone = Vec::new();
        let mut known = self.known();
        known.failures.remove(key);
        match known.slots.get_mut(key) {
            Some(slot) if slot.began > began => return,
            Some(slot) => {
                let former = std::mem::replace(&mut slot.present, read);
                gone.extend(slot.former.take());
                if former.is_paged() {
                    slot.former = Some(former);
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

    /// It could not be read: whoever asks is told so for a while, each time twice as long.
    pub(super) fn failed(&self, key: &Key, error: &BrokerError, now: Duration) {
        let mut known = self.known();
        known.failures.retain(|_, failure| now < failure.until + LAST_BACK_OFF);
        let before = known.failures.get(key).map(|failure| failure.back_off);
        let back_off = before.map_or(FIRST_BACK_OFF, |before| (before * 2).min(LAST_BACK_OFF));
        let failure = Failure { error: error.clone(), until: now + back_off, back_off };
        known.failures.insert(key.clone(), failure);
    }

    /// Somebody says that what is known of a customer is out of date.
    pub(super) fn hint(&self, tenant: ContextIdentifier, now: Duration) {
        let mut known = self.known();
        if known.hints.len() >= MAX_HINTS && !known.hints.contains_key(&tenant) {
            // Nobody can tell any more what is out of date.
            known.hints.clear();
            known.slots.clear();
        }
        known.hints.insert(tenant, now);
    }

    /// Lets go of everything of a tenant.
    pub(super) fn forget(&self, tenant: &TenantName) {
        // Dropped when nobody waits for the lock any more.
        let mut gone = Vec::new();
        let mut known = self.known();
        known.failures.retain(|key, _| key.tenant != *tenant);
        gone.extend(known.slots.extract_if(|key, _| key.tenant == *tenant));
        drop(known);
        drop(gone);
    }

    /// Tenants of which something is known.
    pub(super) fn tenants(&self) -> Vec<TenantName> {
        let known = self.known();
        known.slots.keys().chain(known.failures.keys()).map(|key| key.tenant.clone()).collect()
    }

    /// Whether we looked for it at SuperOffice just now, and nobody had this id.
    pub(super) fn is_absent(&self, key: &Key, id: AssociateId, now: Duration) -> bool {
        let known = self.known();
        let looked = known.slots.get(key).and_then(|slot| slot.absent.get(&id));
        looked.is_some_and(|looked| now.saturating_sub(*looked) < HINT_PAUSE)
    }

    /// Nobody has these ids.
    pub(super) fn absent(&self, key: &Key, ids: impl Iterator<Item = AssociateId>, now: Duration) {
        if let Some(slot) = self.known().slots.get_mut(key) {
            for id in ids {
                if slot.absent.len() >= MAX_ABSENT {
                    slot.absent.clear();
                }
                slot.absent.insert(id, now);
            }
        }
    }

    /// Lets go of what is too old to be used.
    pub(super) fn sweep(&self, now: Duration) {
        let oldest = self.rules.max_age + STALE;
        let mut known = self.known();
        let gone: Vec<_> =
            known.slots.extract_if(|_, slot| now.saturating_sub(slot.began) > oldest).collect();
        known.hints.retain(|_, hinted| now.saturating_sub(*hinted) <= oldest);
        known.failures.retain(|_, failure| now < failure.until + LAST_BACK_OFF);
        drop(known);
        drop(gone);
    }

    /// How much is in memory.
    pub(super) fn weight(&self) -> usize {
        self.known().weight()
    }

    fn known(&self) -> MutexGuard<'_, Known<T>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Reading> Known<T> {
    fn judge(
        &mut self,
        key: &Key,
        now: Duration,
        max_staleness: Option<Duration>,
        max_age: Duration,
    ) -> AtHand<T> {
        let hinted = self.hints.get(&key.tenant.tenant).copied();
        let Some(slot) = self.slots.get_mut(key) else { return AtHand::Nothing };
        slot.last_used = slot.last_used.max(now);
        let present = Arc::clone(&slot.present);
        // Read after the call came: as new as can be.
        let age = now.saturating_sub(slot.began);
        let changed = hinted.is_some_and(|hinted| hinted >= slot.began) && age >= HINT_PAUSE;
        if changed || max_staleness.is_some_and(|most| age > most) || age > max_age + STALE {
            AtHand::Nothing
        } else if age > max_age {
            AtHand::Overdue(present)
        } else if age > max_age.mul_f64(0.8) {
            AtHand::Ageing(present)
        } else {
            AtHand::Fresh(present)
        }
    }

    /// Former readings go first: only lists that are being paged through need them.
    fn make_room(&mut self, except: &Key, most: usize, gone: &mut Vec<Arc<T>>) {
        let mut weight = self.weight();
        while weight > most {
            let others = self.slots.iter_mut().filter(|(key, _)| *key != except);
            let oldest = others.min_by_key(|(_, slot)| slot.last_used);
            let Some((key, slot)) = oldest else { break };
            weight -= slot.weight();
            gone.extend(slot.former.take());
            weight += slot.weight();
            if weight > most {
                let key = key.clone();
                weight -= slot.weight();
                gone.extend(self.slots.remove(&key).map(|slot| slot.present));
            }
        }
        if weight > most
            && let Some(slot) = self.slots.get_mut(except)
        {
            gone.extend(slot.former.take());
        }
    }

    fn weight(&self) -> usize {
        self.slots.values().map(Slot::weight).sum()
    }
}

impl<T: Reading> Slot<T> {
    fn new(present: Arc<T>, began: Duration) -> Self {
        Self { present, former: None, began, last_used: began, absent: HashMap::new() }
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
        Key { tenant, eyes: Eyes::SystemUser, life: (Timestamp::UNIX_EPOCH, 1) }
    }

    fn down() -> BrokerError {
        BrokerError::UpstreamUnavailable { retry_after: MINUTE, cause: "down".into() }
    }

    /// What is at hand, as a word.
    fn seen(cache: &Cache<People>, now: Duration, max_staleness: Option<Duration>) -> &'static str {
        match cache.look(&key("Cust1"), now, max_staleness) {
            AtHand::Fresh(_) => "fresh",
            AtHand::Ageing(_) => "ageing",
            AtHand::Overdue(_) => "overdue",
            AtHand::Nothing => "nothing",
            AtHand::Failing(_) => "failing",
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
        let at = |minutes: f64, most| seen(&cache, MINUTE.mul_f64(minutes), most);
        cache.failed(&key("Cust1"), &down(), MINUTE);
        assert_eq!(at(1.0, None), "failing", "also where it was never read");
        assert_eq!(at(1.1, None), "nothing");
        cache.insert(&key("Cust1"), Arc::new(People(1)), MINUTE);
        cache.failed(&key("Cust1"), &down(), MINUTE * 14);
        assert_eq!(at(14.0, None), "fresh", "it may still be used");
        assert_eq!(at(14.0, Some(MINUTE)), "failing");
        assert_eq!(at(14.1, None), "ageing");
        for minute in [20.0, 20.1] {
            assert_eq!(at(minute, None), "overdue");
            cache.failed(&key("Cust1"), &down(), MINUTE.mul_f64(minute));
            assert_eq!(at(minute, None), "fresh");
        }
        assert_eq!(at(20.2, None), "fresh", "each time twice as long");
        assert_eq!(at(20.3, None), "overdue");
    }

    #[test]
    fn a_failure_makes_nothing_usable_that_was_not() {
        let cache = cache(10);
        cache.insert(&key("Cust1"), Arc::new(People(1)), MINUTE);
        cache.failed(&key("Cust1"), &down(), MINUTE * 200);
        assert_eq!(seen(&cache, MINUTE * 200, None), "failing", "too old");
        cache.insert(&key("Cust1"), Arc::new(People(1)), MINUTE * 300);
        cache.hint("Cust1".parse().unwrap(), MINUTE * 301);
        cache.failed(&key("Cust1"), &down(), MINUTE * 302);
        assert_eq!(seen(&cache, MINUTE * 302, None), "failing", "out of date");
    }

    #[test]
    fn a_hint_that_comes_while_it_is_read_is_not_forgotten() {
        let cache = cache(10);
        cache.hint("Cust1".parse().unwrap(), MINUTE + Duration::from_secs(1));
        cache.insert(&key("Cust1"), Arc::new(People(1)), MINUTE);
        assert_eq!(seen(&cache, MINUTE * 2, None), "nothing");
    }

    #[test]
    fn another_life_of_a_tenant_sees_nothing_of_the_one_before() {
        let cache = cache(10);
        cache.insert(&key("Cust1"), Arc::new(People(1)), MINUTE);
        let next = Key { life: (Timestamp::UNIX_EPOCH, 2), ..key("Cust1") };
        assert!(matches!(cache.look(&next, MINUTE, None), AtHand::Nothing));
    }

    #[test]
    fn what_is_too_old_is_let_go() {
        let cache = cache(10);
        cache.insert(&key("Cust1"), Arc::new(People(4)), MINUTE);
        cache.sweep(MINUTE * 76);
        assert_eq!(cache.weight(), 4);
        assert!(cache.kept(&key("Cust1"), MINUTE * 77, |_| true).is_none());
        cache.sweep(MINUTE * 77);
        assert_eq!(cache.weight(), 0);
    }

    #[test]
    fn a_reading_that_was_overtaken_changes_nothing() {
        let cache = cache(10);
        cache.insert(&key("Cust1"), Arc::new(People(2)), MINUTE * 2);
        cache.insert(&key("Cust1"), Arc::new(People(1)), MINUTE);
        assert!(cache.kept(&key("Cust1"), MINUTE, |people| people.0 == 1).is_none());
        assert!(cache.kept(&key("Cust1"), MINUTE, |people| people.0 == 2).is_some());
    }

    #[test]
    fn a_list_can_go_on_in_the_reading_before_the_last() {
        let cache = cache(10);
        for (minute, people) in [(1, 1), (2, 2), (3, 3)] {
            cache.insert(&key("Cust1"), Arc::new(People(people)), MINUTE * minute);
        }
        let kept = |count| cache.kept(&key("Cust1"), MINUTE, |people| people.0 == count).is_some();
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
        let holds = |tenant| cache.kept(&key(tenant), MINUTE, |_| true).is_some();
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
