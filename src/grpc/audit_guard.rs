//! The audit events of a stream, or of a request that a proxy holds.

use std::sync::Arc;

use super::{audit_recorder::AuditRecorder, context::CallContext, failure::Failure};

/// Writes the audit events when it is dropped, also if the client or the proxy disconnects.
pub(super) struct AuditGuard {
    pub(super) context: Arc<CallContext>,
    pub(super) audit: Arc<AuditRecorder>,
}

impl AuditGuard {
    /// Writes the audit events of an outcome before it is sent. If that fails, returns that failure instead.
    pub(super) async fn write_outcome<T>(&self, outcome: Result<T, Failure>) -> Result<T, Failure> {
        let (code, reason) = Failure::outcome(outcome.as_ref().err());
        self.audit.write(&self.context, code, reason).await?;
        outcome
    }
}

impl Drop for AuditGuard {
    fn drop(&mut self) {
        self.audit.write_unanswered(&self.context);
    }
}
