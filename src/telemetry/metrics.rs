//! The metrics page, in the `OpenMetrics` text format.

use std::{fmt, time::Duration};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric as _, text::encode},
    metrics::{
        counter::{ConstCounter, Counter},
        family::Family,
        gauge::ConstGauge,
        histogram::Histogram,
        info::Info,
    },
    registry::Registry,
};

use crate::ports::Meter;

/// From a cached answer to a slow exchange.
const DURATION_BUCKETS: [f64; 12] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1.0, 5.0, 30.0];

/// All metrics of the process.
pub struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    durations: Family<MethodLabels, Histogram>,
    http_requests: Family<HttpLabels, Counter>,
    http_durations: Family<RouteLabels, Histogram>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MethodLabels {
    grpc_service: &'static str,
    grpc_method: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
#[expect(clippy::struct_field_names, reason = "the names of the labels on the page")]
struct RequestLabels {
    grpc_service: &'static str,
    grpc_method: &'static str,
    grpc_code: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    http_route: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HttpLabels {
    http_route: &'static str,
    http_status: u16,
}

/// Whether a number only grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObservedKind {
    /// It only grows.
    Counter,
    /// It goes up and down.
    Gauge,
}

/// A number that somebody else counts and that is read when the page is.
pub struct Observed {
    /// Without the prefix, and for a counter without `_total`.
    pub name: &'static str,
    /// What it counts, without a full stop.
    pub help: &'static str,
    /// Whether it only grows.
    pub kind: ObservedKind,
    /// Reads it.
    pub read: Box<dyn Fn() -> i64 + Send + Sync>,
}

impl fmt::Debug for Observed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

#[derive(Debug)]
struct Reader(Vec<Observed>);

impl Metrics {
    /// With these numbers beside those of requests.
    #[must_use]
    pub fn new(observed: Vec<Observed>) -> Self {
        let mut registry = Registry::with_prefix("tenantgateway");
        let requests = Family::default();
        let durations = Family::new_with_constructor((|| Histogram::new(DURATION_BUCKETS)) as _);
        registry.register("grpc_requests", "Calls that ended, by code", Family::clone(&requests));
        let help = "How long calls took";
        registry.register("grpc_request_duration_seconds", help, durations.clone());
        let http_requests = Family::default();
        let http_durations =
            Family::new_with_constructor((|| Histogram::new(DURATION_BUCKETS)) as _);
        let help = "Requests of the HTTP and egress listeners that ended, by status";
        registry.register("http_requests", help, Family::clone(&http_requests));
        let help = "How long requests of the HTTP and egress listeners took, with the bodies of their answers";
        registry.register("http_request_duration_seconds", help, http_durations.clone());
        let version = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The running program", version);
        registry.register_collector(Box::new(Reader(observed)));
        Self { registry, requests, durations, http_requests, http_durations }
    }

    /// The page.
    #[must_use]
    pub fn page(&self) -> String {
        let mut page = String::new();
        // Cannot happen: writing to a string does not fail.
        if encode(&mut page, &self.registry).is_err() {
            page.clear();
        }
        page
    }
}

impl Meter for Metrics {
    fn request(&self, method: &'static str, code: &'static str, duration: Duration) {
        let (grpc_service, grpc_method) = method.split_once('/').unwrap_or(("", method));
        let labels = RequestLabels { grpc_service, grpc_method, grpc_code: code };
        self.requests.get_or_create(&labels).inc();
        let labels = MethodLabels { grpc_service, grpc_method };
        self.durations.get_or_create(&labels).observe(duration.as_secs_f64());
    }

    fn http_request(&self, http_route: &'static str, http_status: u16, duration: Duration) {
        self.http_requests.get_or_create(&HttpLabels { http_route, http_status }).inc();
        let labels = RouteLabels { http_route };
        self.http_durations.get_or_create(&labels).observe(duration.as_secs_f64());
    }
}

impl Collector for Reader {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for Observed { name, help, kind, read } in &self.0 {
            match kind {
                ObservedKind::Counter => {
                    let value = ConstCounter::new(u64::try_from(read()).unwrap_or_default());
                    let metric =
                        encoder.encode_descriptor(name, help, None, value.metric_type())?;
                    value.encode(metric)?;
                }
                ObservedKind::Gauge => {
                    let value = ConstGauge::new(read());
                    let metric =
                        encoder.encode_descriptor(name, help, None, value.metric_type())?;
                    value.encode(metric)?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_requests_and_what_others_count() {
        let read = || 7;
        let exchanges = Observed {
            name: "exchanges",
            help: "Tickets issued",
            kind: ObservedKind::Counter,
            read: Box::new(read),
        };
        let metrics = Metrics::new(vec![exchanges]);
        metrics.request("a.v1.B/C", "OK", Duration::from_millis(1));
        metrics.http_request("/a/{b}", 404, Duration::from_millis(1));
        let page = metrics.page();
        for line in [
            "tenantgateway_exchanges_total 7",
            r#"tenantgateway_grpc_requests_total{grpc_service="a.v1.B",grpc_method="C",grpc_code="OK"} 1"#,
            r#"tenantgateway_http_requests_total{http_route="/a/{b}",http_status="404"} 1"#,
        ] {
            assert!(page.contains(line), "{page}");
        }
    }
}
