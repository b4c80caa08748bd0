//! The rate limiter and the queue of calls to one tenant.
//!
//! The rate is a token bucket: an even rate, with a burst after a pause. It is stored as the time of the next regular
//! call. Each queue key has its own queue, and the queues are served round-robin. So a thousand calls of one caller
//! delay the single call of another caller by one call.

use std::{collections::VecDeque, num::NonZeroU32, sync::Arc, time::Duration};

use tokio::sync::Notify;

/// The rate of Web API calls that an application may make to one tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallRate {
    /// The long-term number of calls per second.
    pub per_second: NonZeroU32,
    /// The number of calls that may be made at once after a pause.
    pub burst: NonZeroU32,
}

impl CallRate {
    /// Returns the long-term interval between two calls.
    pub(super) fn interval(self) -> Duration {
        Duration::from_secs(1) / self.per_second.get()
    }

    /// Returns how much earlier than at the even rate a call may be made.
    fn burst_lead(self) -> Duration {
        self.interval() * (self.burst.get() - 1)
    }
}

/// The rate limiter of one tenant. All times are on a monotonic clock.
#[derive(Debug)]
pub(super) struct TenantLimiter {
    rate: CallRate,
    /// The time of the next call at the even rate. A burst allows a call earlier than this.
    due: Duration,
    /// The end of the pause that SuperOffice has requested.
    not_before: Duration,
    /// The queues with waiting calls. The first call of the first queue is next.
    rotation: VecDeque<CallQueue>,
}

#[derive(Debug)]
struct CallQueue {
    key: Arc<str>,
    waiting: VecDeque<Waiter>,
}

/// A waiting call.
#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) id: u64,
    /// The time after which the call no longer needs a permit.
    pub(super) deadline: Duration,
    /// Notified when the call becomes first, or when waiting has become pointless.
    pub(super) wake: Arc<Notify>,
}

impl TenantLimiter {
    pub(super) fn new(rate: CallRate) -> Self {
        let (due, not_before) = (Duration::ZERO, Duration::ZERO);
        Self { rate, due, not_before, rotation: VecDeque::new() }
    }

    /// Returns the earliest time for a call behind `others` calls, if no further call comes before it.
    pub(super) fn earliest_time(&self, others: usize, now: Duration) -> Duration {
        let others = u32::try_from(others).unwrap_or(u32::MAX);
        let due = self.due.max(now).saturating_add(self.rate.interval().saturating_mul(others));
        due.saturating_sub(self.rate.burst_lead()).max(self.not_before).max(now)
    }

    /// Permits one call now and returns `true`, if the rate allows it.
    pub(super) fn try_take(&mut self, now: Duration) -> bool {
        let open = self.earliest_time(0, now) <= now;
        if open {
            self.due = self.due.max(now) + self.rate.interval();
        }
        open
    }

    /// Permits no call until `until`, and no burst right after it.
    pub(super) fn pause(&mut self, until: Duration) {
        self.not_before = self.not_before.max(until);
        self.due = self.due.max(until.saturating_add(self.rate.burst_lead()));
        for waiter in self.rotation.iter().flat_map(|queue| &queue.waiting) {
            if waiter.deadline < until {
                waiter.wake.notify_one();
            }
        }
    }

    /// Returns whether the pause lasts longer than this deadline.
    pub(super) fn is_paused_beyond(&self, deadline: Duration) -> bool {
        deadline < self.not_before
    }

    pub(super) fn waiting(&self) -> usize {
        self.rotation.iter().map(|queue| queue.waiting.len()).sum()
    }

    pub(super) fn has_no_waiters(&self) -> bool {
        self.rotation.is_empty()
    }

    /// Returns whether the limiter is in its initial state: no waiters, a full bucket, and no pause.
    pub(super) fn is_unused(&self, now: Duration) -> bool {
        self.has_no_waiters() && self.due <= now && self.not_before <= now
    }

    /// Returns the number of calls that would be served before a new call of this queue.
    pub(super) fn calls_ahead(&self, queue_key: &str) -> usize {
        let place = self.position(queue_key);
        let own = place.and_then(|place| self.rotation.get(place));
        let own = own.map_or(0, |own| own.waiting.len());
        let rounds = |(at, other): (usize, &CallQueue)| {
            // A queue before this one in the rotation is served one more time.
            let again = place.is_none_or(|place| at < place);
            other.waiting.len().min(own + usize::from(again))
        };
        self.rotation.iter().enumerate().map(rounds).sum()
    }

    pub(super) fn enqueue(&mut self, queue_key: &Arc<str>, waiter: Waiter) {
        match self.position(queue_key).and_then(|place| self.rotation.get_mut(place)) {
            Some(own) => own.waiting.push_back(waiter),
            None => self
                .rotation
                .push_back(CallQueue { key: Arc::clone(queue_key), waiting: [waiter].into() }),
        }
    }

    pub(super) fn is_next(&self, id: u64) -> bool {
        self.next().is_some_and(|next| next.id == id)
    }

    /// Removes the first call, and moves its queue to the end of the rotation.
    pub(super) fn serve_next(&mut self) {
        let Some(mut queue) = self.rotation.pop_front() else { return };
        queue.waiting.pop_front();
        if !queue.waiting.is_empty() {
            self.rotation.push_back(queue);
        }
        self.wake_next();
    }

    /// Removes a waiting call that was not served.
    pub(super) fn remove(&mut self, queue_key: &str, id: u64) {
        let was_next = self.is_next(id);
        if let Some(place) = self.position(queue_key)
            && let Some(own) = self.rotation.get_mut(place)
        {
            own.waiting.retain(|waiter| waiter.id != id);
            if own.waiting.is_empty() {
                self.rotation.remove(place);
            }
        }
        if was_next {
            self.wake_next();
        }
    }

    fn next(&self) -> Option<&Waiter> {
        self.rotation.front()?.waiting.front()
    }

    /// Wakes the first waiter, which then sleeps until its time.
    fn wake_next(&self) {
        if let Some(next) = self.next() {
            next.wake.notify_one();
        }
    }

    fn position(&self, queue_key: &str) -> Option<usize> {
        self.rotation.iter().position(|known| &*known.key == queue_key)
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

    fn enqueue(limiter: &mut TenantLimiter, queue_key: &str, id: u64) {
        let waiter = Waiter { id, deadline: Duration::MAX, wake: Arc::default() };
        limiter.enqueue(&queue_key.into(), waiter);
    }

    /// Returns the ids in the order in which they are served.
    fn served(limiter: &mut TenantLimiter) -> Vec<u64> {
        let mut served = Vec::new();
        while let Some(next) = limiter.next() {
            served.push(next.id);
            limiter.serve_next();
        }
        served
    }

    #[test]
    fn a_burst_is_permitted_at_once_then_one_call_per_interval() {
        let mut limiter = TenantLimiter::new(rate(10, 3));
        let now = Duration::from_secs(7);
        assert_eq!([(); 4].map(|()| limiter.try_take(now)), [true, true, true, false]);
        assert_eq!(limiter.earliest_time(0, now), now + Duration::from_millis(100));
        assert_eq!(limiter.earliest_time(4, now), now + Duration::from_millis(500));
        let later = now + Duration::from_millis(250);
        assert_eq!([(); 3].map(|()| limiter.try_take(later)), [true, true, false]);
    }

    #[test]
    fn queues_take_turns_and_each_keeps_its_own_order() {
        let mut limiter = TenantLimiter::new(rate(1, 1));
        for (queue_key, id) in [("a", 1), ("a", 2), ("a", 3), ("b", 4), ("c", 5), ("c", 6)] {
            enqueue(&mut limiter, queue_key, id);
        }
        assert_eq!(served(&mut limiter), [1, 4, 5, 2, 6, 3]);
    }

    #[test]
    fn a_pause_permits_no_call_and_no_burst_after_it() {
        let mut limiter = TenantLimiter::new(rate(10, 5));
        let until = Duration::from_secs(3);
        limiter.pause(until);
        limiter.pause(Duration::from_secs(1));
        assert!(!limiter.try_take(Duration::from_millis(2_999)));
        assert!(limiter.is_paused_beyond(Duration::from_secs(2)));
        assert!(limiter.try_take(until));
        assert!(!limiter.try_take(until));
        assert!(limiter.try_take(until + Duration::from_millis(100)));
    }

    proptest! {
        #[test]
        fn no_window_permits_more_calls_than_burst_and_rate(
            per_second in 1_u32..50,
            burst in 1_u32..20,
            steps in prop::collection::vec((0_u64..400, 0_u64..40, 1_usize..30), 1..60),
        ) {
            let rate = rate(per_second, burst);
            let mut limiter = TenantLimiter::new(rate);
            let (mut now, mut went) = (Duration::from_secs(1), Vec::new());
            for (wait, pause, calls) in steps {
                now += Duration::from_millis(wait);
                if pause == 0 {
                    limiter.pause(now + Duration::from_millis(wait));
                }
                for _ in 0..calls {
                    if limiter.try_take(now) {
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
        fn calls_ahead_is_exact_and_bounded_by_round_robin(
            keys in prop::collection::vec(0_u8..6, 0..60),
            served_first in 0_usize..10,
            newcomer in 0_u8..7,
        ) {
            let mut limiter = TenantLimiter::new(rate(1, 1));
            for (id, queue_key) in (0..).zip(&keys) {
                enqueue(&mut limiter, &queue_key.to_string(), id);
            }
            (0..served_first).for_each(|_| limiter.serve_next());
            let newcomer = newcomer.to_string();
            let ahead = limiter.calls_ahead(&newcomer);
            let (own, others) = match limiter.position(&newcomer).and_then(|place| limiter.rotation.get(place)) {
                Some(own) => (own.waiting.len(), limiter.rotation.len() - 1),
                None => (0, limiter.rotation.len()),
            };
            enqueue(&mut limiter, &newcomer, 1_000);
            let order = served(&mut limiter);
            prop_assert_eq!(order.iter().position(|id| *id == 1_000), Some(ahead));
            prop_assert!(ahead <= own + (own + 1) * others);
        }
    }
}
