//! The metrics in the `OpenMetrics` text format.

use std::{fmt, sync::OnceLock, time::Duration};

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

use crate::ports::{Meter, RequestMeter};

/// The buckets range from a cached ticket to a slow token exchange, in seconds.
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

/// The metrics of one gRPC method. Its own ones are looked up at the first request, because the page shows no method
/// that was never called.
struct MethodMetrics {
    labels: MethodLabels,
    requests: Family<RequestLabels, Counter>,
    durations: Family<MethodLabels, Histogram>,
    /// The counter of requests with the code `OK`.
    succeeded: OnceLock<Counter>,
    duration: OnceLock<Histogram>,
}

impl MethodMetrics {
    fn requests(&self, grpc_code: &'static str) -> Counter {
        let MethodLabels { grpc_service, grpc_method } = self.labels;
        let labels = RequestLabels { grpc_service, grpc_method, grpc_code };
        self.requests.get_or_create_owned(&labels)
    }
}

impl RequestMeter for MethodMetrics {
    fn record(&self, code: &'static str, duration: Duration) {
        if code == "OK" {
            self.succeeded.get_or_init(|| self.requests(code)).inc();
        } else {
            self.requests(code).inc();
        }
        let durations = || self.durations.get_or_create_owned(&self.labels);
        self.duration.get_or_init(durations).observe(duration.as_secs_f64());
    }
}

/// The kind of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// The value only grows.
    Counter,
    /// The value can decrease.
    Gauge,
}

/// A metric that other code counts. It is read when the metrics are exported.
pub struct ObservedMetric {
    /// The name without the prefix, and for a counter without `_total`.
    pub name: &'static str,
    /// The help text, without a full stop.
    pub help: &'static str,
    /// The kind of the metric.
    pub kind: MetricKind,
    /// Reads the value.
    pub read: Box<dyn Fn() -> i64 + Send + Sync>,
}

impl fmt::Debug for ObservedMetric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

#[derive(Debug)]
struct ObservedCollector(Vec<ObservedMetric>);

impl Metrics {
    /// Creates the metrics of requests and registers the observed ones.
    #[must_use]
    pub fn new(observed: Vec<ObservedMetric>) -> Self {
        let mut registry = Registry::with_prefix("tenantgateway");
        let requests = Family::default();
        let durations = Family::new_with_constructor((|| Histogram::new(DURATION_BUCKETS)) as _);
        registry.register("grpc_requests", "Calls that ended, by code", Family::clone(&requests));
        let help = "Duration of calls";
        registry.register("grpc_request_duration_seconds", help, durations.clone());
        let http_requests = Family::default();
        let http_durations =
            Family::new_with_constructor((|| Histogram::new(DURATION_BUCKETS)) as _);
        let help = "Requests of the HTTP and egress listeners that ended, by status";
        registry.register("http_requests", help, Family::clone(&http_requests));
        let help = "Duration of requests of the HTTP and egress listeners, including the bodies of their responses";
        registry.register("http_request_duration_seconds", help, http_durations.clone());
        let version = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The running program", version);
        registry.register_collector(Box::new(ObservedCollector(observed)));
        Self { registry, requests, durations, http_requests, http_durations }
    }

    /// Returns the metrics as text.
    #[must_use]
    pub fn page(&self) -> String {
        let mut page = String::new();
        // Does not happen: writing to a string does not fail.
        if encode(&mut page, &self.registry).is_err() {
            page.clear();
        }
        page
    }
}

impl Meter for Metrics {
    fn request_meter(&self, method: &'static str) -> Box<dyn RequestMeter> {
        let (grpc_service, grpc_method) = method.split_once('/').unwrap_or(("", method));
        Box::new(MethodMetrics {
            labels: MethodLabels { grpc_service, grpc_method },
            requests: self.requests.clone(),
            durations: self.durations.clone(),
            succeeded: OnceLock::new(),
            duration: OnceLock::new(),
        })
    }

    fn record_http_request(&self, http_route: &'static str, http_status: u16, duration: Duration) {
        self.http_requests.get_or_create(&HttpLabels { http_route, http_status }).inc();
        let labels = RouteLabels { http_route };
        self.http_durations.get_or_create(&labels).observe(duration.as_secs_f64());
    }
}

impl Collector for ObservedCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for ObservedMetric { name, help, kind, read } in &self.0 {
            match kind {
                MetricKind::Counter => {
                    let value = ConstCounter::new(u64::try_from(read()).unwrap_or_default());
                    let metric =
                        encoder.encode_descriptor(name, help, None, value.metric_type())?;
                    value.encode(metric)?;
                }
                MetricKind::Gauge => {
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
    fn exports_requests_and_observed_metrics() {
        let read = || 7;
        let exchanges = ObservedMetric {
            name: "exchanges",
            help: "Tickets issued",
            kind: MetricKind::Counter,
            read: Box::new(read),
        };
        let metrics = Metrics::new(vec![exchanges]);
        let method = metrics.request_meter("a.v1.B/C");
        assert!(!metrics.page().contains("a.v1.B"), "a method without a request is not exported");
        for code in ["OK", "OK", "NOT_FOUND"] {
            method.record(code, Duration::from_millis(1));
        }
        metrics.request_meter("a.v1.B/C").record("OK", Duration::from_millis(1));
        metrics.record_http_request("/a/{b}", 404, Duration::from_millis(1));
        let page = metrics.page();
        for line in [
            "tenantgateway_exchanges_total 7",
            r#"tenantgateway_grpc_requests_total{grpc_service="a.v1.B",grpc_method="C",grpc_code="OK"} 3"#,
            r#"tenantgateway_grpc_requests_total{grpc_service="a.v1.B",grpc_method="C",grpc_code="NOT_FOUND"} 1"#,
            r#"tenantgateway_grpc_request_duration_seconds_count{grpc_service="a.v1.B",grpc_method="C"} 4"#,
            r#"tenantgateway_http_requests_total{http_route="/a/{b}",http_status="404"} 1"#,
        ] {
            assert!(page.contains(line), "{page}");
        }
    }
}
