//! The record of a call: its audit events with decision and result, a log line and a metric.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::http::StatusCode;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::{Peer, failure::Failure, proxy_handler::ProxyHandler};
use crate::{
    access::{AccessError, ActionName, AuthorizedCall, CallError, Caller},
    broker::{AuditUnavailable, EventClass, PendingEvent},
    domain::{AuditRecord, AuditText, CredentialId, Decision, Reason, TenantName},
};

/// The route of all calls in metrics and in the log.
const ROUTE: &str = "/{application}/{tenant}/api/{path}";

/// The status in log and metrics of a request whose client disconnected before the answer. It is never sent.
const CLIENT_GONE: u16 = 499;

/// `google.rpc.Code`s of results.
const CANCELLED: i32 = 1;
const UNAVAILABLE: i32 = 14;

/// The record of a call. It is written when it is dropped.
pub(super) struct CallRecord {
    handler: Arc<ProxyHandler>,
    pub(super) request_id: Arc<str>,
    trace_id: AuditText,
    client: Peer,
    method: &'static str,
    caller: Caller,
    /// The tenant, after the call was permitted.
    tenant: Option<TenantName>,
    /// The reason that the caller gave.
    pub(super) caller_reason: AuditText,
    /// The last audit event of a permitted call.
    final_event: Option<AuditRecord>,
    begin: Instant,
    status: u16,
    reason: Option<Reason>,
    cause: Option<String>,
    /// Whether an unsafe request was sent to SuperOffice and its outcome is unknown.
    pub(super) outcome_is_unknown: bool,
    /// The number of sent bytes of the answer's body.
    pub(super) sent_bytes: u64,
    _unanswered: TaskTrackerToken,
}

impl CallRecord {
    pub(super) fn begin(
        door: Arc<ProxyHandler>,
        client: Peer,
        request_id: Arc<str>,
        trace_id: Option<Arc<str>>,
        method: &'static str,
    ) -> Self {
        let unanswered = door.requests.token();
        Self {
            handler: door,
            request_id,
            trace_id: trace_id.map(AuditText::from).unwrap_or_default(),
            client,
            method,
            caller: Caller::unauthenticated(),
            tenant: None,
            caller_reason: AuditText::default(),
            final_event: None,
            begin: Instant::now(),
            status: CLIENT_GONE,
            reason: None,
            cause: None,
            outcome_is_unknown: false,
            sent_bytes: 0,
            _unanswered: unanswered,
        }
    }

    pub(super) fn set_caller(&mut self, caller: Caller) {
        self.caller = caller;
    }

    /// Writes the event of a permitted call, before any part of its answer is sent.
    pub(super) fn write_permitted(
        &mut self,
        acting: &AuthorizedCall,
    ) -> Result<PendingEvent, AuditUnavailable> {
        self.tenant = Some(acting.tenant().clone());
        self.handler.trail.check(EventClass::Credential)?;
        let record = AuditRecord {
            resource: acting.resource().to_string().into(),
            acting_as: acting_as(acting),
            policy_ids: Arc::clone(acting.policy_ids()),
            ..self.event(acting.action().as_str(), Decision::Allowed)
        };
        let pending = self.handler.trail.record(record.clone(), EventClass::Credential)?;
        // The result is CANCELLED unless it is set later: then the caller has disconnected.
        self.final_event = Some(AuditRecord { code: CANCELLED, ..record });
        Ok(pending)
    }

    /// Writes the event of a denied call and waits for its commit.
    pub(super) async fn write_refused(
        &self,
        not_acting: &CallError,
    ) -> Result<(), AuditUnavailable> {
        let CallError::Refused { action, resource, refused } = not_acting else { return Ok(()) };
        let (AccessError::Denied(ids) | AccessError::PathNotAllowed(ids)) = refused else {
            return Ok(());
        };
        let reason = match refused {
            AccessError::PathNotAllowed(_) => Reason::PathNotAllowed,
            _ => Reason::PolicyDenied,
        };
        let acting_as = match action {
            ActionName::CallWebApiAsSystemUser => "system",
            _ => resource.find("grants/").and_then(|at| resource.get(at..)).unwrap_or_default(),
        };
        let record = AuditRecord {
            acting_as: acting_as.to_owned().into(),
            resource: resource.clone().into(),
            policy_ids: Arc::clone(ids),
            code: reason.code(),
            error_reason: Some(reason),
            ..self.event(action.as_str(), Decision::Denied)
        };
        self.handler.trail.write(record, EventClass::Change).await
    }

    fn event(&self, action: &'static str, decision: Decision) -> AuditRecord {
        let caller = &self.caller;
        AuditRecord {
            caller: caller.shared_id().into(),
            caller_method: caller.method().as_str().into(),
            caller_issuer: caller.shared_issuer().map(AuditText::from).unwrap_or_default(),
            reason: self.caller_reason.clone(),
            request_id: Arc::clone(&self.request_id).into(),
            trace_id: self.trace_id.clone(),
            client_address: Arc::clone(&self.client.text).into(),
            ..AuditRecord::new(action, decision)
        }
    }

    /// Sets the credential that the call uses.
    pub(super) fn set_credential(&mut self, id: &CredentialId) {
        if let Some(decided) = &mut self.final_event {
            decided.credential_id = id.shared().into();
        }
    }

    /// Sets the status of SuperOffice's answer.
    pub(super) fn set_status(&mut self, status: StatusCode) {
        self.status = status.as_u16();
    }

    /// Marks the answer as sent completely.
    pub(super) fn set_complete(&mut self) {
        if let Some(decided) = &mut self.final_event {
            decided.code = code_of(self.status);
        }
    }

    /// Marks SuperOffice's answer as incomplete.
    pub(super) fn set_broken_off(&mut self, cause: String) {
        self.set_reason(Reason::UpstreamUnavailable, Some(cause));
        if let Some(decided) = &mut self.final_event {
            decided.code = UNAVAILABLE;
        }
    }

    /// Sets the failure with which the gateway answers.
    pub(super) fn set_failure(&mut self, failure: &Failure, status: StatusCode) {
        self.status = status.as_u16();
        let reason = failure.problem.reason();
        self.set_reason(reason, failure.cause.clone());
        if let Some(decided) = &mut self.final_event {
            decided.code = failure.problem.code();
        }
    }

    fn set_reason(&mut self, reason: Reason, cause: Option<String>) {
        self.reason = Some(reason);
        self.cause = cause;
        if let Some(decided) = &mut self.final_event {
            decided.error_reason = Some(reason);
        }
    }
}

impl Drop for CallRecord {
    fn drop(&mut self) {
        let duration: Duration = self.begin.elapsed();
        if let Some(decided) = self.final_event.take() {
            let trail = &self.handler.trail;
            // If the first event could not be written, nothing was sent, and this one must be written like the first.
            let noted = if decided.error_reason == Some(Reason::StoreUnavailable) {
                trail.record(decided, EventClass::Credential).map(drop)
            } else {
                trail.record_in_background(decided, EventClass::Credential)
            };
            if noted.is_err() {
                let request_id = &*self.request_id;
                tracing::error!(request_id, "the end of a call is not in the audit trail");
            }
        }
        self.handler.meter.record_http_request(ROUTE, self.status, duration);
        let unauthenticated = self.caller.is_unauthenticated();
        tracing::info!(
            http.method = self.method,
            http.route = ROUTE,
            http.status = self.status,
            reason = self.reason.map(Reason::as_str),
            cause = self.cause.as_deref(),
            caller = (!unauthenticated).then(|| self.caller.id()),
            client_address = unauthenticated.then(|| &*self.client.text),
            tenant = self.tenant.as_ref().map(tracing::field::display),
            bytes = self.sent_bytes,
            request_id = &*self.request_id,
            duration_us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX),
            "request ended"
        );
    }
}

/// Returns the user that the call acts as, in the format of `Gateway-Act-As`.
fn acting_as(acting: &AuthorizedCall) -> AuditText {
    match acting {
        AuthorizedCall::SystemUser(_) => "system".into(),
        AuthorizedCall::Person(authorized) => {
            format!("grants/{}", authorized.resource().target.grant).into()
        }
    }
}

/// Returns the code that is closest to an HTTP status (`google/rpc/code.proto`).
fn code_of(status: u16) -> i32 {
    match status {
        0..400 => 0,
        400 => 3,
        401 => 16,
        403 => 7,
        404 => 5,
        409 => 10,
        429 => 8,
        501 => 12,
        504 => 4,
        500.. => UNAVAILABLE,
        _ => 9,
    }
}
