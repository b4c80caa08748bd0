//! Measuring requests.

use std::time::Duration;

/// Takes note of finished requests. Called on the hot path.
pub trait Meter: Send + Sync + 'static {
    /// A request ended. `method` is `service/method` of the contract, or `unknown`; `code` the gRPC code by name,
    /// `CANCELLED` also for a request that its caller gave up.
    fn request(&self, method: &'static str, code: &'static str, duration: Duration);

    /// A request over HTTP ended. `route` is the path as it is written down with its parameters by name, or
    /// `unknown`; `status` 499 for a request that its client gave up.
    fn http_request(&self, route: &'static str, status: u16, duration: Duration);
}
