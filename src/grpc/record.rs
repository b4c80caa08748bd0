//! What is counted and logged of a call.

use std::{sync::Arc, time::Instant};

use tokio_util::task::task_tracker::TaskTrackerToken;
use tonic::Code;

use super::{
    failure::{Failure, code_name},
    layer::Context,
    trail::Audit,
};
use crate::{access::Caller, ports::Meter};

/// Counts and logs a call when it ends, also when its caller gives up.
pub(super) struct Record {
    pub(super) context: Arc<Context>,
    pub(super) meter: Arc<dyn Meter>,
    pub(super) audit: Arc<Audit>,
    pub(super) method: &'static str,
    pub(super) begin: Instant,
    pub(super) code: Code,
    /// Why the call is refused before anything else is looked at.
    pub(super) refused: Option<Failure>,
    /// Held until the call is answered.
    pub(super) _unanswered: TaskTrackerToken,
}

impl Record {
    /// Before anybody else holds the context.
    pub(super) fn is_called_by(&mut self, caller: Caller) {
        if let Some(context) = Arc::get_mut(&mut self.context) {
            context.caller = caller;
        }
    }

    pub(super) fn end(mut self, code: Code) {
        self.code = code;
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.audit.keep_unanswered(&self.context);
        let Context { request_id, caller, client, tenant, failure, .. } = &*self.context;
        let duration = self.begin.elapsed();
        let code = code_name(self.code);
        self.meter.request(self.method, code, duration);
        let failure = failure.get();
        let nobody = caller.is_nobody();
        // Probes come every few seconds and tell nothing.
        if self.method.starts_with("grpc.") && self.code == Code::Ok {
            return;
        }
        tracing::info!(
            rpc.method = self.method,
            rpc.code = code,
            reason = failure.map(|(reason, _)| reason.as_str()),
            cause = failure.and_then(|(_, cause)| cause.as_deref()),
            caller = (!nobody).then(|| caller.id()),
            caller_certificate = caller.certificate(),
            client_address = nobody.then(|| tracing::field::display(client)),
            tenant = tenant.get().map(tracing::field::display),
            request_id = &**request_id,
            duration_us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX),
            "call ended"
        );
    }
}
