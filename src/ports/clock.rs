//! The clock: use cases receive it as a parameter.

use std::{
    sync::{LazyLock, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::watch;

/// The tolerance for stored times that are ahead of the wall clock, because clocks are corrected in small steps. A
/// time further ahead was written while a clock was wrong.
pub const CLOCK_LEEWAY: Duration = Duration::from_mins(1);

/// One moment, on the wall clock and on the monotonic clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// The wall-clock time, which can be set forward or back at any time. Used for times that are stored, shown, or
    /// compared with those of other systems.
    pub wall: Timestamp,
    /// The monotonic time. Used for waits and for everything that is cached in memory.
    pub monotonic: Duration,
}

impl Moment {
    /// Returns the time until `end`, which is a monotonic time.
    #[must_use]
    pub fn remaining_until(&self, end: Duration) -> Duration {
        end.saturating_sub(self.monotonic)
    }

    /// Returns whether a stored time is in the future, which means that a clock was wrong when it was written.
    #[must_use]
    pub fn is_ahead(&self, time: Timestamp) -> bool {
        is_ahead(time, Duration::ZERO, self.wall)
    }
}

/// Returns whether `time` is ahead of `now` by more than `longest`, the longest valid distance, and the leeway.
#[must_use]
pub fn is_ahead(time: Timestamp, longest: Duration, now: Timestamp) -> bool {
    let latest = now.saturating_add(longest).and_then(|latest| latest.saturating_add(CLOCK_LEEWAY));
    latest.is_ok_and(|latest| time > latest)
}

/// A source of time, which can also sleep.
#[async_trait]
pub trait Clock: Send + Sync + 'static {
    /// Returns the current wall-clock time.
    fn now(&self) -> Timestamp;

    /// Returns the time since a fixed moment of this process. Unlike the wall clock, it never goes back and never
    /// jumps. Rate limits and waits use it.
    fn monotonic(&self) -> Duration;

    /// Returns the current time on both clocks.
    fn moment(&self) -> Moment {
        Moment { wall: self.now(), monotonic: self.monotonic() }
    }

    /// Returns once `duration` has passed. Dropping the future stops waiting.
    async fn sleep(&self, duration: Duration);
}

/// The system clock, rounded down to microseconds: the store's precision, so that a restart does not change a time.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

#[async_trait]
impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place where time comes in")]
    fn now(&self) -> Timestamp {
        let now = Timestamp::now();
        Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
    }

    fn monotonic(&self) -> Duration {
        static BEGINNING: LazyLock<Instant> = LazyLock::new(Instant::now);
        BEGINNING.elapsed()
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

/// A clock for tests. Its time changes only when a test advances it.
#[derive(Debug)]
pub struct ManualClock {
    moment: Mutex<Moment>,
    ticks: watch::Sender<()>,
}

impl ManualClock {
    /// Creates a clock that shows `now`.
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        let moment = Moment { wall: now, monotonic: Duration::ZERO };
        Self { moment: Mutex::new(moment), ticks: watch::Sender::new(()) }
    }

    /// Moves both clocks forward and wakes the sleepers.
    pub fn advance(&self, by: Duration) {
        {
            let mut moment = self.lock();
            moment.wall = moment.wall.saturating_add(by).unwrap_or(Timestamp::MAX);
            moment.monotonic = moment.monotonic.saturating_add(by);
        }
        self.ticks.send_replace(());
    }

    /// Sets the wall clock forward or back, as an administrator can. The monotonic clock does not change.
    pub fn set_wall(&self, now: Timestamp) {
        self.lock().wall = now;
    }

    fn lock(&self) -> MutexGuard<'_, Moment> {
        self.moment.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        self.lock().wall
    }

    fn monotonic(&self) -> Duration {
        self.lock().monotonic
    }

    async fn sleep(&self, duration: Duration) {
        let mut ticks = self.ticks.subscribe();
        let until = self.monotonic().saturating_add(duration);
        while self.monotonic() < until {
            if ticks.changed().await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn manual_clock_wakes_sleepers_only_at_their_time() {
        let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
        let mut sleep = clock.sleep(Duration::from_secs(10));
        assert!(futures_util::poll!(&mut sleep).is_pending());
        clock.advance(Duration::from_secs(9));
        assert!(futures_util::poll!(&mut sleep).is_pending());
        clock.advance(Duration::from_secs(1));
        sleep.await;
    }

    #[test]
    fn setting_the_wall_clock_does_not_change_the_monotonic_clock() {
        let clock = ManualClock::new(Timestamp::UNIX_EPOCH);
        clock.advance(Duration::from_secs(10));
        clock.set_wall(Timestamp::UNIX_EPOCH - Duration::from_hours(24));
        assert_eq!(clock.monotonic(), Duration::from_secs(10));
        assert!(clock.moment().is_ahead(Timestamp::UNIX_EPOCH));
    }

    #[test]
    fn time_is_ahead_only_beyond_the_longest_distance_and_the_leeway() {
        let (now, hour) = (Timestamp::UNIX_EPOCH, Duration::from_hours(1));
        assert!(!is_ahead(now + hour + CLOCK_LEEWAY, hour, now));
        assert!(is_ahead(now + hour + CLOCK_LEEWAY + Duration::from_secs(1), hour, now));
        assert!(!is_ahead(Timestamp::MIN, Duration::ZERO, now));
        assert!(!is_ahead(Timestamp::MAX, hour, Timestamp::MAX));
    }
}
