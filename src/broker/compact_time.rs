//! Times of cache entries in few bytes, because there are several entries for each tenant.

use std::{num::NonZeroU64, time::Duration};

/// A duration, or a time on the monotonic clock, in 8 bytes; also an `Option` of it. Durations above 584 years are
/// stored as 584 years.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct CompactDuration(
    /// The nanoseconds and one more, because zero stands for `None`.
    NonZeroU64,
);

impl From<Duration> for CompactDuration {
    fn from(duration: Duration) -> Self {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self(NonZeroU64::MIN.saturating_add(nanos))
    }
}

impl From<CompactDuration> for Duration {
    fn from(compact: CompactDuration) -> Self {
        Self::from_nanos(compact.0.get() - 1)
    }
}

/// Returns the whole seconds of a monotonic time, which reach 136 years.
pub(super) fn whole_seconds(time: Duration) -> u32 {
    u32::try_from(time.as_secs()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_restored_to_the_nanosecond_up_to_584_years() {
        const YEAR: Duration = Duration::from_hours(24 * 365);
        for duration in [Duration::ZERO, Duration::from_nanos(1), 500 * YEAR] {
            assert_eq!(Duration::from(CompactDuration::from(duration)), duration);
        }
        assert!(Duration::from(CompactDuration::from(Duration::MAX)) > 584 * YEAR);
        assert_eq!(size_of::<Option<CompactDuration>>(), 8);
        assert_eq!(whole_seconds(Duration::from_millis(1_999)), 1);
        assert_eq!(whole_seconds(Duration::MAX), u32::MAX);
    }
}
