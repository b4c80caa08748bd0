//! The state of a running call: its ids, its caller, its notes for the audit trail, its failure, and whether it may
//! have changed something.

use std::{
    net::IpAddr,
    sync::{
        Arc, LazyLock, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::HeaderMap;
use tonic::Status;

use super::{
    failure::Failure,
    notes::{NotedResource, Notes},
};
use crate::{
    access::{AccessError, ActionName, Caller, PolicyIds},
    audit::EventOrigin,
    broker::BrokerError,
    domain::{AuditText, Reason, TenantName},
    listen::{RequestCharge, trace_id},
};

/// The state of a running call.
pub(super) struct CallContext {
    /// The id of the call in the log, in the audit trail and in the answer.
    pub(super) request_id: Arc<str>,
    /// The trace id of the call, if it has one.
    pub(super) trace_id: AuditText,
    /// The caller, once it is admitted.
    caller: OnceLock<Caller>,
    /// The address of the client.
    pub(super) client: IpAddr,
    /// The address of the client as text, for the audit events.
    pub(super) client_text: AuditText,
    /// The time limit of waits for SuperOffice, from the start of the call.
    pub(super) max_wait: Duration,
    /// The memory charge of the call until policy permits it.
    pub(super) charge: RequestCharge,
    /// The notes for the audit trail.
    pub(super) notes: Notes,
    pub(super) tenant: OnceLock<TenantName>,
    /// The reason and the cause of the call's failure, for the log.
    pub(super) failure: OnceLock<(Reason, Option<String>)>,
    /// Whether an unsafe request was sent to SuperOffice and its outcome is unknown.
    outcome_unknown: AtomicBool,
    /// Whether a change of our own store was begun and may have been committed.
    change_begun: AtomicBool,
    /// Whether the audit trail has an event of the call, for a credential that it used or handed out.
    credential_audited: AtomicBool,
}

impl CallContext {
    /// Returns the context of a call whose caller is not authenticated yet.
    pub(super) fn new(
        request_id: Arc<str>,
        headers: &HeaderMap,
        client: IpAddr,
        client_text: AuditText,
        max_wait: Duration,
        charge: RequestCharge,
    ) -> Self {
        Self {
            request_id,
            trace_id: trace_id(headers).map(AuditText::from).unwrap_or_default(),
            caller: OnceLock::new(),
            client,
            client_text,
            max_wait,
            charge,
            notes: Notes::default(),
            tenant: OnceLock::new(),
            failure: OnceLock::new(),
            outcome_unknown: AtomicBool::new(false),
            change_begun: AtomicBool::new(false),
            credential_audited: AtomicBool::new(false),
        }
    }

    /// Returns the context of a request about which Envoy asks (`ext_authz`). This call is Envoy's; the returned
    /// context has the caller and the notes of the held request.
    pub(super) fn on_behalf_of(&self, caller: Caller, client: IpAddr, headers: &HeaderMap) -> Self {
        let request_id = Arc::clone(&self.request_id);
        let client_text = client.to_canonical().to_string().into();
        let charge = RequestCharge::default();
        let context = Self::new(request_id, headers, client, client_text, self.max_wait, charge);
        context.set_caller(caller);
        context
    }

    /// Returns the caller: [`Caller::unauthenticated`] until it is admitted, and always for public services.
    pub(super) fn caller(&self) -> &Caller {
        static UNAUTHENTICATED: LazyLock<Caller> = LazyLock::new(Caller::unauthenticated);
        self.caller.get().unwrap_or(&UNAUTHENTICATED)
    }

    /// Sets the caller. A call has one caller, so only the first one is kept.
    pub(super) fn set_caller(&self, caller: Caller) {
        let _ = self.caller.set(caller);
    }

    /// Returns the origin of the call's audit events.
    pub(super) fn event_origin(&self) -> EventOrigin {
        EventOrigin {
            caller: self.caller().audited(),
            client_address: self.client_text.clone(),
            request_id: Arc::clone(&self.request_id).into(),
            trace_id: self.trace_id.clone(),
            reason: self.notes.reason(),
            web_api_call: self.notes.web_api_call(),
        }
    }

    /// The tenant of the call, if it is known.
    pub(super) fn tenant(&self) -> Option<&TenantName> {
        self.tenant.get()
    }

    /// Sets the tenant of the call. Returns whether it was not set before.
    pub(super) fn set_tenant(&self, tenant: &TenantName) -> bool {
        self.tenant.get().is_none() && self.tenant.set(tenant.clone()).is_ok()
    }

    /// Notes a permission. Ends the memory charge of the call and frees its connection slot.
    pub(super) fn permit<'a>(
        &self,
        action: ActionName,
        resource: impl Into<NotedResource<'a>>,
        policy_ids: PolicyIds,
    ) {
        self.charge.permit();
        self.notes.allowed(action, resource, policy_ids);
    }

    /// Notes a denial, and returns its failure. `action` may also be the name of a query that is not a policy action.
    pub(super) fn refuse<'a>(
        &self,
        action: &'static str,
        resource: impl Into<NotedResource<'a>>,
        refused: AccessError,
    ) -> Failure {
        if let AccessError::Denied(policy_ids) | AccessError::PathNotAllowed(policy_ids) = &refused
        {
            self.notes.denied(action, resource, Arc::clone(policy_ids));
        }
        refused.into()
    }

    /// Notes the failure of the call, for the log, and returns its status.
    pub(super) fn fail(&self, failure: &Failure) -> Status {
        let _ = self.failure.set((failure.reason(), failure.cause().map(str::to_owned)));
        if self.outcome_unknown.load(Ordering::Relaxed) {
            failure.status_of_unknown_outcome(&self.request_id)
        } else if self.change_begun.load(Ordering::Relaxed) {
            failure.status_of_unknown_change(&self.request_id)
        } else {
            failure.status(&self.request_id)
        }
    }

    /// Logs the end of a stream, which comes after the log line of its call.
    pub(super) fn log_stream_end(&self, failure: &Failure) {
        let Self { request_id, tenant, .. } = self;
        let request_id = &**request_id;
        tracing::info!(
            reason = failure.reason().as_str(),
            cause = failure.cause(),
            caller = self.caller().id(),
            tenant = tenant.get().map(tracing::field::display),
            request_id,
            "stream ended"
        );
    }

    /// Sets whether an unsafe request was sent whose outcome is unknown.
    pub(super) fn note_unknown_outcome(&self, unknown: bool) {
        self.outcome_unknown.store(unknown, Ordering::Relaxed);
    }

    /// Records that the audit trail has an event of the call, for a credential that it used or handed out.
    pub(super) fn note_credential_audited(&self) {
        self.credential_audited.store(true, Ordering::Relaxed);
    }

    /// Returns whether the audit trail has such an event.
    pub(super) fn is_credential_audited(&self) -> bool {
        self.credential_audited.load(Ordering::Relaxed)
    }

    /// Runs a change of our own store. From then on, a failure of the call (such as a passed deadline) has an unknown
    /// outcome, unless the change was certainly not made.
    pub(super) async fn run_change<T>(
        &self,
        change: impl Future<Output = Result<T, BrokerError>>,
    ) -> Result<T, BrokerError> {
        self.change_begun.store(true, Ordering::Relaxed);
        let changed = change.await;
        if changed.as_ref().is_err_and(|error| !error.outcome_is_unknown()) {
            self.change_begun.store(false, Ordering::Relaxed);
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_context_gets_its_caller() {
        let (headers, client) = (HeaderMap::new(), IpAddr::from([192, 0, 2, 1]));
        let (text, charge) = (AuditText::default(), RequestCharge::default());
        let context = CallContext::new("id".into(), &headers, client, text, Duration::ZERO, charge);
        let context = Arc::new(context);
        let shared = Arc::clone(&context);
        assert!(shared.caller().is_unauthenticated());
        context.set_caller(Caller::anonymous());
        assert_eq!(shared.caller().id(), Caller::anonymous().id());
    }
}
