//! The sandbox's clock: real time, shifted by as many seconds as a test wants.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use hyper::header::HeaderValue;
use jiff::fmt::rfc2822::DateTimePrinter;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, civil};

/// Length of `yyyyMMddHHmm`.
const STAMP_DIGITS: usize = 12;

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

/// As HTTP writes it (RFC 9110 section 5.6.7).
pub(crate) fn http_date(moment: Timestamp) -> Option<HeaderValue> {
    let date = DateTimePrinter::new().timestamp_to_rfc9110_string(&moment).ok()?;
    HeaderValue::from_str(&date).ok()
}

/// Reads the timestamp of a signed system user token; `None` unless it is exactly
/// `yyyyMMddHHmm` and a moment that exists.
pub(crate) fn parse_stamp(text: &str) -> Option<Timestamp> {
    if text.len() != STAMP_DIGITS || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let minute = civil::DateTime::strptime("%Y%m%d%H%M", text).ok()?;
    Some(minute.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

/// Whether a timestamp is near enough to the clock; the limit itself is near enough.
pub(crate) fn is_within(now: Timestamp, stamp: Timestamp, allowed: Duration) -> bool {
    now.duration_since(stamp).unsigned_abs() <= allowed
}

/// Formats as the tenant status does: seven fractional digits and `Z`.
pub(crate) fn seven_digits(moment: Timestamp) -> String {
    moment.strftime("%Y-%m-%dT%H:%M:%S%.7fZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_skew_limit_is_inclusive_on_both_sides() {
        let stamp = parse_stamp("202602230952").unwrap();
        let allowed = Duration::from_mins(5);
        let at = |seconds| stamp + SignedDuration::from_secs(seconds);
        assert!(is_within(at(300), stamp, allowed));
        assert!(is_within(at(-300), stamp, allowed));
        assert!(!is_within(at(301), stamp, allowed));
        assert!(!is_within(at(-301), stamp, allowed));
    }

    #[test]
    fn a_stamp_is_twelve_digits_of_a_moment_that_exists() {
        assert!(parse_stamp("202602282359").is_some());
        for wrong in
            ["202602302359", "202602282460", "20260228235", "2026022823599", "20260228 359"]
        {
            assert!(parse_stamp(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn seven_fractional_digits_are_always_written() {
        let moment: Timestamp = "2026-02-23T09:52:01.934296599Z".parse().unwrap();
        assert_eq!(seven_digits(moment), "2026-02-23T09:52:01.9342965Z");
        let even: Timestamp = "2026-02-23T09:52:01Z".parse().unwrap();
        assert_eq!(seven_digits(even), "2026-02-23T09:52:01.0000000Z");
    }
}
