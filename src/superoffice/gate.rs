//! What stands before a login host: a cap on calls at one time, and a circuit breaker.
//!
//! All applications of one login host share it. A cold start of thousands of tenants waits in line instead of
//! arriving at once, and while the host is down it is asked by one call now and then instead of by everybody.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::{
    domain::AlarmLimit,
    ports::{Clock, Random, UpstreamError},
};

/// So many calls in a row without an answer open the circuit.
const FAILURES_TO_OPEN: u32 = 8;

/// The circuit first stays open for about this long, then twice as long each time a trial fails …
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// … up to this.
const LAST_PAUSE: Duration = Duration::from_secs(30);

/// How long to wait while another call is the trial.
const WHILE_TRIED: Duration = Duration::from_secs(1);

/// Before one login host.
pub(super) struct Gate {
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
    /// One call is on its way to find out.
    Tried {
        pause: Duration,
    },
}

/// Leave to call. What became of the call is reported on it; dropped without a report it has proven nothing.
pub(super) struct Passage<'a> {
    gate: &'a Gate,
    _permit: SemaphorePermit<'a>,
    reported: bool,
}

impl Gate {
    /// At most `max_concurrent` calls at one time.
    #[must_use]
    pub(super) fn new(max_concurrent: u32, clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Self {
        let cap = usize::try_from(max_concurrent).unwrap_or(Semaphore::MAX_PERMITS);
        let cap = Semaphore::new(cap.min(Semaphore::MAX_PERMITS));
        let circuit = Mutex::new(Circuit::Closed { failures: 0 });
        Self { cap, circuit, alarm: AlarmLimit::default(), clock, random }
    }

    /// Whether calls are refused because the host does not answer.
    #[must_use]
    pub(super) fn is_open(&self) -> bool {
        !matches!(*self.lock(), Circuit::Closed { .. })
    }

    /// Waits in line.
    pub(super) async fn enter(&self) -> Result<Passage<'_>, UpstreamError> {
        // No use to wait in line before a closed door; and behind the line it may have closed meanwhile.
        self.peek()?;
        let closed = |_| UpstreamError::Unavailable("the gate is closed for good".to_owned());
        let permit = self.cap.acquire().await.map_err(closed)?;
        self.pass()?;
        Ok(Passage { gate: self, _permit: permit, reported: false })
    }

    fn peek(&self) -> Result<(), UpstreamError> {
        let now = self.clock.monotonic();
        match *self.lock() {
            Circuit::Open { until, .. } if now < until => Err(wait(until, now)),
            _ => Ok(()),
        }
    }

    fn pass(&self) -> Result<(), UpstreamError> {
        let now = self.clock.monotonic();
        let mut circuit = self.lock();
        match *circuit {
            Circuit::Closed { .. } => Ok(()),
            Circuit::Open { until, .. } if now < until => Err(wait(until, now)),
            Circuit::Open { pause, .. } => {
                *circuit = Circuit::Tried { pause };
                Ok(())
            }
            Circuit::Tried { .. } => Err(UpstreamError::CircuitOpen(WHILE_TRIED)),
        }
    }

    fn answered(&self) {
        let mut circuit = self.lock();
        if !matches!(*circuit, Circuit::Closed { .. }) {
            tracing::info!("the login host answers again");
        }
        *circuit = Circuit::Closed { failures: 0 };
    }

    fn failed(&self) {
        let mut circuit = self.lock();
        match *circuit {
            Circuit::Closed { failures } if failures + 1 < FAILURES_TO_OPEN => {
                *circuit = Circuit::Closed { failures: failures + 1 };
            }
            Circuit::Closed { .. } => self.open(&mut circuit, FIRST_PAUSE),
            Circuit::Tried { pause } => self.open(&mut circuit, (pause * 2).min(LAST_PAUSE)),
            // A call from before it opened.
            Circuit::Open { .. } => {}
        }
    }

    fn open(&self, circuit: &mut Circuit, pause: Duration) {
        let until = self.clock.monotonic().saturating_add(self.random.jitter(pause));
        *circuit = Circuit::Open { until, pause };
        // Once a minute while it lasts: a trial fails every few seconds.
        if let Some(held_back) = self.alarm.raise(self.clock.monotonic()) {
            tracing::error!(
                ?pause,
                held_back,
                "the login host does not answer; it is asked again after a pause"
            );
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Circuit> {
        self.circuit.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Passage<'_> {
    /// What became of the call: an answer that cannot be believed, and a refusal, are answers too.
    pub(super) fn report(mut self, host_is_down: bool) {
        self.reported = true;
        if host_is_down {
            self.gate.failed();
        } else {
            self.gate.answered();
        }
    }
}

impl Drop for Passage<'_> {
    fn drop(&mut self) {
        if self.reported {
            return;
        }
        let mut circuit = self.gate.lock();
        if let Circuit::Tried { pause } = *circuit {
            // The next call is the trial instead.
            *circuit = Circuit::Open { until: self.gate.clock.monotonic(), pause };
        }
    }
}

fn wait(until: Duration, now: Duration) -> UpstreamError {
    UpstreamError::CircuitOpen(until.saturating_sub(now))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::ports::ManualClock;

    /// Jitter in the middle.
    struct Even;

    impl Random for Even {
        fn bytes(&self) -> [u8; 16] {
            [0x7f; 16]
        }
    }

    fn gate() -> (Gate, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
        (Gate::new(2, clock.clone(), Arc::new(Even)), clock)
    }

    async fn call(gate: &Gate, host_is_down: bool) -> Result<(), UpstreamError> {
        gate.enter().await?.report(host_is_down);
        Ok(())
    }

    async fn break_down(gate: &Gate) {
        for _ in 0..FAILURES_TO_OPEN {
            call(gate, true).await.unwrap();
        }
    }

    #[tokio::test]
    async fn many_failures_in_a_row_open_the_circuit_and_one_trial_closes_it() {
        let (gate, clock) = gate();
        break_down(&gate).await;
        assert!(matches!(gate.enter().await.err(), Some(UpstreamError::CircuitOpen(_))));
        clock.advance(FIRST_PAUSE * 2);
        let trial = gate.enter().await.unwrap();
        assert!(matches!(gate.enter().await.err(), Some(UpstreamError::CircuitOpen(_))));
        trial.report(false);
        call(&gate, false).await.unwrap();
        assert!(!gate.is_open());
    }

    #[tokio::test]
    async fn each_failed_trial_doubles_the_pause_up_to_its_limit() {
        let (gate, clock) = gate();
        break_down(&gate).await;
        let mut pauses = Vec::new();
        for _ in 0..8 {
            let Some(UpstreamError::CircuitOpen(wait)) = gate.enter().await.err() else { panic!() };
            pauses.push(wait.as_secs_f64().round());
            clock.advance(wait);
            call(&gate, true).await.unwrap();
        }
        assert_eq!(pauses, [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]);
    }

    #[tokio::test]
    async fn an_answer_between_failures_keeps_the_circuit_closed() {
        let (gate, _) = gate();
        for _ in 0..FAILURES_TO_OPEN * 3 {
            call(&gate, true).await.unwrap();
            call(&gate, false).await.unwrap();
        }
        assert!(!gate.is_open());
    }

    #[tokio::test]
    async fn a_trial_that_goes_away_leaves_the_next_call_to_try() {
        let (gate, clock) = gate();
        break_down(&gate).await;
        clock.advance(FIRST_PAUSE * 2);
        drop(gate.enter().await.unwrap());
        call(&gate, false).await.unwrap();
    }

    #[tokio::test]
    async fn no_more_than_the_cap_call_at_one_time() {
        let (gate, _) = gate();
        let (first, _second) = (gate.enter().await.unwrap(), gate.enter().await.unwrap());
        let mut third = Box::pin(gate.enter());
        assert!(futures_util::poll!(&mut third).is_pending());
        drop(first);
        assert!(third.await.is_ok());
    }
}
