//! Measuring requests.

use std::time::Duration;

/// Takes note of finished requests. Called on the hot path.
pub trait Meter: Send + Sync + 'static {
    /// A request ended. `method` is `service/method` of the contract, or `unknown`; `code` the gRPC code by name,
    /// `CANCELLED` also for a request that its caller gave up.
    fn request(&self, method: &'static str, code: &'static str, duration: Duration);
}
