//! The builder of audit events.

use std::sync::Arc;

use crate::domain::{
    ApiPath, AuditRecord, AuditText, AuditedActor, AuditedCaller, Decision, Reason,
};

/// The longest path of an event in bytes. A longer one is cut.
const MAX_PATH_BYTES: usize = 512;

/// The end of a path that was cut.
const CUT: &str = "…";

/// The origin of audit events: the caller and its request. All events of a call have the same origin.
#[derive(Debug, Clone, Default)]
pub struct EventOrigin {
    /// The caller.
    pub caller: AuditedCaller,
    /// The client's address.
    pub client_address: AuditText,
    /// The request id.
    pub request_id: AuditText,
    /// The trace id.
    pub trace_id: AuditText,
    /// The reason that the caller gave.
    pub reason: AuditText,
    /// The Web API call that is requested; otherwise empty.
    pub web_api_call: AuditedWebApiCall,
}

/// A Web API call, as audit events name it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditedWebApiCall {
    method: AuditText,
    path: AuditText,
}

impl AuditedWebApiCall {
    /// Names a call by its HTTP method and its path in normal form. The query is left out, because it may contain
    /// personal data.
    #[must_use]
    pub fn new(method: &str, path: &ApiPath) -> Self {
        let whole = path.normal_form();
        let path = if whole.len() > MAX_PATH_BYTES {
            let end = whole.floor_char_boundary(MAX_PATH_BYTES - CUT.len());
            AuditText::from(format!("{}{CUT}", whole.get(..end).unwrap_or_default()))
        } else {
            AuditText::from(whole.to_owned())
        };
        Self { method: method.to_owned().into(), path }
    }
}

/// A decision on an action, as audit events record it.
#[derive(Debug, Clone)]
pub struct AuditedDecision {
    /// The action of the policy, or `cli.` followed by the command.
    pub action: AuditText,
    /// The name of the resource.
    pub resource: AuditText,
    /// The user that the action acts as, if it acts as one.
    pub actor: Option<AuditedActor>,
    /// The decision.
    pub decision: Decision,
    /// The policies that made the decision.
    pub policy_ids: Arc<[Arc<str>]>,
}

/// The result of a decided action.
#[derive(Debug, Clone)]
pub struct EventResult {
    /// The gRPC status code; 0 is success.
    pub code: i32,
    /// The stable reason of the error, if the action failed.
    pub reason: Option<Reason>,
    /// The credential that was issued, used or named.
    pub credential_id: AuditText,
}

impl EventOrigin {
    /// Builds the event of a decision and its result.
    #[must_use]
    pub fn event(&self, decided: AuditedDecision, result: EventResult) -> AuditRecord {
        let AuditedCaller { id, method, issuer } = self.caller.clone();
        AuditRecord {
            caller: id,
            caller_method: method,
            caller_issuer: issuer,
            resource: decided.resource,
            acting_as: decided.actor.map(AuditText::from).unwrap_or_default(),
            policy_ids: decided.policy_ids,
            code: result.code,
            error_reason: result.reason,
            reason: self.reason.clone(),
            credential_id: result.credential_id,
            request_id: self.request_id.clone(),
            trace_id: self.trace_id.clone(),
            client_address: self.client_address.clone(),
            method: self.web_api_call.method.clone(),
            path: self.web_api_call.path.clone(),
            ..AuditRecord::new(decided.action, decided.decision)
        }
    }
}

impl AuditedDecision {
    /// Creates a decision that names no policies and no actor.
    #[must_use]
    pub fn new(
        action: impl Into<AuditText>,
        resource: impl Into<AuditText>,
        decision: Decision,
    ) -> Self {
        Self {
            action: action.into(),
            resource: resource.into(),
            actor: None,
            decision,
            policy_ids: Arc::default(),
        }
    }
}

impl EventResult {
    /// Success. A change that is recorded before it is made also has it.
    pub const SUCCESS: Self = Self { code: 0, reason: None, credential_id: AuditText::Fixed("") };

    /// Returns a failure with the code of its reason.
    #[must_use]
    pub fn failed(reason: Reason) -> Self {
        Self { code: reason.code(), reason: Some(reason), ..Self::SUCCESS }
    }
}

impl From<Option<Reason>> for EventResult {
    fn from(reason: Option<Reason>) -> Self {
        reason.map_or(Self::SUCCESS, Self::failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(path: &str) -> AuditedWebApiCall {
        AuditedWebApiCall::new("GET", &ApiPath::parse(path).unwrap())
    }

    #[test]
    fn the_path_of_an_event_has_no_query() {
        let call = named("/api/v1/Contact/1?$filter=name eq 'Anna'");
        assert_eq!((&*call.method, &*call.path), ("GET", "/api/v1/contact/1"));
    }

    #[test]
    fn a_long_path_is_cut_between_characters() {
        for long in ["a".repeat(600), "é".repeat(300), format!("a{}", "é".repeat(300))] {
            let call = named(&format!("/api/v1/{long}"));
            assert!(call.path.len() <= MAX_PATH_BYTES && call.path.ends_with(CUT), "{}", call.path);
        }
        assert!(!named(&format!("/api/v1/{}", "a".repeat(504))).path.ends_with(CUT));
    }
}
