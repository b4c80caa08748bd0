//! The deadline that a call brings.

use std::time::Duration;

use http::HeaderMap;

/// Our answer to a passed deadline must leave before the framework's own, which says CANCELLED and has no details. A
/// tenth of the deadline at most …
const DEADLINE_MARGIN: Duration = Duration::from_millis(50);

/// … and this at least. Timers of both are rounded up to the same whole milliseconds, and ours began earlier.
const LEAST_MARGIN: Duration = Duration::from_micros(500);

/// The deadline that a call brings, counted from its beginning.
pub(super) fn asked(headers: &HeaderMap) -> Option<Duration> {
    headers.get("grpc-timeout").and_then(|value| value.to_str().ok()).and_then(read_timeout)
}

/// How long before its deadline a call is ended.
pub(super) fn margin(asked: Duration) -> Duration {
    (asked / 10).clamp(LEAST_MARGIN, DEADLINE_MARGIN)
}

/// `grpc-timeout`: at most eight digits and a unit (gRPC over HTTP/2).
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
    fn a_deadline_is_read_in_each_unit_and_nothing_else() {
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
        fn every_deadline_of_the_protocol_is_read_and_nothing_else(
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
