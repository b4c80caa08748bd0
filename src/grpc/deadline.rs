//! The deadline in a call's metadata.

use std::time::Duration;

use http::HeaderMap;

/// The maximum time before the deadline at which a call ends. Our answer must be sent before tonic's own, which is
/// CANCELLED without details. The margin is a tenth of the deadline, within these two limits.
const MAX_MARGIN: Duration = Duration::from_millis(50);

/// The minimum margin. Both timers are rounded up to whole milliseconds, and ours starts earlier.
const MIN_MARGIN: Duration = Duration::from_micros(500);

/// Returns the caller's deadline, as a time from the start of the call.
pub(super) fn requested(headers: &HeaderMap) -> Option<Duration> {
    headers.get("grpc-timeout").and_then(|value| value.to_str().ok()).and_then(read_timeout)
}

/// Returns the time before its deadline at which a call ends.
pub(super) fn margin(timeout: Duration) -> Duration {
    (timeout / 10).clamp(MIN_MARGIN, MAX_MARGIN)
}

/// Parses `grpc-timeout`: at most eight digits and a unit (gRPC over HTTP/2).
fn read_timeout(value: &str) -> Option<Duration> {
    let (digits, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(number * 3600)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parses_each_unit_and_rejects_other_texts() {
        assert_eq!(read_timeout("1H"), Some(Duration::from_hours(1)));
        assert_eq!(read_timeout("2M"), Some(Duration::from_mins(2)));
        assert_eq!(read_timeout("3S"), Some(Duration::from_secs(3)));
        assert_eq!(read_timeout("4m"), Some(Duration::from_millis(4)));
        assert_eq!(read_timeout("5u"), Some(Duration::from_micros(5)));
        assert_eq!(read_timeout("6n"), Some(Duration::from_nanos(6)));
        for value in ["", "S", "1", "1s", "-1S", "+1S", "123456789S", "1.5S", "å", "1å"] {
            assert_eq!(read_timeout(value), None, "{value}");
        }
    }

    proptest! {
        #[test]
        fn accepts_exactly_the_timeouts_of_the_protocol(
            text in "[0-9]{1,9}[HMSmunsh]|[+-]?[0-9.]{0,4}\\PC{0,2}|\\PC{0,12}",
        ) {
            let digits = text.trim_end_matches(['H', 'M', 'S', 'm', 'u', 'n']);
            let legal = digits.len() + 1 == text.len()
                && (1..=8).contains(&digits.len())
                && digits.bytes().all(|b| b.is_ascii_digit());
            prop_assert_eq!(read_timeout(&text).is_some(), legal);
        }
    }
}
