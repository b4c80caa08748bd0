//! The id that a request has in the log, in the audit trail and in its answer.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use http::HeaderMap;

use crate::ports::{Clock, Random};

/// Taken from the caller where it is well formed, and sent back.
pub const REQUEST_ID: &str = "x-request-id";

/// A caller's request id is longer than this only by mistake.
const MAX_REQUEST_ID_BYTES: usize = 64;

/// Names requests.
///
/// Ids of its own are counted, from where chance has put the beginning: they need to be different, not hard to guess,
/// and randomness for each is seen in a profile of warm calls.
pub struct RequestIds {
    clock: Arc<dyn Clock>,
    first: u128,
    count: AtomicU64,
}

impl RequestIds {
    /// Begins to count.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, random: &dyn Random) -> Self {
        let first = u128::from_be_bytes(random.bytes());
        Self { clock, first, count: AtomicU64::new(0) }
    }

    /// The caller's own, if it cannot disturb a log; else a new one.
    #[must_use]
    pub fn of(&self, headers: &HeaderMap) -> Arc<str> {
        let given = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok()).filter(|id| fine(id));
        given.map_or_else(|| self.fresh().into(), Into::into)
    }

    /// UUID version 7: sorts by time.
    fn fresh(&self) -> String {
        let number = self.first.wrapping_add(self.count.fetch_add(1, Ordering::Relaxed).into());
        let [_, _, _, _, _, _, tail @ ..] = number.to_be_bytes();
        let millis = u64::try_from(self.clock.now().as_millisecond()).unwrap_or_default();
        uuid::Builder::from_unix_timestamp_millis(millis, &tail).into_uuid().to_string()
    }
}

/// The trace that a request belongs to: that of `traceparent` (W3C Trace Context, 3.2.2.3), if it is one.
#[must_use]
pub fn trace_id(headers: &HeaderMap) -> Option<Arc<str>> {
    let parent = headers.get("traceparent")?.to_str().ok()?;
    let id = parent.split('-').nth(1)?;
    let hex = id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    (id.len() == 32 && hex && id.bytes().any(|b| b != b'0')).then(|| id.into())
}

fn fine(id: &str) -> bool {
    (1..=MAX_REQUEST_ID_BYTES).contains(&id.len())
        && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use jiff::Timestamp;

    use super::*;
    use crate::ports::ManualClock;

    struct Fixed(u8);

    impl Random for Fixed {
        fn bytes(&self) -> [u8; 16] {
            [self.0; 16]
        }
    }

    #[test]
    fn ids_of_one_moment_differ_also_those_of_two_processes() {
        let clock = Arc::new(ManualClock::new(Timestamp::from_second(1_800_000_000).unwrap()));
        let process = |random: u8| RequestIds::new(clock.clone(), &Fixed(random));
        let processes = [process(0x11), process(0xff)];
        let ids: BTreeSet<_> =
            (0..2_000).flat_map(|_| processes.iter().map(RequestIds::fresh)).collect();
        assert_eq!(ids.len(), 4_000);
        assert!(ids.iter().all(|id| id.starts_with("01a3185c-5000-7")), "{ids:?}");
    }

    #[test]
    fn a_request_id_is_taken_only_if_it_cannot_disturb_a_log() {
        assert!(fine("0196f1d2-5c7a-7000-8000-000000000000"));
        for id in ["", "a b", "a\n", "å", &"a".repeat(65)] {
            assert!(!fine(id), "{id}");
        }
    }
}
