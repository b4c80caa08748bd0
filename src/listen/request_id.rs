//! The id of a request in the log, in the audit trail and in the response.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use http::HeaderMap;
use uuid::Uuid;

use crate::ports::{Clock, Random};

/// The header that carries the request id. A well-formed id of the caller is kept, and the response repeats it.
pub const REQUEST_ID: &str = "x-request-id";

/// The maximum length of a request id from a caller. Longer ids are replaced.
const MAX_REQUEST_ID_BYTES: usize = 64;

/// Generates request ids.
///
/// Generated ids are a counter with a random start. They must be unique; they need not be hard to guess. Random bytes
/// for each request would cost measurable time.
pub struct RequestIdGenerator {
    clock: Arc<dyn Clock>,
    first: u128,
    count: AtomicU64,
}

impl RequestIdGenerator {
    /// Returns a generator that starts at a random number.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, random: &dyn Random) -> Self {
        let first = u128::from_be_bytes(random.bytes());
        Self { clock, first, count: AtomicU64::new(0) }
    }

    /// Returns the caller's id if it is well formed, otherwise a new one.
    #[must_use]
    pub fn for_request(&self, headers: &HeaderMap) -> Arc<str> {
        let given =
            headers.get(REQUEST_ID).and_then(|id| id.to_str().ok()).filter(|id| is_valid(id));
        given.map_or_else(|| self.generate(), Into::into)
    }

    /// Returns a UUID of version 7, which sorts by time.
    fn generate(&self) -> Arc<str> {
        let number = self.first.wrapping_add(self.count.fetch_add(1, Ordering::Relaxed).into());
        let [_, _, _, _, _, _, tail @ ..] = number.to_be_bytes();
        let millis = u64::try_from(self.clock.now().as_millisecond()).unwrap_or_default();
        let id = uuid::Builder::from_unix_timestamp_millis(millis, &tail).into_uuid();
        let mut buffer = Uuid::encode_buffer();
        let text: &str = id.hyphenated().encode_lower(&mut buffer);
        text.into()
    }
}

/// Returns the trace id in the header `traceparent` (W3C Trace Context, 3.2.2.3), if it is valid.
#[must_use]
pub fn trace_id(headers: &HeaderMap) -> Option<Arc<str>> {
    let parent = headers.get("traceparent")?.to_str().ok()?;
    let id = parent.split('-').nth(1)?;
    let hex = id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    (id.len() == 32 && hex && id.bytes().any(|b| b != b'0')).then(|| id.into())
}

fn is_valid(id: &str) -> bool {
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
    fn generates_unique_ids_at_the_same_time_in_two_processes() {
        let clock = Arc::new(ManualClock::new(Timestamp::from_second(1_800_000_000).unwrap()));
        let process = |random: u8| RequestIdGenerator::new(clock.clone(), &Fixed(random));
        let processes = [process(0x11), process(0xff)];
        let ids: BTreeSet<_> =
            (0..2_000).flat_map(|_| processes.iter().map(RequestIdGenerator::generate)).collect();
        assert_eq!(ids.len(), 4_000);
        assert!(ids.iter().all(|id| id.starts_with("01a3185c-5000-7")), "{ids:?}");
    }

    #[test]
    fn accepts_only_request_ids_that_are_safe_in_a_log() {
        assert!(is_valid("0196f1d2-5c7a-7000-8000-000000000000"));
        for id in ["", "a b", "a\n", "å", &"a".repeat(65)] {
            assert!(!is_valid(id), "{id}");
        }
    }
}
