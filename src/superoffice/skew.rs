//! Clock differences. The login host rejects a signed token whose time differs too much, so an alarm comes before that.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use jiff::{SignedDuration, Timestamp, fmt::rfc2822::DateTimeParser};

/// The difference that raises the alarm. The allowed difference is not documented, but a minute is surely allowed.
pub const CLOCK_ALARM: SignedDuration = SignedDuration::from_secs(60);

/// The interval at which the alarm is repeated.
const REPEAT: Duration = Duration::from_mins(5);

/// Returns the date minus `now`, if `date` is valid. It has whole seconds, so half a second is lost on average.
pub(super) fn difference(date: &str, now: Timestamp) -> Option<SignedDuration> {
    let theirs = DateTimeParser::new().parse_timestamp(date).ok()?;
    Some(theirs.duration_since(now))
}

/// The login host's clock minus the local one, by the `Date` of its responses (RFC 9110 section 6.6.1).
#[derive(Debug, Default)]
pub(super) struct ClockSkew {
    seconds: AtomicI64,
    last_alarm: Mutex<Option<Timestamp>>,
}

impl ClockSkew {
    /// Returns the login host's time minus the local time, as of the last response.
    #[must_use]
    pub(super) fn seconds(&self) -> i64 {
        self.seconds.load(Ordering::Relaxed)
    }

    /// Records the `Date` of a response that came at `now`.
    pub(super) fn record(&self, date: &str, now: Timestamp) {
        let Some(skew) = difference(date, now) else { return };
        self.seconds.store(skew.as_secs(), Ordering::Relaxed);
        if skew.abs() < CLOCK_ALARM {
            return;
        }
        let mut last = self.last_alarm.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_none_or(|last| now.duration_since(last).unsigned_abs() >= REPEAT) {
            *last = Some(now);
            tracing::error!(
                alarm = "clock_skew",
                skew_seconds = skew.as_secs(),
                "the clocks of the login host and of this machine differ; correct the local clock before signed tokens \
                 are rejected"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_difference_is_remote_minus_local_time() {
        let skew = ClockSkew::default();
        let now = "2026-11-22T09:00:00Z".parse().unwrap();
        for (date, seconds) in [
            ("Sun, 22 Nov 2026 09:00:00 GMT", 0),
            ("Sun, 22 Nov 2026 09:02:00 GMT", 120),
            ("Sun, 22 Nov 2026 08:00:00 GMT", -3600),
            ("not a date", -3600),
        ] {
            skew.record(date, now);
            assert_eq!(skew.seconds(), seconds, "{date}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_date_does_not_panic(
            date in "[A-Z][a-z]{2}, [0-9]{2} (Jan|Feb|Dec) [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} (GMT|[+-][0-9]{4})|\\PC{0,40}",
            now in -377_705_023_201..253_402_207_200_i64,
        ) {
            ClockSkew::default().record(&date, Timestamp::from_second(now).unwrap());
        }
    }
}
