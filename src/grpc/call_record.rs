//! The metric and the log line of a call.

use std::{sync::Arc, time::Instant};

use http::{HeaderName, HeaderValue, Response};
use tokio_util::task::task_tracker::TaskTrackerToken;
use tonic::{Code, body::Body};

use super::{
    audit_recorder::AuditRecorder,
    context::CallContext,
    failure::{Failure, code_name},
    limits::ACCEPTED_ENCODINGS,
    normalize::ACCEPT_ENCODING,
};
use crate::{
    listen::{REQUEST_ID, SLOW_CALL},
    ports::RequestMeter,
};

/// The names of the headers of every response, parsed once.
const ACCEPT_ENCODING_NAME: HeaderName = HeaderName::from_static(ACCEPT_ENCODING);
const REQUEST_ID_NAME: HeaderName = HeaderName::from_static(REQUEST_ID);

/// A served method, and the recorders of its calls.
pub(super) struct ServedMethod {
    /// `service/method`, or `unknown`.
    pub(super) name: &'static str,
    pub(super) meter: Box<dyn RequestMeter>,
    pub(super) audit: Arc<AuditRecorder>,
}

/// Counts and logs a call when it ends, also if its caller disconnects.
pub(super) struct CallRecord {
    pub(super) context: Arc<CallContext>,
    pub(super) method: Arc<ServedMethod>,
    pub(super) begin: Instant,
    pub(super) code: Code,
    /// The reason to refuse the call before all other checks.
    pub(super) refused: Option<Failure>,
    /// Held until the call is answered.
    pub(super) _unanswered: TaskTrackerToken,
}

impl CallRecord {
    /// Ends the record with the status of the response. Returns the response with the headers of every response.
    pub(super) fn finish(mut self, mut response: Response<Body>, code: Code) -> Response<Body> {
        // Every answer lists the accepted encodings, so that clients know that they may compress.
        let headers = response.headers_mut();
        headers.insert(ACCEPT_ENCODING_NAME, HeaderValue::from_static(ACCEPTED_ENCODINGS));
        if let Ok(mut id) = HeaderValue::from_str(&self.context.request_id) {
            // The id is unique, so indexing it in the HPACK table is useless (RFC 7541 section 7.1.3) and cost more
            // time than the rest of this layer.
            id.set_sensitive(true);
            headers.insert(REQUEST_ID_NAME, id);
        }
        self.code = code;
        response
    }
}

impl Drop for CallRecord {
    fn drop(&mut self) {
        let ServedMethod { name, meter, audit } = &*self.method;
        audit.write_unanswered(&self.context);
        let CallContext { request_id, client, tenant, failure, .. } = &*self.context;
        let caller = self.context.caller();
        let duration = self.begin.elapsed();
        let code = code_name(self.code);
        meter.record(code, duration);
        let failure = failure.get();
        let unauthenticated = caller.is_unauthenticated();
        // Successful health probes come every few seconds and are not logged.
        if name.starts_with("grpc.") && self.code == Code::Ok {
            return;
        }
        macro_rules! log_end {
            ($level:expr) => {
                tracing::event!(
                    $level,
                    rpc.method = name,
                    rpc.code = code,
                    reason = failure.map(|(reason, _)| reason.as_str()),
                    cause = failure.and_then(|(_, cause)| cause.as_deref()),
                    caller = (!unauthenticated).then(|| caller.id()),
                    caller_certificate = caller.certificate(),
                    client_address = unauthenticated.then(|| tracing::field::display(client)),
                    tenant = tenant.get().map(tracing::field::display),
                    request_id = &**request_id,
                    duration_us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX),
                    "call ended"
                )
            };
        }
        // Calls for credentials in memory are the most frequent ones, and the audit trail has the same facts.
        let is_routine =
            self.code == Code::Ok && duration < SLOW_CALL && self.context.is_credential_audited();
        if is_routine {
            log_end!(tracing::Level::DEBUG);
        } else {
            log_end!(tracing::Level::INFO);
        }
    }
}
