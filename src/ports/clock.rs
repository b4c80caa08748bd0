//! Time, passed in.

use std::{
    sync::{LazyLock, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::watch;

/// How far a stored time may lie ahead of the wall clock and still count as past: clocks are set right in small steps.
/// A time further ahead was written while a clock was wrong.
pub const CLOCK_LEEWAY: Duration = Duration::from_mins(1);

/// One moment, by both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// By the wall clock, which may be set forward or back at any time: for what is stored, shown and compared with
    /// times of others.
    pub wall: Timestamp,
    /// By the monotonic clock: for everything that is waited for or kept in memory.
    pub monotonic: Duration,
}

impl Moment {
    /// Returns how much is left until `end`. A wait in memory ends by the monotonic clock.
    #[must_use]
    pub fn left(&self, end: Duration) -> Duration {
        end.saturating_sub(self.monotonic)
    }

    /// Whether a stored time is one to come, so that a clock must have been wrong when it was written.
    #[must_use]
    pub fn is_ahead(&self, time: Timestamp) -> bool {
        is_ahead(time, Duration::ZERO, self.wall)
    }
}

/// Whether `time` is further ahead of `now` than `longest`, the longest that it can be.
#[must_use]
pub fn is_ahead(time: Timestamp, longest: Duration, now: Timestamp) -> bool {
    let latest = now.saturating_add(longest).and_then(|latest| latest.saturating_add(CLOCK_LEEWAY));
    latest.is_ok_and(|latest| time > latest)
}

/// Tells the time and waits for it.
#[async_trait]
pub trait Clock: Send + Sync + 'static {
    /// Now, by the wall clock.
    fn now(&self) -> Timestamp;

    /// How long ago a moment is that never changes while the process runs. Unlike the wall clock it never goes back
    /// and never leaps: rates and waits go by it.
    fn monotonic(&self) -> Duration;

    /// Now, by both clocks.
    fn moment(&self) -> Moment {
        Moment { wall: self.now(), monotonic: self.monotonic() }
    }

    /// Returns once `duration` has passed. Dropping the future stops waiting.
    async fn sleep(&self, duration: Duration);
}

/// The clock of the machine, in microseconds: what stores keep, so that a time is the same before and after a restart.
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

/// A clock for tests: it stands still until it is told to go on.
#[derive(Debug)]
pub struct ManualClock {
    moment: Mutex<Moment>,
    ticks: watch::Sender<()>,
}

impl ManualClock {
    /// A clock that stands at `now`.
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        let moment = Moment { wall: now, monotonic: Duration::ZERO };
        Self { moment: Mutex::new(moment), ticks: watch::Sender::new(()) }
    }

    /// Moves time forward and wakes those who waited for it.
    pub fn advance(&self, by: Duration) {
        {
            let mut moment = self.lock();
            moment.wall = moment.wall.saturating_add(by).unwrap_or(Timestamp::MAX);
            moment.monotonic = moment.monotonic.saturating_add(by);
        }
        self.ticks.send_replace(());
    }

    /// Sets the wall clock forward or back, as an administrator does. No time passes.
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
    async fn a_manual_clock_wakes_sleepers_only_when_their_time_has_come() {
        let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
        let mut sleep = clock.sleep(Duration::from_secs(10));
        assert!(futures_util::poll!(&mut sleep).is_pending());
        clock.advance(Duration::from_secs(9));
        assert!(futures_util::poll!(&mut sleep).is_pending());
        clock.advance(Duration::from_secs(1));
        sleep.await;
    }

    #[test]
    fn the_wall_clock_may_be_set_and_no_time_passes_by_that() {
        let clock = ManualClock::new(Timestamp::UNIX_EPOCH);
        clock.advance(Duration::from_secs(10));
        clock.set_wall(Timestamp::UNIX_EPOCH - Duration::from_hours(24));
        assert_eq!(clock.monotonic(), Duration::from_secs(10));
        assert!(clock.moment().is_ahead(Timestamp::UNIX_EPOCH));
    }

    #[test]
    fn a_time_is_ahead_only_beyond_its_longest_life_and_the_leeway() {
        let (now, hour) = (Timestamp::UNIX_EPOCH, Duration::from_hours(1));
        assert!(!is_ahead(now + hour + CLOCK_LEEWAY, hour, now));
        assert!(is_ahead(now + hour + CLOCK_LEEWAY + Duration::from_secs(1), hour, now));
        assert!(!is_ahead(Timestamp::MIN, Duration::ZERO, now));
        assert!(!is_ahead(Timestamp::MAX, hour, Timestamp::MAX));
    }
}
