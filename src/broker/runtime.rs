//! The runtime that all use cases share.

use std::sync::Arc;

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::counters::Counters;
use crate::ports::{Clock, Random};

/// The time, the randomness, the counters and the tasks of one gateway. A clone shares all of them, so each start of a
/// gateway needs a new one.
#[derive(Clone)]
pub struct Runtime {
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The clock for short internal waits, such as that of the audit trail for the store. It is separate because a test
    /// that advances `clock` by hours must not make these waits time out.
    pub timer: Arc<dyn Clock>,
    /// The source of random ids and jitter.
    pub random: Arc<dyn Random>,
    /// The counters of the use cases.
    pub counters: Arc<Counters>,
    /// The work that continues when its caller disconnects. The gateway stops after it has ended.
    pub tasks: TaskTracker,
    /// Cancelled during shutdown, when connections get a GOAWAY, and watches and incomplete requests end.
    pub stopping: CancellationToken,
}

impl Runtime {
    /// Creates a runtime with new counters and without tasks.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, timer: Arc<dyn Clock>, random: Arc<dyn Random>) -> Self {
        Self {
            clock,
            timer,
            random,
            counters: Arc::default(),
            tasks: TaskTracker::new(),
            stopping: CancellationToken::new(),
        }
    }
}
