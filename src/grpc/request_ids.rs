//! Ids for requests that bring none.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use jiff::Timestamp;
use uuid::Builder;

use crate::ports::Random;

/// Makes ids that sort by time (UUID version 7). They are counted, from where chance has put the beginning: they need
/// to be different, not hard to guess, and randomness for each is seen in a profile of warm calls.
pub(super) struct RequestIds {
    first: u128,
    count: AtomicU64,
}

impl RequestIds {
    pub(super) fn new(random: &dyn Random) -> Self {
        Self { first: u128::from_be_bytes(random.bytes()), count: AtomicU64::new(0) }
    }

    pub(super) fn next(&self, now: Timestamp) -> Arc<str> {
        let number = self.first.wrapping_add(self.count.fetch_add(1, Ordering::Relaxed).into());
        let [_, _, _, _, _, _, tail @ ..] = number.to_be_bytes();
        let millis = u64::try_from(now.as_millisecond()).unwrap_or_default();
        Builder::from_unix_timestamp_millis(millis, &tail).into_uuid().to_string().into()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    struct Fixed(u8);

    impl Random for Fixed {
        fn bytes(&self) -> [u8; 16] {
            [self.0; 16]
        }
    }

    #[test]
    fn ids_of_one_moment_differ_also_those_of_two_processes() {
        let processes = [RequestIds::new(&Fixed(0x11)), RequestIds::new(&Fixed(0xff))];
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let ids: BTreeSet<_> =
            (0..2_000).flat_map(|_| processes.iter().map(|ids| ids.next(now))).collect();
        assert_eq!(ids.len(), 4_000);
        assert!(ids.iter().all(|id| id.starts_with("01a3185c-5000-7")), "{ids:?}");
    }
}
