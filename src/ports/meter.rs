//! Measuring requests, and counting events for the metrics page.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Records finished requests. Called on the hot path.
pub trait Meter: Send + Sync + 'static {
    /// Records a gRPC request. `method` is `service/method` of the API, or `unknown`. `code` is the name of the gRPC
    /// code; a request that its client cancelled is `CANCELLED`.
    fn record_request(&self, method: &'static str, code: &'static str, duration: Duration);

    /// Records an HTTP request. `route` is the path template with named parameters, or `unknown`. `status` is 499 if
    /// the client closed the request.
    fn record_http_request(&self, route: &'static str, status: u16, duration: Duration);
}

/// A counter that only increases. The metrics page reads it.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn increment(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Adds a number.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// Returns the current value.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
