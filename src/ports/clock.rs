//! Time, passed in.

use std::{
    sync::{LazyLock, Mutex, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::watch;

/// Tells the time and waits for it.
#[async_trait]
pub trait Clock: Send + Sync + 'static {
    /// Now, by the wall clock.
    fn now(&self) -> Timestamp;

    /// How long ago a moment is that never changes while the process runs. Unlike the wall clock it never goes back
    /// and never leaps: rates and waits go by it.
    fn monotonic(&self) -> Duration;

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
    beginning: Timestamp,
    now: Mutex<Timestamp>,
    ticks: watch::Sender<()>,
}

impl ManualClock {
    /// A clock that stands at `now`.
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        Self { beginning: now, now: Mutex::new(now), ticks: watch::Sender::new(()) }
    }

    /// Moves time forward and wakes those who waited for it.
    pub fn advance(&self, by: Duration) {
        {
            let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
            *now = now.saturating_add(by).unwrap_or(Timestamp::MAX);
        }
        self.ticks.send_replace(());
    }
}

#[async_trait]
impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn monotonic(&self) -> Duration {
        self.now().duration_since(self.beginning).unsigned_abs()
    }

    async fn sleep(&self, duration: Duration) {
        let mut ticks = self.ticks.subscribe();
        let until = self.now().saturating_add(duration).unwrap_or(Timestamp::MAX);
        while self.now() < until {
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
}
