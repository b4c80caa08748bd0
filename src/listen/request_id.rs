//! The id that a request has in the log, in the audit trail and in its answer.

use std::sync::Arc;

use http::HeaderMap;

use crate::ports::{Clock, Random};

/// Taken from the caller where it is well formed, and sent back.
pub const REQUEST_ID: &str = "x-request-id";

/// A caller's request id is longer than this only by mistake.
const MAX_REQUEST_ID_BYTES: usize = 64;

/// Names requests.
pub struct RequestIds {
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
}

impl RequestIds {
    /// Makes ids of time and randomness.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Self {
        Self { clock, random }
    }

    /// The caller's own, if it cannot disturb a log; else a new one.
    #[must_use]
    pub fn of(&self, headers: &HeaderMap) -> Arc<str> {
        let given = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok()).filter(|id| fine(id));
        given.map_or_else(|| self.fresh().into(), Into::into)
    }

    /// UUID version 7: sorts by time.
    fn fresh(&self) -> String {
        let millis = u64::try_from(self.clock.now().as_millisecond()).unwrap_or_default();
        let bytes = self.random.bytes();
        let mut tail = [0; 10];
        tail.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
        uuid::Builder::from_unix_timestamp_millis(millis, &tail).into_uuid().to_string()
    }
}

fn fine(id: &str) -> bool {
    (1..=MAX_REQUEST_ID_BYTES).contains(&id.len())
        && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_id_is_taken_only_if_it_cannot_disturb_a_log() {
        assert!(fine("0196f1d2-5c7a-7000-8000-000000000000"));
        for id in ["", "a b", "a\n", "å", &"a".repeat(65)] {
            assert!(!fine(id), "{id}");
        }
    }
}
