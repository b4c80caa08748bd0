//! The record of a call: its audit events with decision and result, a log line and a metric.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::http::StatusCode;
use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};

use super::{failure::Failure, peer::Peer};
use crate::{
    access::{AccessError, ActionName, AuthorizedCall, CallError, Caller, PolicyIds, Resource},
    audit::{
        AuditUnavailable, AuditedDecision, AuditedWebApiCall, EventClass, EventOrigin, EventResult,
        PendingEvent, Trail,
    },
    domain::{ApiPath, AuditText, CredentialId, Decision, Reason, TenantName},
    listen::SLOW_CALL,
    ports::Meter,
};

/// The route of all calls in metrics and in the log.
const ROUTE: &str = "/{application}/{tenant}/api/{path}";

/// The status in log and metrics of a request whose client disconnected before the answer. It is never sent.
const CLIENT_GONE: u16 = 499;

/// `google.rpc.Code`s of results.
const CANCELLED: i32 = 1;
const UNAVAILABLE: i32 = 14;

/// The audit trail and the counters that the records of all calls use.
pub(super) struct CallRecorder {
    pub(super) trail: Arc<Trail>,
    pub(super) meter: Arc<dyn Meter>,
    /// Tracks the running calls.
    pub(super) calls: TaskTracker,
}

/// The record of a call. It is written when it is dropped.
pub(super) struct CallRecord {
    recorder: Arc<CallRecorder>,
    pub(super) request_id: Arc<str>,
    trace_id: AuditText,
    client: Peer,
    method: &'static str,
    caller: Caller,
    /// The tenant, after the call was permitted.
    tenant: Option<TenantName>,
    /// The reason that the caller gave.
    pub(super) caller_reason: AuditText,
    /// The requested call, for audit events.
    web_api_call: AuditedWebApiCall,
    /// The decision on a permitted call, for its last audit event.
    permitted: Option<AuditedDecision>,
    /// The result so far. It is CANCELLED until another one is set: then the caller has disconnected.
    result: EventResult,
    begin: Instant,
    status: u16,
    cause: Option<String>,
    /// Whether an unsafe request was sent to SuperOffice and its outcome is unknown.
    pub(super) outcome_is_unknown: bool,
    /// The number of sent bytes of the answer's body.
    pub(super) sent_bytes: u64,
    _unanswered: TaskTrackerToken,
}

impl CallRecord {
    pub(super) fn begin(
        recorder: Arc<CallRecorder>,
        client: Peer,
        request_id: Arc<str>,
        trace_id: Option<Arc<str>>,
        method: &'static str,
    ) -> Self {
        let unanswered = recorder.calls.token();
        Self {
            recorder,
            request_id,
            trace_id: trace_id.map(AuditText::from).unwrap_or_default(),
            client,
            method,
            caller: Caller::unauthenticated(),
            tenant: None,
            caller_reason: AuditText::default(),
            web_api_call: AuditedWebApiCall::default(),
            permitted: None,
            result: EventResult { code: CANCELLED, ..EventResult::SUCCESS },
            begin: Instant::now(),
            status: CLIENT_GONE,
            cause: None,
            outcome_is_unknown: false,
            sent_bytes: 0,
            _unanswered: unanswered,
        }
    }

    pub(super) fn set_caller(&mut self, caller: Caller) {
        self.caller = caller;
    }

    pub(super) fn set_path(&mut self, path: &ApiPath) {
        self.web_api_call = AuditedWebApiCall::new(self.method, path);
    }

    /// Queues the event of a permitted call. The caller must await its commit.
    pub(super) fn queue_permitted(
        &mut self,
        call: &AuthorizedCall,
    ) -> Result<PendingEvent, AuditUnavailable> {
        self.tenant = Some(call.tenant().clone());
        self.recorder.trail.check(EventClass::Credential)?;
        let ids = Arc::clone(call.policy_ids());
        let decided = audited_decision(call.action(), &call.resource(), Decision::Allowed, ids);
        let event = self.origin().event(decided.clone(), EventResult::SUCCESS);
        let pending = self.recorder.trail.record(event, EventClass::Credential)?;
        self.permitted = Some(decided);
        Ok(pending)
    }

    /// Writes the event of a denied call and waits for its commit.
    pub(super) async fn write_refused(&self, error: &CallError) -> Result<(), AuditUnavailable> {
        let CallError::Refused { action, resource, refused } = error else { return Ok(()) };
        let (AccessError::Denied(ids) | AccessError::PathNotAllowed(ids)) = refused else {
            return Ok(());
        };
        let reason = match refused {
            AccessError::PathNotAllowed(_) => Reason::PathNotAllowed,
            _ => Reason::PolicyDenied,
        };
        let decided = audited_decision(*action, resource, Decision::Denied, Arc::clone(ids));
        let event = self.origin().event(decided, EventResult::failed(reason));
        self.recorder.trail.write(event, EventClass::Change).await
    }

    fn origin(&self) -> EventOrigin {
        EventOrigin {
            caller: self.caller.audited(),
            client_address: Arc::clone(&self.client.text).into(),
            request_id: Arc::clone(&self.request_id).into(),
            trace_id: self.trace_id.clone(),
            reason: self.caller_reason.clone(),
            web_api_call: self.web_api_call.clone(),
        }
    }

    /// Sets the credential that the call uses.
    pub(super) fn set_credential(&mut self, id: &CredentialId) {
        self.result.credential_id = id.shared().into();
    }

    /// Sets the status of SuperOffice's answer.
    pub(super) fn set_status(&mut self, status: StatusCode) {
        self.status = status.as_u16();
    }

    /// Marks the answer as sent completely.
    pub(super) fn set_complete(&mut self) {
        self.result.code = code_of(self.status);
    }

    /// Marks SuperOffice's answer as incomplete.
    pub(super) fn set_broken_off(&mut self, cause: String) {
        self.result.code = UNAVAILABLE;
        self.result.reason = Some(Reason::UpstreamUnavailable);
        self.cause = Some(cause);
    }

    /// Sets the failure with which the gateway answers.
    pub(super) fn set_failure(&mut self, failure: &Failure, status: StatusCode) {
        self.status = status.as_u16();
        self.result.code = failure.problem.code();
        self.result.reason = Some(failure.problem.reason());
        self.cause.clone_from(&failure.cause);
    }
}

impl Drop for CallRecord {
    fn drop(&mut self) {
        let duration: Duration = self.begin.elapsed();
        let is_routine = self.permitted.is_some() && self.result.code == 0 && duration < SLOW_CALL;
        if let Some(decided) = self.permitted.take() {
            let event = self.origin().event(decided, self.result.clone());
            let trail = &self.recorder.trail;
            // If the first event could not be written, nothing was sent, and this one must be written like the first.
            let noted = if self.result.reason == Some(Reason::StoreUnavailable) {
                trail.record(event, EventClass::Credential).map(drop)
            } else {
                trail.record_in_background(event, EventClass::Credential)
            };
            if noted.is_err() {
                let request_id = &*self.request_id;
                tracing::error!(request_id, "the end of a call is not in the audit trail");
            }
        }
        self.recorder.meter.record_http_request(ROUTE, self.status, duration);
        self.log_end(duration, is_routine);
    }
}

impl CallRecord {
    /// Logs the end of the call. A routine call is logged at `debug`: such calls are the most frequent ones, and the
    /// audit trail has the same facts.
    fn log_end(&self, duration: Duration, is_routine: bool) {
        let unauthenticated = self.caller.is_unauthenticated();
        macro_rules! log_end {
            ($level:expr) => {
                tracing::event!(
                    $level,
                    http.method = self.method,
                    http.route = ROUTE,
                    http.status = self.status,
                    reason = self.result.reason.map(Reason::as_str),
                    cause = self.cause.as_deref(),
                    caller = (!unauthenticated).then(|| self.caller.id()),
                    client_address = unauthenticated.then(|| &*self.client.text),
                    tenant = self.tenant.as_ref().map(tracing::field::display),
                    bytes = self.sent_bytes,
                    request_id = &*self.request_id,
                    duration_us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX),
                    "request ended"
                )
            };
        }
        if is_routine {
            log_end!(tracing::Level::DEBUG);
        } else {
            log_end!(tracing::Level::INFO);
        }
    }
}

fn audited_decision(
    action: ActionName,
    resource: &Resource,
    decision: Decision,
    policy_ids: PolicyIds,
) -> AuditedDecision {
    let decided = AuditedDecision::new(action.as_str(), resource.to_string(), decision);
    AuditedDecision { actor: action.actor(Some(resource)), policy_ids, ..decided }
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
