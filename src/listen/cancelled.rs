//! Limits for HTTP/2 clients that cancel many requests, and for the bytes read from a connection in one turn.
//!
//! A client, or a sidecar with the calls of many clients on one connection, may cancel hundreds of requests at once.
//! This must not end the connection, because other calls run on it. But a client that opens and cancels streams without
//! end (CVE-2023-44487) must not fill the memory.

use std::task::{Context, Poll, Waker, ready};

use tokio::task::coop;

/// Streams of one connection that the client cancelled before the server took them from the queue. One more ends the
/// connection with `ENHANCE_YOUR_CALM`.
///
/// Each holds its stream state and its request head until the next turn of the connection's task: about 3 KiB for a
/// usual request, so 6 MiB for all. `poll_read_turn` limits the total to the decoded heads of 120 KiB of frames, at
/// most about 16 MiB for one connection.
pub const MAX_CANCELLED_STREAMS: usize = 2048;

/// Stream errors for which the server resets a stream, over the life of one connection.
///
/// Rejected uploads count too, although their clients broke no rule: h2 ignores DATA frames only for the last 50
/// streams that it reset, for 1 s; it counts every later one. The limit costs no memory, because it is a counter.
pub const MAX_STREAM_ERRORS: usize = 1024 * 1024;

/// The units of the cooperative budget that tokio gives a task for each turn, which is one poll by the runtime.
const TURN_UNITS: usize = 128;

/// The bytes of a read that use up one unit.
const BYTES_PER_UNIT: usize = 1024;

/// The units that reads leave for writes and timers. Without them, a client that never stops sending would receive
/// nothing, and its connection would not end at its maximum age.
const RESERVED_UNITS: usize = 8;

/// The bytes that one turn reads of an unauthorized connection of an unknown address. Every such connection may read
/// before the first of its requests is rejected, so this limits the memory of all their requests together.
pub(crate) const UNAUTHORIZED_READ_BYTES: usize = 1024;

/// Ready while the task may read in this turn. Otherwise wakes the task for the next turn. Between two turns the server
/// takes new streams from the queue, and other tasks run.
///
/// hyper polls the connection again for each new stream, so only the budget tells where a turn ends.
pub(crate) fn poll_read_turn(context: &mut Context<'_>) -> Poll<()> {
    poll_units(RESERVED_UNITS + 1, context)
}

/// Charges the budget for bytes that the task has read, about 120 KiB in one turn.
pub(crate) fn charge_read(bytes: usize) {
    spend(bytes / BYTES_PER_UNIT);
}

/// Ends the turn for reads.
pub(crate) fn end_read_turn() {
    spend(TURN_UNITS);
}

fn spend(units: usize) {
    // The reader finds the end of the turn at its next read, so no wake-up is needed here.
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..units.min(TURN_UNITS) {
        if !coop::has_budget_remaining() || poll_read_turn(&mut context).is_pending() {
            return;
        }
        let Poll::Ready(unit) = coop::poll_proceed(&mut context) else { return };
        unit.made_progress();
    }
}

/// Ready if the budget has so many units. Takes none of them: a unit returns to the budget when it is dropped.
fn poll_units(units: usize, context: &mut Context<'_>) -> Poll<()> {
    if units == 0 {
        return Poll::Ready(());
    }
    let _unit = ready!(coop::poll_proceed(context));
    poll_units(units - 1, context)
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::task::JoinSet;

    use super::*;

    /// Runs `turn` as a task, which begins with a full budget, in one poll.
    async fn in_one_turn<T: Send + 'static>(
        mut turn: impl FnMut(&mut Context<'_>) -> T + Send + 'static,
    ) -> T {
        let task = poll_fn(move |context| Poll::Ready(turn(context)));
        JoinSet::from_iter([task]).join_next().await.unwrap().unwrap()
    }

    #[tokio::test]
    async fn a_turn_reads_at_most_120_kib() {
        for bytes in [1024, 16 * 1024, 64 * 1024] {
            let read = in_one_turn(move |context| {
                let mut read = 0;
                while poll_read_turn(context).is_ready() {
                    charge_read(bytes);
                    read += bytes;
                }
                read
            });
            let read = read.await;
            assert!((120 * 1024..120 * 1024 + bytes).contains(&read), "{bytes}: {read}");
        }
    }

    #[tokio::test]
    async fn a_turn_that_has_ended_leaves_units_for_writes() {
        let left = in_one_turn(|context| {
            end_read_turn();
            assert!(poll_read_turn(context).is_pending());
            poll_units(RESERVED_UNITS, context).is_ready()
        });
        assert!(left.await);
    }
}
