//! The calls to one tenant: how many may go now, and who is next.
//!
//! Calls go at an even pace, with a burst after a pause (a token bucket, kept as the one moment at which it would be
//! full again). Who must wait stands in the queue of the account that pays for the call; accounts take turns, so a
//! thousand calls of one delay the single call of another by one turn.

use std::{collections::VecDeque, num::NonZeroU32, sync::Arc, time::Duration};

use tokio::sync::Notify;

/// How many Web API calls an application may make to one tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallRate {
    /// A second, over time.
    pub per_second: NonZeroU32,
    /// At once after a pause.
    pub burst: NonZeroU32,
}

impl CallRate {
    /// Between two calls, over time.
    pub(super) fn interval(self) -> Duration {
        Duration::from_secs(1) / self.per_second.get()
    }

    /// How far calls may run ahead of the even pace.
    fn lead(self) -> Duration {
        self.interval() * (self.burst.get() - 1)
    }
}

/// All moments are those of a monotonic clock.
#[derive(Debug)]
pub(super) struct Lane {
    rate: CallRate,
    /// When the next call would be due at an even pace. It may go earlier by the lead that a burst gives.
    due: Duration,
    /// SuperOffice wants no call before this.
    not_before: Duration,
    /// Accounts with calls that wait; the first of the first is next.
    rotation: VecDeque<Account>,
}

#[derive(Debug)]
struct Account {
    name: Arc<str>,
    waiting: VecDeque<Waiter>,
}

/// A call that waits.
#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) id: u64,
    /// After this it is not worth its turn.
    pub(super) last: Duration,
    /// Told when it is next, or has nothing to wait for any more.
    pub(super) wake: Arc<Notify>,
}

impl Lane {
    pub(super) fn new(rate: CallRate) -> Self {
        let (due, not_before) = (Duration::ZERO, Duration::ZERO);
        Self { rate, due, not_before, rotation: VecDeque::new() }
    }

    /// When a call can go that lets so many others go first, if none comes in between.
    pub(super) fn opens(&self, others: usize, now: Duration) -> Duration {
        let others = u32::try_from(others).unwrap_or(u32::MAX);
        let due = self.due.max(now).saturating_add(self.rate.interval().saturating_mul(others));
        due.saturating_sub(self.rate.lead()).max(self.not_before).max(now)
    }

    /// Lets one call go, if one may go now.
    pub(super) fn take(&mut self, now: Duration) -> bool {
        let open = self.opens(0, now) <= now;
        if open {
            self.due = self.due.max(now) + self.rate.interval();
        }
        open
    }

    /// Lets no call go for a while, and then begins gently.
    pub(super) fn pause(&mut self, until: Duration) {
        self.not_before = self.not_before.max(until);
        self.due = self.due.max(until.saturating_add(self.rate.lead()));
        for waiter in self.rotation.iter().flat_map(|account| &account.waiting) {
            if waiter.last < until {
                waiter.wake.notify_one();
            }
        }
    }

    /// Whether a call that is not worth its turn after `last` waits in vain.
    pub(super) fn is_paused_beyond(&self, last: Duration) -> bool {
        last < self.not_before
    }

    pub(super) fn waiting(&self) -> usize {
        self.rotation.iter().map(|account| account.waiting.len()).sum()
    }

    pub(super) fn nobody_waits(&self) -> bool {
        self.rotation.is_empty()
    }

    /// Whether it is as if it had never been used.
    pub(super) fn is_fresh(&self, now: Duration) -> bool {
        self.nobody_waits() && self.due <= now && self.not_before <= now
    }

    /// How many go before a call that this account would add now.
    pub(super) fn before(&self, account: &str) -> usize {
        let place = self.place(account);
        let own = place.and_then(|place| self.rotation.get(place));
        let own = own.map_or(0, |own| own.waiting.len());
        let rounds = |(at, other): (usize, &Account)| {
            // Those that stand before it in the rotation come once more.
            let again = place.is_none_or(|place| at < place);
            other.waiting.len().min(own + usize::from(again))
        };
        self.rotation.iter().enumerate().map(rounds).sum()
    }

    pub(super) fn join(&mut self, account: &Arc<str>, waiter: Waiter) {
        match self.place(account).and_then(|place| self.rotation.get_mut(place)) {
            Some(own) => own.waiting.push_back(waiter),
            None => self
                .rotation
                .push_back(Account { name: Arc::clone(account), waiting: [waiter].into() }),
        }
    }

    pub(super) fn is_next(&self, id: u64) -> bool {
        self.next().is_some_and(|next| next.id == id)
    }

    /// Takes the one that is next out, and lets its account wait for its next turn.
    pub(super) fn serve_next(&mut self) {
        let Some(mut account) = self.rotation.pop_front() else { return };
        account.waiting.pop_front();
        if !account.waiting.is_empty() {
            self.rotation.push_back(account);
        }
        self.tell_next();
    }

    /// Takes out one that goes without its turn.
    pub(super) fn leave(&mut self, account: &str, id: u64) {
        let was_next = self.is_next(id);
        if let Some(place) = self.place(account)
            && let Some(own) = self.rotation.get_mut(place)
        {
            own.waiting.retain(|waiter| waiter.id != id);
            if own.waiting.is_empty() {
                self.rotation.remove(place);
            }
        }
        if was_next {
            self.tell_next();
        }
    }

    fn next(&self) -> Option<&Waiter> {
        self.rotation.front()?.waiting.front()
    }

    /// Who is next keeps the time.
    fn tell_next(&self) {
        if let Some(next) = self.next() {
            next.wake.notify_one();
        }
    }

    fn place(&self, account: &str) -> Option<usize> {
        self.rotation.iter().position(|known| &*known.name == account)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rate(per_second: u32, burst: u32) -> CallRate {
        let whole = |number| NonZeroU32::new(number).unwrap();
        CallRate { per_second: whole(per_second), burst: whole(burst) }
    }

    fn join(lane: &mut Lane, account: &str, id: u64) {
        let waiter = Waiter { id, last: Duration::MAX, wake: Arc::default() };
        lane.join(&account.into(), waiter);
    }

    /// Who is served, in order.
    fn served(lane: &mut Lane) -> Vec<u64> {
        let mut served = Vec::new();
        while let Some(next) = lane.next() {
            served.push(next.id);
            lane.serve_next();
        }
        served
    }

    #[test]
    fn a_burst_goes_at_once_and_then_one_each_interval() {
        let mut lane = Lane::new(rate(10, 3));
        let now = Duration::from_secs(7);
        assert_eq!([(); 4].map(|()| lane.take(now)), [true, true, true, false]);
        assert_eq!(lane.opens(0, now), now + Duration::from_millis(100));
        assert_eq!(lane.opens(4, now), now + Duration::from_millis(500));
        let later = now + Duration::from_millis(250);
        assert_eq!([(); 3].map(|()| lane.take(later)), [true, true, false]);
    }

    #[test]
    fn accounts_take_turns_and_each_keeps_its_own_order() {
        let mut lane = Lane::new(rate(1, 1));
        for (account, id) in [("a", 1), ("a", 2), ("a", 3), ("b", 4), ("c", 5), ("c", 6)] {
            join(&mut lane, account, id);
        }
        assert_eq!(served(&mut lane), [1, 4, 5, 2, 6, 3]);
    }

    #[test]
    fn a_pause_lets_nobody_go_and_then_begins_gently() {
        let mut lane = Lane::new(rate(10, 5));
        let until = Duration::from_secs(3);
        lane.pause(until);
        lane.pause(Duration::from_secs(1));
        assert!(!lane.take(Duration::from_millis(2_999)));
        assert!(lane.is_paused_beyond(Duration::from_secs(2)));
        assert!(lane.take(until));
        assert!(!lane.take(until));
        assert!(lane.take(until + Duration::from_millis(100)));
    }

    proptest! {
        #[test]
        fn in_no_window_do_more_go_than_the_burst_and_the_rate_allow(
            per_second in 1_u32..50,
            burst in 1_u32..20,
            steps in prop::collection::vec((0_u64..400, 0_u64..40, 1_usize..30), 1..60),
        ) {
            let rate = rate(per_second, burst);
            let mut lane = Lane::new(rate);
            let (mut now, mut went) = (Duration::from_secs(1), Vec::new());
            for (wait, pause, calls) in steps {
                now += Duration::from_millis(wait);
                if pause == 0 {
                    lane.pause(now + Duration::from_millis(wait));
                }
                for _ in 0..calls {
                    if lane.take(now) {
                        went.push(now);
                    }
                }
            }
            for (first, begin) in went.iter().enumerate() {
                for (last, end) in went.iter().enumerate().skip(first) {
                    let refilled = end.saturating_sub(*begin).as_secs_f64() * f64::from(per_second);
                    let most = f64::from(burst) + refilled + 1e-6;
                    prop_assert!(f64::from(u32::try_from(last - first + 1).unwrap()) <= most);
                }
            }
        }

        #[test]
        fn how_many_go_first_is_told_rightly_and_nobody_waits_for_more_than_a_turn_of_each(
            accounts in prop::collection::vec(0_u8..6, 0..60),
            served_first in 0_usize..10,
            newcomer in 0_u8..7,
        ) {
            let mut lane = Lane::new(rate(1, 1));
            for (id, account) in (0..).zip(&accounts) {
                join(&mut lane, &account.to_string(), id);
            }
            (0..served_first).for_each(|_| lane.serve_next());
            let newcomer = newcomer.to_string();
            let told = lane.before(&newcomer);
            let (own, others) = match lane.place(&newcomer).and_then(|place| lane.rotation.get(place)) {
                Some(own) => (own.waiting.len(), lane.rotation.len() - 1),
                None => (0, lane.rotation.len()),
            };
            join(&mut lane, &newcomer, 1_000);
            let order = served(&mut lane);
            prop_assert_eq!(order.iter().position(|id| *id == 1_000), Some(told));
            prop_assert!(told <= own + (own + 1) * others);
        }
    }
}
