//! Limits the calls to a login host: a limit of concurrent calls, and a circuit breaker.
//!
//! All applications of one login host share it. At a cold start with thousands of tenants, calls wait in a queue. While
//! the host is down, only one trial call is sent from time to time.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::{
    domain::AlarmLimit,
    ports::{Clock, Random, UpstreamError},
};

/// The number of consecutive calls without an answer that opens the circuit.
const FAILURE_THRESHOLD: u32 = 8;

/// The time for which the circuit first stays open. It doubles each time a trial fails.
const MIN_PAUSE: Duration = Duration::from_secs(1);
/// The maximum time for which the circuit stays open.
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// The retry delay for callers while another call is the trial.
const HALF_OPEN_WAIT: Duration = Duration::from_secs(1);

/// The call limiter of one login host.
pub(super) struct CallLimiter {
    cap: Semaphore,
    circuit: Mutex<Circuit>,
    alarm: AlarmLimit,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Circuit {
    Closed {
        failures: u32,
    },
    Open {
        /// By the monotonic clock.
        until: Duration,
        pause: Duration,
    },
    /// One trial call is in progress.
    HalfOpen {
        pause: Duration,
    },
}

/// The permission for one call. The caller reports the result; a permit that is dropped without a report counts as
/// neither answer nor failure, but if it was the trial, the next call becomes the trial.
pub(super) struct CallPermit<'a> {
    limiter: &'a CallLimiter,
    _permit: SemaphorePermit<'a>,
    /// Whether the call is the trial of the half-open circuit.
    is_trial: bool,
    reported: bool,
}

impl CallLimiter {
    /// Returns a limiter for at most `max_concurrent` concurrent calls.
    #[must_use]
    pub(super) fn new(max_concurrent: u32, clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Self {
        let cap = usize::try_from(max_concurrent).unwrap_or(Semaphore::MAX_PERMITS);
        let cap = Semaphore::new(cap.min(Semaphore::MAX_PERMITS));
        let circuit = Mutex::new(Circuit::Closed { failures: 0 });
        Self { cap, circuit, alarm: AlarmLimit::default(), clock, random }
    }

    /// Returns whether the circuit is open or half-open: the host did not answer, and no trial has succeeded yet.
    #[must_use]
    pub(super) fn is_open(&self) -> bool {
        !matches!(*self.lock(), Circuit::Closed { .. })
    }

    /// Waits for a permit.
    pub(super) async fn acquire(&self) -> Result<CallPermit<'_>, UpstreamError> {
        // Rejects at once while the circuit is open; it is checked again after the wait.
        self.check_not_open()?;
        let closed = |_| UpstreamError::Unavailable("the call limiter is closed".to_owned());
        let permit = self.cap.acquire().await.map_err(closed)?;
        let is_trial = self.start_call()?;
        Ok(CallPermit { limiter: self, _permit: permit, is_trial, reported: false })
    }

    fn check_not_open(&self) -> Result<(), UpstreamError> {
        let now = self.clock.monotonic();
        match *self.lock() {
            Circuit::Open { until, .. } if now < until => Err(circuit_open_error(until, now)),
            _ => Ok(()),
        }
    }

    /// Returns whether the call is the trial.
    fn start_call(&self) -> Result<bool, UpstreamError> {
        let now = self.clock.monotonic();
        let mut circuit = self.lock();
        match *circuit {
            Circuit::Closed { .. } => Ok(false),
            Circuit::Open { until, .. } if now < until => Err(circuit_open_error(until, now)),
            Circuit::Open { pause, .. } => {
                *circuit = Circuit::HalfOpen { pause };
                Ok(true)
            }
            Circuit::HalfOpen { .. } => Err(UpstreamError::CircuitOpen(HALF_OPEN_WAIT)),
        }
    }

    fn record_success(&self) {
        let mut circuit = self.lock();
        if !matches!(*circuit, Circuit::Closed { .. }) {
            tracing::info!("the login host answers again");
        }
        *circuit = Circuit::Closed { failures: 0 };
    }

    fn record_failure(&self, is_trial: bool) {
        let mut circuit = self.lock();
        match *circuit {
            Circuit::Closed { failures } if failures + 1 < FAILURE_THRESHOLD => {
                *circuit = Circuit::Closed { failures: failures + 1 };
            }
            Circuit::Closed { .. } => self.open(&mut circuit, MIN_PAUSE),
            Circuit::HalfOpen { pause } if is_trial => {
                self.open(&mut circuit, (pause * 2).min(MAX_PAUSE));
            }
            // The call began before the circuit opened.
            Circuit::HalfOpen { .. } | Circuit::Open { .. } => {}
        }
    }

    fn open(&self, circuit: &mut Circuit, pause: Duration) {
        let until = self.clock.monotonic().saturating_add(self.random.jitter(pause));
        *circuit = Circuit::Open { until, pause };
        // Logs at most once a minute, because a trial fails every few seconds.
        if let Some(held_back) = self.alarm.raise(self.clock.monotonic()) {
            tracing::error!(
                ?pause,
                held_back,
                "the login host does not answer; retrying after a pause"
            );
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Circuit> {
        self.circuit.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CallPermit<'_> {
    /// Reports the result of the call. Invalid answers and rejections count as answers.
    pub(super) fn report(mut self, host_is_down: bool) {
        self.reported = true;
        if host_is_down {
            self.limiter.record_failure(self.is_trial);
        } else {
            self.limiter.record_success();
        }
    }
}

impl Drop for CallPermit<'_> {
    fn drop(&mut self) {
        if self.reported || !self.is_trial {
            return;
        }
        let mut circuit = self.limiter.lock();
        if let Circuit::HalfOpen { pause } = *circuit {
            // Lets the next call be the trial.
            *circuit = Circuit::Open { until: self.limiter.clock.monotonic(), pause };
        }
    }
}

fn circuit_open_error(until: Duration, now: Duration) -> UpstreamError {
    UpstreamError::CircuitOpen(until.saturating_sub(now))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::ports::ManualClock;

    /// Random bytes that give jitter of the mean.
    struct Even;

    impl Random for Even {
        fn bytes(&self) -> [u8; 16] {
            [0x7f; 16]
        }
    }

    fn limiter() -> (CallLimiter, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
        (CallLimiter::new(2, clock.clone(), Arc::new(Even)), clock)
    }

    async fn call(limiter: &CallLimiter, host_is_down: bool) -> Result<(), UpstreamError> {
        limiter.acquire().await?.report(host_is_down);
        Ok(())
    }

    async fn break_down(limiter: &CallLimiter) {
        for _ in 0..FAILURE_THRESHOLD {
            call(limiter, true).await.unwrap();
        }
    }

    #[tokio::test]
    async fn consecutive_failures_open_the_circuit_and_one_success_closes_it() {
        let (limiter, clock) = limiter();
        break_down(&limiter).await;
        assert!(matches!(limiter.acquire().await.err(), Some(UpstreamError::CircuitOpen(_))));
        clock.advance(MIN_PAUSE * 2);
        let trial = limiter.acquire().await.unwrap();
        assert!(matches!(limiter.acquire().await.err(), Some(UpstreamError::CircuitOpen(_))));
        trial.report(false);
        call(&limiter, false).await.unwrap();
        assert!(!limiter.is_open());
    }

    #[tokio::test]
    async fn each_failed_trial_doubles_the_pause_up_to_its_limit() {
        let (limiter, clock) = limiter();
        break_down(&limiter).await;
        let mut pauses = Vec::new();
        for _ in 0..8 {
            let Some(UpstreamError::CircuitOpen(wait)) = limiter.acquire().await.err() else {
                panic!()
            };
            pauses.push(wait.as_secs_f64().round());
            clock.advance(wait);
            call(&limiter, true).await.unwrap();
        }
        assert_eq!(pauses, [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]);
    }

    #[tokio::test]
    async fn an_answer_between_failures_keeps_the_circuit_closed() {
        let (limiter, _) = limiter();
        for _ in 0..FAILURE_THRESHOLD * 3 {
            call(&limiter, true).await.unwrap();
            call(&limiter, false).await.unwrap();
        }
        assert!(!limiter.is_open());
    }

    #[tokio::test]
    async fn a_dropped_trial_lets_the_next_call_be_the_trial() {
        let (limiter, clock) = limiter();
        break_down(&limiter).await;
        clock.advance(MIN_PAUSE * 2);
        drop(limiter.acquire().await.unwrap());
        call(&limiter, false).await.unwrap();
    }

    #[tokio::test]
    async fn a_call_from_before_the_circuit_opened_is_not_the_trial() {
        for reported in [true, false] {
            let (limiter, clock) = limiter();
            let early = limiter.acquire().await.unwrap();
            break_down(&limiter).await;
            clock.advance(MIN_PAUSE * 2);
            let trial = limiter.acquire().await.unwrap();
            if reported {
                early.report(true);
            } else {
                drop(early);
            }
            let second = limiter.acquire().await.err();
            assert_eq!(second, Some(UpstreamError::CircuitOpen(HALF_OPEN_WAIT)));
            trial.report(true);
            let Some(UpstreamError::CircuitOpen(wait)) = limiter.acquire().await.err() else {
                panic!()
            };
            assert!(wait > MIN_PAUSE && wait < MIN_PAUSE * 3, "the pause doubles once: {wait:?}");
        }
    }

    #[tokio::test]
    async fn limits_concurrent_calls() {
        let (limiter, _) = limiter();
        let (first, _second) = (limiter.acquire().await.unwrap(), limiter.acquire().await.unwrap());
        let mut third = Box::pin(limiter.acquire());
        assert!(futures_util::poll!(&mut third).is_pending());
        drop(first);
        assert!(third.await.is_ok());
    }
}
