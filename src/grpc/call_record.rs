//! The metric and the log line of a call.

use std::{sync::Arc, time::Instant};

use http::{HeaderValue, Response};
use tokio_util::task::task_tracker::TaskTrackerToken;
use tonic::{Code, body::Body};

use super::{
    audit_recorder::AuditRecorder,
    context::CallContext,
    failure::{Failure, code_name},
    limits::ACCEPTED_ENCODINGS,
    normalize::ACCEPT_ENCODING,
};
use crate::{listen::REQUEST_ID, ports::Meter};

/// Counts and logs a call when it ends, also if its caller disconnects.
pub(super) struct CallRecord {
    pub(super) context: Arc<CallContext>,
    pub(super) meter: Arc<dyn Meter>,
    pub(super) audit: Arc<AuditRecorder>,
    pub(super) method: &'static str,
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
        let accepted = HeaderValue::from_static(ACCEPTED_ENCODINGS);
        response.headers_mut().insert(ACCEPT_ENCODING, accepted);
        if let Ok(mut id) = HeaderValue::from_str(&self.context.request_id) {
            // The id is unique, so indexing it in the HPACK table is useless (RFC 7541 section 7.1.3) and cost more
            // time than the rest of this layer.
            id.set_sensitive(true);
            response.headers_mut().insert(REQUEST_ID, id);
        }
        self.code = code;
        response
    }
}

impl Drop for CallRecord {
    fn drop(&mut self) {
        self.audit.write_unanswered(&self.context);
        let CallContext { request_id, client, tenant, failure, .. } = &*self.context;
        let caller = self.context.caller();
        let duration = self.begin.elapsed();
        let code = code_name(self.code);
        self.meter.record_request(self.method, code, duration);
        let failure = failure.get();
        let unauthenticated = caller.is_unauthenticated();
        // Successful health probes come every few seconds and are not logged.
        if self.method.starts_with("grpc.") && self.code == Code::Ok {
            return;
        }
        tracing::info!(
            rpc.method = self.method,
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
        );
    }
}
