//! Measuring requests, and counting events for the metrics page.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Records finished requests. Called on the hot path.
pub trait Meter: Send + Sync + 'static {
    /// Returns the recorder of one gRPC method. `method` is `service/method` of the API, or `unknown`.
    fn request_meter(&self, method: &'static str) -> Box<dyn RequestMeter>;

    /// Records an HTTP request. `route` is the path template with named parameters, or `unknown`. `status` is 499 if
    /// the client closed the request.
    fn record_http_request(&self, route: &'static str, status: u16, duration: Duration);
}

/// Records finished requests of one gRPC method. It exists so that no request looks up its metrics by name.
pub trait RequestMeter: Send + Sync + 'static {
    /// Records a request. `code` is the name of the gRPC code; a request that its client cancelled is `CANCELLED`.
    fn record(&self, code: &'static str, duration: Duration);
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
