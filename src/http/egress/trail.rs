//! What a call leaves behind: in the audit trail what was decided and how it ended, in the log one line, one count.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::http::StatusCode;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::{Peer, door::Door, failure::Failure};
use crate::{
    access::{Acting, ActionName, Caller, NotActing, Refused},
    broker::{AuditUnavailable, Pending, Weight},
    domain::{AuditRecord, AuditText, CredentialId, Decision, Reason, TenantName},
};

/// The name of the proxy on the metrics page and in the log.
const ROUTE: &str = "/{application}/{tenant}/api/{path}";

/// The status in log and metrics of a request whose client went away before the answer; none is sent then.
const CLIENT_GONE: u16 = 499;

/// `google.rpc.Code`s of how a call ended.
const CANCELLED: i32 = 1;
const UNAVAILABLE: i32 = 14;

/// Written when the call ends, however it does.
pub(super) struct Record {
    door: Arc<Door>,
    pub(super) request_id: Arc<str>,
    trace_id: AuditText,
    client: Peer,
    method: &'static str,
    caller: Caller,
    /// Whose data, once that was permitted.
    tenant: Option<TenantName>,
    /// The caller's own words.
    pub(super) words: AuditText,
    /// Of a call that was permitted: what its last event will be.
    decided: Option<AuditRecord>,
    begin: Instant,
    status: u16,
    reason: Option<Reason>,
    cause: Option<String>,
    /// An unsafe request has left for SuperOffice, and nobody knows whether it ran.
    pub(super) outcome_is_unknown: bool,
    /// Bytes of the answer's body.
    pub(super) passed_back: u64,
    _unanswered: TaskTrackerToken,
}

impl Record {
    pub(super) fn begin(
        door: Arc<Door>,
        client: Peer,
        request_id: Arc<str>,
        trace_id: Option<Arc<str>>,
        method: &'static str,
    ) -> Self {
        let unanswered = door.requests.token();
        Self {
            door,
            request_id,
            trace_id: trace_id.map(AuditText::from).unwrap_or_default(),
            client,
            method,
            caller: Caller::nobody(),
            tenant: None,
            words: AuditText::default(),
            decided: None,
            begin: Instant::now(),
            status: CLIENT_GONE,
            reason: None,
            cause: None,
            outcome_is_unknown: false,
            passed_back: 0,
            _unanswered: unanswered,
        }
    }

    pub(super) fn is_called_by(&mut self, caller: Caller) {
        self.caller = caller;
    }

    /// Writes that a call was permitted, before anything of its answer is passed back.
    pub(super) fn permitted(&mut self, acting: &Acting) -> Result<Pending, AuditUnavailable> {
        self.tenant = Some(acting.tenant().clone());
        self.door.trail.check(Weight::Credential)?;
        let record = AuditRecord {
            resource: acting.resource().to_string().into(),
            acting_as: acting_as(acting),
            policy_ids: Arc::clone(acting.policy_ids()),
            ..self.event(acting.action().as_str(), Decision::Allowed)
        };
        let pending = self.door.trail.record(record.clone(), Weight::Credential)?;
        // Until somebody knows better its caller has gone away.
        self.decided = Some(AuditRecord { code: CANCELLED, ..record });
        Ok(pending)
    }

    /// Writes that it was not, and waits for it.
    pub(super) async fn refused(&self, not_acting: &NotActing) -> Result<(), AuditUnavailable> {
        let NotActing::Refused { action, resource, refused } = not_acting else { return Ok(()) };
        let (Refused::Denied(ids) | Refused::PathNotAllowed(ids)) = refused else { return Ok(()) };
        let reason = match refused {
            Refused::PathNotAllowed(_) => Reason::PathNotAllowed,
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
        self.door.trail.write(record, Weight::Change).await
    }

    fn event(&self, action: &'static str, decision: Decision) -> AuditRecord {
        let caller = &self.caller;
        AuditRecord {
            caller: caller.shared_id().into(),
            caller_method: caller.method().as_str().into(),
            caller_issuer: caller.shared_issuer().map(AuditText::from).unwrap_or_default(),
            reason: self.words.clone(),
            request_id: Arc::clone(&self.request_id).into(),
            trace_id: self.trace_id.clone(),
            client_address: Arc::clone(&self.client.text).into(),
            ..AuditRecord::new(action, decision)
        }
    }

    /// Which credential is to open the tenant.
    pub(super) fn opens_with(&mut self, id: &CredentialId) {
        if let Some(decided) = &mut self.decided {
            decided.credential_id = id.shared().into();
        }
    }

    /// SuperOffice's answer has begun.
    pub(super) fn answered(&mut self, status: StatusCode) {
        self.status = status.as_u16();
    }

    /// The answer was passed back as a whole.
    pub(super) fn whole(&mut self) {
        if let Some(decided) = &mut self.decided {
            decided.code = code_of(self.status);
        }
    }

    /// SuperOffice's answer broke off.
    pub(super) fn broke_off(&mut self, cause: String) {
        self.ended_by(Reason::UpstreamUnavailable, Some(cause));
        if let Some(decided) = &mut self.decided {
            decided.code = UNAVAILABLE;
        }
    }

    /// The gateway answers in its own words.
    pub(super) fn failed(&mut self, failure: &Failure, status: StatusCode) {
        self.status = status.as_u16();
        let reason = failure.problem.reason();
        self.ended_by(reason, failure.cause.clone());
        if let Some(decided) = &mut self.decided {
            decided.code = failure.problem.code();
        }
    }

    fn ended_by(&mut self, reason: Reason, cause: Option<String>) {
        self.reason = Some(reason);
        self.cause = cause;
        if let Some(decided) = &mut self.decided {
            decided.error_reason = Some(reason);
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let duration: Duration = self.begin.elapsed();
        if let Some(decided) = self.decided.take() {
            let trail = &self.door.trail;
            // Where the decision could not be written, nothing was passed back.
            let noted = if decided.error_reason == Some(Reason::StoreUnavailable) {
                trail.record(decided, Weight::Credential).map(drop)
            } else {
                trail.note(decided, Weight::Credential)
            };
            if noted.is_err() {
                let request_id = &*self.request_id;
                tracing::error!(request_id, "the end of a call is not in the audit trail");
            }
        }
        self.door.meter.http_request(ROUTE, self.status, duration);
        let nobody = self.caller.is_nobody();
        tracing::info!(
            http.method = self.method,
            http.route = ROUTE,
            http.status = self.status,
            reason = self.reason.map(Reason::as_str),
            cause = self.cause.as_deref(),
            caller = (!nobody).then(|| self.caller.id()),
            client_address = nobody.then(|| &*self.client.text),
            tenant = self.tenant.as_ref().map(tracing::field::display),
            bytes = self.passed_back,
            request_id = &*self.request_id,
            duration_us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX),
            "request ended"
        );
    }
}

/// As CONTRACT section 1 writes whose eyes look.
fn acting_as(acting: &Acting) -> AuditText {
    match acting {
        Acting::SystemUser(_) => "system".into(),
        Acting::Person(authorized) => format!("grants/{}", authorized.resource().on.grant).into(),
    }
}

/// The code that says about the same as a status (`google/rpc/code.proto`).
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
