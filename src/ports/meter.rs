//! Measuring requests.

use std::time::Duration;

/// Records finished requests. Called on the hot path.
pub trait Meter: Send + Sync + 'static {
    /// Records a gRPC request. `method` is `service/method` of the API, or `unknown`. `code` is the name of the gRPC
    /// code; a request that its client cancelled is `CANCELLED`.
    fn record_request(&self, method: &'static str, code: &'static str, duration: Duration);

    /// Records an HTTP request. `route` is the path template with named parameters, or `unknown`. `status` is 499 if
    /// the client closed the request.
    fn record_http_request(&self, route: &'static str, status: u16, duration: Duration);
}
