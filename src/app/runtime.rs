//! The clock and the random number generator of the system.

use std::sync::Arc;

use crate::{broker::Runtime, crypto::SystemRandom, ports::SystemClock};

impl Runtime {
    /// Creates a runtime with the clock and the random number generator of the system.
    #[must_use]
    pub fn system() -> Self {
        let clock = Arc::new(SystemClock);
        Self::new(clock.clone(), clock, Arc::new(SystemRandom))
    }
}
