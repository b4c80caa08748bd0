//! The sandbox's clock: real time plus a shift in seconds that a test sets.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use hyper::header::HeaderValue;
use jiff::fmt::rfc2822::DateTimePrinter;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, civil};

/// The date-time that the service writes for an absent date.
pub(crate) const NO_DATE: &str = "0001-01-01T00:00:00";

/// Length of `yyyyMMddHHmm`.
const TIMESTAMP_DIGITS: usize = 12;

#[derive(Debug, Default)]
pub(crate) struct Clock {
    shift_seconds: AtomicI64,
}

impl Clock {
    #[expect(clippy::disallowed_methods, reason = "this is the only place that reads real time")]
    pub(crate) fn now(&self) -> Timestamp {
        let shift = SignedDuration::from_secs(self.shift_seconds.load(Ordering::Relaxed));
        let real = Timestamp::now();
        real.saturating_add(shift).unwrap_or(real)
    }

    pub(crate) fn http_date(&self) -> Option<HeaderValue> {
        http_date(self.now())
    }

    pub(crate) fn shift(&self, seconds: i64) {
        self.shift_seconds.store(seconds, Ordering::Relaxed);
    }
}

/// Formats a time as an HTTP date (RFC 9110 section 5.6.7).
pub(crate) fn http_date(moment: Timestamp) -> Option<HeaderValue> {
    let date = DateTimePrinter::new().timestamp_to_rfc9110_string(&moment).ok()?;
    HeaderValue::from_str(&date).ok()
}

/// Parses the timestamp of a signed system user token. Returns `None` unless it is exactly
/// `yyyyMMddHHmm` and a valid date and time.
pub(crate) fn parse_timestamp(text: &str) -> Option<Timestamp> {
    if text.len() != TIMESTAMP_DIGITS || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let minute = civil::DateTime::strptime("%Y%m%d%H%M", text).ok()?;
    Some(minute.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

/// Returns whether a timestamp is within the allowed difference from the clock, limit included.
pub(crate) fn is_within_skew(now: Timestamp, stamp: Timestamp, allowed: Duration) -> bool {
    now.duration_since(stamp).unsigned_abs() <= allowed
}

/// Formats a time as the tenant status does: seven fractional digits and `Z`.
pub(crate) fn format_timestamp(moment: Timestamp) -> String {
    moment.strftime("%Y-%m-%dT%H:%M:%S%.7fZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_skew_limit_is_inclusive_on_both_sides() {
        let stamp = parse_timestamp("202602230952").unwrap();
        let allowed = Duration::from_mins(5);
        let at = |seconds| stamp + SignedDuration::from_secs(seconds);
        assert!(is_within_skew(at(300), stamp, allowed));
        assert!(is_within_skew(at(-300), stamp, allowed));
        assert!(!is_within_skew(at(301), stamp, allowed));
        assert!(!is_within_skew(at(-301), stamp, allowed));
    }

    #[test]
    fn accepts_only_twelve_digits_of_a_valid_time() {
        assert!(parse_timestamp("202602282359").is_some());
        for wrong in
            ["202602302359", "202602282460", "20260228235", "2026022823599", "20260228 359"]
        {
            assert!(parse_timestamp(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn formats_with_seven_fractional_digits() {
        let moment: Timestamp = "2026-02-23T09:52:01.934296599Z".parse().unwrap();
        assert_eq!(format_timestamp(moment), "2026-02-23T09:52:01.9342965Z");
        let even: Timestamp = "2026-02-23T09:52:01Z".parse().unwrap();
        assert_eq!(format_timestamp(even), "2026-02-23T09:52:01.0000000Z");
    }
}
