//! Alarms in the log: few enough to be read.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// An alarm is written at most this often, however often its cause is met.
const AT_MOST_ONCE_IN: Duration = Duration::from_mins(1);

/// Limits the lines of one alarm.
#[derive(Debug, Default)]
pub struct AlarmLimit(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The time of the last line, by a monotonic clock.
    last: Option<Duration>,
    /// Whether the cause was met since it was last gone.
    raised: bool,
    held_back: u64,
}

impl AlarmLimit {
    /// Returns whether a line may be written at `now`, by a monotonic clock: the number of those that were held back
    /// since the last.
    pub fn raise(&self, now: Duration) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.raised = true;
        let since = state.last.map(|last| now.saturating_sub(last));
        if since.is_some_and(|since| since < AT_MOST_ONCE_IN) {
            state.held_back += 1;
            return None;
        }
        state.last = Some(now);
        Some(std::mem::take(&mut state.held_back))
    }

    /// Notes that the cause is gone. Returns whether it was there.
    pub fn clear(&self) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut state.raised)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_is_written_once_a_minute_and_counts_what_it_held_back() {
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
    fn what_is_gone_is_told_once_and_does_not_lift_the_limit() {
        let alarm = AlarmLimit::default();
        assert!(!alarm.clear());
        assert_eq!(alarm.raise(Duration::ZERO), Some(0));
        assert!(alarm.clear());
        assert!(!alarm.clear());
        assert_eq!(alarm.raise(Duration::from_secs(1)), None);
        assert!(alarm.clear());
    }
}
