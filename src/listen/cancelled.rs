//! Limits for clients of HTTP/2 that cancel many requests, and for how much of a connection is read in one go.
//!
//! A client, or the sidecar that carries the calls of many clients on one connection, may cancel hundreds of requests at
//! once. This must not end the connection, because other calls run on it. A client that opens and cancels streams without
//! end (CVE-2023-44487) must not fill the memory.

use std::task::{Context, Poll};

use tokio::task::coop;

/// Streams of one connection that their client has cancelled before the server took them from the queue. One more ends
/// the connection with `ENHANCE_YOUR_CALM`.
///
/// Each holds its stream state and the head of its request until the server takes it, which is at the next turn of the
/// connection's task: about 3 KiB for a usual request, so 6 MiB for all. `charge` limits what a client can fill them
/// with: the decoded heads of 128 KiB of frames, at most some 16 MiB for one connection.
pub const MAX_CANCELLED_STREAMS: usize = 2048;

/// Streams that the server has reset in the life of one connection because the client broke a rule.
///
/// Refused uploads count too, although their clients broke no rule: h2 remembers 50 streams that it has reset, for 1 s,
/// and counts each DATA frame of any other for the life of the connection. The limit costs no memory: it is a counter.
pub const MAX_STREAM_ERRORS: usize = 1024 * 1024;

/// The bytes that use up one unit of a task's budget. A task has 128 units for each turn.
const BYTES_PER_UNIT: usize = 1024;

/// Charges the budget of the task for bytes that it has read, so that it reads at most about 128 KiB of a connection
/// before it takes new streams from the queue and lets others run.
pub(crate) fn charge(bytes: usize, context: &mut Context<'_>) {
    // The read itself has cost one unit.
    for _ in 0..bytes / BYTES_PER_UNIT {
        // Without budget the next read waits for the next turn.
        let Poll::Ready(unit) = coop::poll_proceed(context) else { return };
        unit.made_progress();
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::task::JoinSet;

    use super::*;

    /// The bytes that one turn of a task reads in parts of this size.
    async fn read_in_one_turn(bytes: usize) -> usize {
        poll_fn(|context| {
            let mut read = 0;
            while coop::has_budget_remaining() {
                charge(bytes, context);
                read += bytes;
            }
            Poll::Ready(read)
        })
        .await
    }

    #[tokio::test]
    async fn a_turn_reads_at_most_128_kib() {
        for bytes in [1024, 16 * 1024, 64 * 1024] {
            // A task of its own begins with a whole turn.
            let mut turn = JoinSet::from_iter([read_in_one_turn(bytes)]);
            assert_eq!(turn.join_next().await.unwrap().unwrap(), 128 * 1024, "{bytes}");
        }
    }
}
