//! Rate limit for alarms in the log.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// Minimum interval between two log lines of one alarm.
const MIN_INTERVAL: Duration = Duration::from_mins(1);

/// Limits the log lines of one alarm.
#[derive(Debug, Default)]
pub struct AlarmLimit(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The time of the last log line, by a monotonic clock.
    last: Option<Duration>,
    /// Whether the cause has occurred since the last call of `clear`.
    raised: bool,
    suppressed: u64,
}

impl AlarmLimit {
    /// Records that the cause occurred at `now`, by a monotonic clock. If a line may be logged, returns the number of
    /// lines that were suppressed since the last one.
    pub fn raise(&self, now: Duration) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.raised = true;
        let since = state.last.map(|last| now.saturating_sub(last));
        if since.is_some_and(|since| since < MIN_INTERVAL) {
            state.suppressed += 1;
            return None;
        }
        state.last = Some(now);
        Some(std::mem::take(&mut state.suppressed))
    }

    /// Records that the cause is gone. Returns whether it was there before.
    pub fn clear(&self) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut state.raised)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_once_a_minute_and_counts_suppressed_lines() {
        let alarm = AlarmLimit::default();
        let at = |seconds| alarm.raise(Duration::from_secs(seconds));
        assert_eq!(at(7), Some(0));
        for seconds in 7..67 {
            assert_eq!(at(seconds), None, "{seconds}");
        }
        assert_eq!(at(67), Some(60));
        assert_eq!(at(300), Some(0));
    }

    #[test]
    fn clear_reports_the_end_once_and_does_not_lift_the_limit() {
        let alarm = AlarmLimit::default();
        assert!(!alarm.clear());
        assert_eq!(alarm.raise(Duration::ZERO), Some(0));
        assert!(alarm.clear());
        assert!(!alarm.clear());
        assert_eq!(alarm.raise(Duration::from_secs(1)), None);
        assert!(alarm.clear());
    }
}
