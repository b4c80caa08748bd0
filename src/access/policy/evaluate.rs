//! Evaluation of a policy set: Cedar evaluates the policies that can match, and an error is a denial.

use std::sync::Arc;

use super::{
    PolicySet,
    prepared_request::{FailedPolicy, PreparedRequest, WebApiCall},
    rule::Rule,
};
use crate::{
    access::{ActionName, Caller, Resource, ResourceKind},
    domain::{TenantName, credential_operation},
};

/// Maximum number of positions in a segment at which [`siblings`] inserts a character, because each costs an
/// evaluation. Names of operations are shorter.
const MAX_POSITIONS: usize = 64;

/// A decision and the policies that made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyDecision {
    /// Whether the action is permitted.
    pub allowed: bool,
    /// The policies that made the decision, in the order of the file. Empty if no policy permits the action.
    pub policy_ids: Arc<[Arc<str>]>,
}

/// The cached result for a caller, a call action and a resource, before the call is known.
#[derive(Clone)]
pub(super) enum CallDecision {
    /// The decision is the same for every call: no policy that can match reads the context, and none failed.
    SameForAllCalls(PolicyDecision),
    /// Each call must be evaluated.
    PerCall(Arc<PreparedRequest>),
}

impl PolicyDecision {
    fn denied() -> Self {
        Self { allowed: false, policy_ids: [].into() }
    }

    fn from_rules<'a>(allowed: bool, rules: impl IntoIterator<Item = &'a Arc<Rule>>) -> Self {
        Self { allowed, policy_ids: rules.into_iter().map(|rule| Arc::clone(&rule.id)).collect() }
    }
}

impl PolicySet {
    /// Decides on an action. Denies an action with a context if `call` is missing.
    pub(super) fn decide(
        &self,
        caller: &Caller,
        action: ActionName,
        resource: &Resource,
        call: Option<WebApiCall<'_>>,
    ) -> PolicyDecision {
        if !action.resource_kinds().contains(&resource.kind()) {
            return PolicyDecision::denied();
        }
        if action.has_context() && call.is_none() {
            tracing::error!(
                action = action.as_str(),
                "the method and path of the call are missing: denied"
            );
            return PolicyDecision::denied();
        }
        self.prepare(caller, action, resource)
            .and_then(|prepared| self.decide_prepared(&prepared, call))
            .unwrap_or_else(|error| denied_by_error(caller.id(), action.as_str(), &error))
    }

    /// Prepares the decisions on calls of a caller, before the call is known.
    ///
    /// # Errors
    /// Returns an error, for the log, if policies cannot be evaluated.
    pub(super) fn prepare_call_decision(
        &self,
        caller: &Caller,
        action: ActionName,
        resource: &Resource,
    ) -> Result<CallDecision, String> {
        let prepared = self.prepare(caller, action, resource)?;
        if !prepared.reads_context() {
            let answer = prepared.evaluate(&self.authorizer, None)?;
            // A failure must be logged for each call, so it is not cached.
            if answer.failed.is_empty() {
                return Ok(CallDecision::SameForAllCalls(PolicyDecision::from_rules(
                    answer.allowed,
                    answer.determining,
                )));
            }
        }
        Ok(CallDecision::PerCall(Arc::new(prepared)))
    }

    /// Decides on a call with the same result as [`Self::decide`].
    pub(super) fn decide_call(
        &self,
        call_decision: &CallDecision,
        call: WebApiCall<'_>,
    ) -> PolicyDecision {
        match call_decision {
            // A policy that does not read the context cannot name an operation.
            CallDecision::SameForAllCalls(decision)
                if decision.allowed && credential_operation(call.method, call.path).is_some() =>
            {
                PolicyDecision::denied()
            }
            CallDecision::SameForAllCalls(decision) => decision.clone(),
            CallDecision::PerCall(prepared) => {
                self.decide_prepared(prepared, Some(call)).unwrap_or_else(|error| {
                    denied_by_error(prepared.caller(), prepared.action(), &error)
                })
            }
        }
    }

    fn decide_prepared(
        &self,
        prepared: &PreparedRequest,
        call: Option<WebApiCall<'_>>,
    ) -> Result<PolicyDecision, String> {
        let answer = prepared.evaluate(&self.authorizer, call)?;
        if !answer.failed.is_empty() {
            return Ok(denied_by_failure(prepared, &answer.failed));
        }
        let operation = call.and_then(|call| credential_operation(call.method, call.path));
        match (call, operation) {
            (Some(call), Some(operation)) if answer.allowed => {
                self.only_permits_that_name(prepared, call, operation, answer.determining)
            }
            _ => Ok(PolicyDecision::from_rules(answer.allowed, answer.determining)),
        }
    }

    /// Keeps only permits that name the operation, which can return credentials: they match this path or this
    /// operation, and none of its siblings. A permit for a whole branch was not written with this operation in mind.
    fn only_permits_that_name(
        &self,
        prepared: &PreparedRequest,
        call: WebApiCall<'_>,
        operation: &str,
        mut permits: Vec<&Arc<Rule>>,
    ) -> Result<PolicyDecision, String> {
        let prepared = prepared.with_rules(&permits)?;
        let (paths, operations) = (siblings(call.path), siblings(operation));
        let pairs = paths.iter().cycle().zip(operations.iter().cycle());
        for (path, operation) in pairs.take(paths.len().max(operations.len())) {
            if permits.is_empty() {
                break;
            }
            let sibling = Some(WebApiCall { path, ..call });
            let answer = prepared.evaluate_with_operation(&self.authorizer, sibling, operation)?;
            permits.retain(|rule| !answer.determining.iter().any(|other| other.id == rule.id));
        }
        Ok(PolicyDecision::from_rules(!permits.is_empty(), permits))
    }

    /// Returns whether policy permits the action in some context: see [`super::Policies::may_for_some_context`].
    pub(super) fn may_for_some_context(
        &self,
        caller: &Caller,
        action: ActionName,
        resource: &Resource,
    ) -> PolicyDecision {
        if !action.has_open_attributes(resource)
            || !action.resource_kinds().contains(&resource.kind())
        {
            return self.decide(caller, action, resource, None);
        }
        self.prepare(caller, action, resource)
            .and_then(|prepared| self.decide_without_context(&prepared))
            .unwrap_or_else(|error| denied_by_error(caller.id(), action.as_str(), &error))
    }

    fn decide_without_context(&self, prepared: &PreparedRequest) -> Result<PolicyDecision, String> {
        let answer = prepared.evaluate(&self.authorizer, None)?;
        if answer.failed.iter().any(|failure| !failure.lacks_attribute) {
            return Ok(denied_by_failure(prepared, &answer.failed));
        }
        let forbidden = !answer.allowed && !answer.determining.is_empty();
        if answer.allowed || forbidden {
            return Ok(PolicyDecision::from_rules(answer.allowed, answer.determining));
        }
        let failed = answer.failed.iter().map(|failure| failure.rule);
        let permits: Vec<_> = failed.filter(|rule| rule.permits()).collect();
        Ok(PolicyDecision::from_rules(!permits.is_empty(), permits))
    }

    /// Returns whether any permit of `action` could match this caller on some grant of the tenant. If not, the tenant's
    /// grants need not be looked up.
    pub(super) fn may_on_some_grant(
        &self,
        caller: &Caller,
        action: ActionName,
        tenant: &TenantName,
    ) -> bool {
        let ancestors = self.ancestors(caller, &Resource::Tenant(tenant.clone()));
        let kind = self.schema_names.kind(ResourceKind::Grant);
        self.rules.iter().any(|rule| {
            rule.permits()
                && rule.matches_principal(&ancestors.caller)
                && rule.matches_action(action)
                && rule.matches_below(kind, &ancestors.resource)
        })
    }

    /// Decides like [`Self::decide`], but evaluates all policies instead of those that can match.
    #[cfg(test)]
    pub(super) fn decide_with_all(
        &self,
        caller: &Caller,
        action: ActionName,
        resource: &Resource,
        call: Option<WebApiCall<'_>>,
    ) -> PolicyDecision {
        let ancestors = self.ancestors(caller, resource);
        let all = self.rules.clone();
        let prepared =
            PreparedRequest::new(all, &ancestors, &self.schema_names, caller, action, resource);
        let prepared = prepared.unwrap();
        let answer = prepared.evaluate(&self.authorizer, call).unwrap();
        if answer.failed.is_empty() {
            PolicyDecision::from_rules(answer.allowed, answer.determining)
        } else {
            denied_by_failure(&prepared, &answer.failed)
        }
    }
}

/// Returns paths that differ from this one only in the last segment: one with another segment, and one for each of its
/// first positions, and its end, with a character inserted there. A wildcard in this segment matches one of them.
fn siblings(path: &str) -> Vec<String> {
    let (above, last) = path.rsplit_once('/').unwrap_or(("", path));
    let positions = last.char_indices().map(|(at, _)| at).take(MAX_POSITIONS);
    let longer = positions.chain([last.len()]).filter_map(|at| {
        let (before, behind) = last.split_at_checked(at)?;
        Some(format!("{above}/{before}-{behind}"))
    });
    std::iter::once(format!("{above}/-")).chain(longer).collect()
}

pub(super) fn denied_by_error(caller: &str, action: &str, error: &str) -> PolicyDecision {
    tracing::error!(caller, action, error, "policies could not be evaluated: denied");
    PolicyDecision::denied()
}

/// Denies because a policy failed. Cedar ignores failing policies, including those that forbid; the gateway does not.
fn denied_by_failure(prepared: &PreparedRequest, failed: &[FailedPolicy<'_>]) -> PolicyDecision {
    for failure in failed {
        tracing::error!(
            policy_id = &*failure.rule.id,
            line = failure.rule.line,
            error = failure.error,
            caller = prepared.caller(),
            action = prepared.action(),
            resource = %prepared.resource(),
            "a policy could not be evaluated: denied"
        );
    }
    PolicyDecision::from_rules(false, failed.iter().map(|failure| failure.rule))
}
