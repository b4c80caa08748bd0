//! Token buckets, by the generic cell rate algorithm (GCRA, ITU-T I.371 annex A). Their tokens are called permits here,
//! because callers have tokens, too.
//!
//! A bucket is one number: the time at which it is full again. In any span of time it gives at most `burst` permits
//! plus `per_second` permits for each second of the span.

use std::{
    collections::HashMap,
    num::NonZeroU32,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::ports::Clock;

/// Maximum number of individual buckets. Further keys share [`SHARED_BUCKETS`] buckets.
pub(super) const MAX_BUCKETS: usize = 65_536;
/// Number of shared buckets.
pub(super) const SHARED_BUCKETS: usize = 4_096;

/// Number of shards, each with its own lock, so that threads rarely wait for each other.
const SHARDS: usize = 64;

/// Minimum interval, in nanoseconds, between removals of refilled buckets from a full shard.
const CLEANUP_INTERVAL: u64 = 100_000_000;

/// A rate limit: a sustained rate and a burst after a pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// The sustained rate, per second.
    pub per_second: NonZeroU32,
    /// The burst size.
    pub burst: NonZeroU32,
}

/// Token buckets of one rate. The key is a keyed hash of the owner.
pub(super) struct Buckets {
    /// Time in which one permit is refilled, in nanoseconds.
    interval: u64,
    /// Time in which an empty bucket is refilled completely, in nanoseconds.
    depth: u64,
    /// All shards except the last.
    shards: Box<[Mutex<Shard>]>,
    last: Mutex<Shard>,
    clock: Arc<dyn Clock>,
}

#[derive(Default)]
struct Shard {
    /// The time at which each bucket is full again, in nanoseconds of the monotonic clock.
    full_at: HashMap<u64, u64>,
    next_cleanup: u64,
}

impl Buckets {
    pub(super) fn new(rate: Rate, clock: Arc<dyn Clock>) -> Self {
        let interval = 1_000_000_000_u64.div_ceil(rate.per_second.get().into());
        let depth = interval.saturating_mul(rate.burst.get().into());
        let shards = std::iter::repeat_with(Mutex::default).take(SHARDS - 1).collect();
        Self { interval, depth, shards, last: Mutex::default(), clock }
    }

    /// Takes one permit, or returns the time to wait for one.
    pub(super) fn take(&self, key: u64) -> Result<(), Duration> {
        self.take_within(key, self.depth)
    }

    /// Takes one permit on credit, from an empty bucket at most as many as it can hold. Refills pay the debt first.
    pub(super) fn overdraw(&self, key: u64) -> Result<(), Duration> {
        self.take_within(key, self.depth.saturating_mul(2))
    }

    fn take_within(&self, key: u64, depth: u64) -> Result<(), Duration> {
        let now = self.now();
        let mut shard = self.shard(key);
        let full = shard.bucket(key, now);
        let next = (*full).max(now).saturating_add(self.interval);
        match next.saturating_sub(now).checked_sub(depth) {
            None | Some(0) => {
                *full = next;
                Ok(())
            }
            // Waits at least 1 ms: with a shorter wait the caller would retry too early.
            Some(early) => Err(Duration::from_nanos(early).max(Duration::from_millis(1))),
        }
    }

    /// Returns a taken permit to the bucket.
    pub(super) fn give_back(&self, key: u64) {
        let now = self.now();
        let mut shard = self.shard(key);
        let full = shard.bucket(key, now);
        *full = full.saturating_sub(self.interval);
        if *full <= now {
            shard.full_at.remove(&key);
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.clock.monotonic().as_nanos()).unwrap_or(u64::MAX)
    }

    fn shard(&self, key: u64) -> MutexGuard<'_, Shard> {
        let index = usize::try_from(key >> 32).unwrap_or_default() % SHARDS;
        let shard = self.shards.get(index).unwrap_or(&self.last);
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.shards
            .iter()
            .chain([&self.last])
            .map(|shard| shard.lock().unwrap().full_at.len())
            .sum()
    }
}

impl Shard {
    /// Returns the bucket of a key: its own, or a shared one if there is no room.
    fn bucket(&mut self, key: u64, now: u64) -> &mut u64 {
        let mut key = key;
        if self.full_at.len() >= MAX_BUCKETS / SHARDS && !self.full_at.contains_key(&key) {
            if now >= self.next_cleanup {
                self.full_at.retain(|_, full| *full > now);
                self.next_cleanup = now.saturating_add(CLEANUP_INTERVAL);
            }
            if self.full_at.len() >= MAX_BUCKETS / SHARDS {
                key %= u64::try_from(SHARED_BUCKETS / SHARDS).unwrap_or(1);
            }
        }
        self.full_at.entry(key).or_default()
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use proptest::prelude::*;

    use super::*;
    use crate::ports::ManualClock;

    fn buckets(per_second: u32, burst: u32) -> (Buckets, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
        let number = |n| NonZeroU32::new(n).unwrap();
        let rate = Rate { per_second: number(per_second), burst: number(burst) };
        (Buckets::new(rate, clock.clone()), clock)
    }

    #[test]
    fn memory_is_bounded_during_a_flood_of_keys() {
        let (buckets, clock) = buckets(1, 1);
        let name = |n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        for n in 0..3 * MAX_BUCKETS as u64 {
            let _ = buckets.take(name(n));
        }
        assert!(buckets.len() <= MAX_BUCKETS + SHARED_BUCKETS);
        assert!(buckets.take(name(u64::MAX)).is_err(), "a shared bucket is empty");
        // After the flood each key has its own bucket again.
        clock.advance(Duration::from_secs(2));
        for n in 0..1_000 {
            buckets.take(name(n)).unwrap();
        }
    }

    #[test]
    fn refilled_permits_pay_the_debt_first() {
        let (buckets, clock) = buckets(10, 2);
        buckets.take(7).unwrap();
        buckets.take(7).unwrap();
        buckets.take(7).unwrap_err();
        buckets.overdraw(7).unwrap();
        buckets.overdraw(7).unwrap();
        buckets.overdraw(7).unwrap_err();
        clock.advance(Duration::from_millis(200));
        buckets.take(7).unwrap_err();
        clock.advance(Duration::from_millis(100));
        buckets.take(7).unwrap();
        buckets.take(8).unwrap();
    }

    proptest! {
        #[test]
        fn never_gives_more_than_burst_and_rate(
            per_second in 1_u32..200,
            burst in 1_u32..50,
            waits in prop::collection::vec(0_u64..40, 1..300),
        ) {
            let (buckets, clock) = buckets(per_second, burst);
            let mut given: Vec<u64> = Vec::new();
            let mut now = 0;
            for wait in waits {
                clock.advance(Duration::from_millis(wait));
                now += wait;
                if buckets.take(1).is_ok() {
                    given.push(now);
                }
                // A permit that was taken and given back counts as never taken.
                if buckets.take(1).is_ok() {
                    buckets.give_back(1);
                }
            }
            for (first, begin) in given.iter().enumerate() {
                for (last, end) in given.iter().enumerate().skip(first) {
                    let span = u128::from(end - begin);
                    let most = u128::from(burst) + span * u128::from(per_second) / 1000;
                    prop_assert!((last - first + 1) as u128 <= most);
                }
            }
        }
    }
}
