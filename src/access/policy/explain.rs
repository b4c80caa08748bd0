//! Explanations of decisions, for people.

use std::sync::Arc;

use super::{PolicyDecision, PolicySet, WebApiCall, prepared_request::Ancestors, rule::Rule};
use crate::{
    access::{ActionName, Caller, Resource, ResourceKind},
    domain::credential_operation,
};

/// Maximum number of near misses in an explanation.
const MAX_NEAR_MISSES: usize = 10;

/// The note on an unnamed operation: see "Operations that return credentials" in docs/guides/policy.md.
const OPERATION_NOT_NAMED: &str = "no permit names this operation, whose response can hold credentials: write a permit with context.path == or \
    context.credentialOperation ==; a permit for a whole branch does not include it";

/// Attributes of a grant that policies may read and that its name does not give.
const GRANT_ATTRIBUTES: [&str; 2] = ["associateId", "userPrincipalName"];

/// The text of a policy and its position in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyExcerpt {
    /// The policy's id.
    pub policy_id: Arc<str>,
    /// `permit` or `forbid`.
    pub effect: &'static str,
    /// The file name.
    pub file: String,
    /// The policy's first line, from 1.
    pub line: usize,
    /// The policy's text.
    pub text: String,
}

/// A permit that would match if one part of its scope or its condition were different.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NearMiss {
    /// The policy.
    pub policy: PolicyExcerpt,
    /// The part that does not match.
    pub mismatch: &'static str,
}

/// A decision with an explanation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// The decision.
    pub decision: PolicyDecision,
    /// The policies that made the decision.
    pub determining: Vec<PolicyExcerpt>,
    /// The caller's groups, direct and indirect.
    pub caller_groups: Vec<String>,
    /// The ancestors of the resource.
    pub resource_parents: Vec<String>,
    /// Permits that nearly match, if no policy permits the action.
    pub near_misses: Vec<NearMiss>,
    /// A further explanation.
    pub note: Option<String>,
    /// Attributes of the grant that a policy reads which can match.
    pub attributes: Vec<&'static str>,
}

impl PolicySet {
    /// Decides as for a call and explains the decision. Actions with a context are denied without `call`.
    #[must_use]
    pub fn explain(
        &self,
        caller: &Caller,
        action: ActionName,
        resource: &Resource,
        call: Option<WebApiCall<'_>>,
    ) -> Explanation {
        let decision = self.decide(caller, action, resource, call);
        let ancestors = self.ancestors(caller, resource);
        let by = |rule: &&Arc<Rule>| decision.policy_ids.contains(&rule.id);
        let determining = self.rules.iter().filter(by).map(|rule| self.excerpt(rule)).collect();
        let by_default = !decision.allowed && decision.policy_ids.is_empty();
        let applies = action.resource_kinds().contains(&resource.kind());
        let near_misses = if by_default && applies {
            self.near_misses(&ancestors, action, resource)
        } else {
            Vec::new()
        };
        let operation = call.and_then(|call| credential_operation(call.method, call.path));
        let note = match (by_default, applies) {
            (true, false) => Some(not_applicable(action, resource)),
            (true, true) if operation.is_some() => Some(OPERATION_NOT_NAMED.to_owned()),
            (true, true) => Some("no permit matches".to_owned()),
            (false, _) => None,
        };
        let kind = self.schema_names.kind(resource.kind());
        let asked_for = |attribute: &&str| {
            resource.kind() == ResourceKind::Grant
                && self.rules.iter().any(|rule| {
                    rule.matches_principal(&ancestors.caller)
                        && rule.matches_action(action)
                        && rule.matches_resource(kind, &ancestors.resource)
                        && rule.policy.to_string().contains(attribute)
                })
        };
        let names = |uids: &[cedar_policy::EntityUid]| {
            uids.iter().skip(1).map(ToString::to_string).collect()
        };
        Explanation {
            determining,
            caller_groups: names(&ancestors.caller),
            resource_parents: names(&ancestors.resource),
            near_misses,
            note,
            attributes: GRANT_ATTRIBUTES.into_iter().filter(asked_for).collect(),
            decision,
        }
    }

    fn near_misses(
        &self,
        ancestors: &Ancestors,
        action: ActionName,
        resource: &Resource,
    ) -> Vec<NearMiss> {
        let kind = self.schema_names.kind(resource.kind());
        let differs = |rule: &Rule| {
            let caller = rule.matches_principal(&ancestors.caller);
            let action = rule.matches_action(action);
            let resource = rule.matches_resource(kind, &ancestors.resource);
            match (caller, action, resource) {
                (true, true, true) => Some("its condition does not hold"),
                (false, true, true) => Some("it is about another caller"),
                (true, false, true) => Some("it is about another action"),
                (true, true, false) => Some("it is about another resource"),
                _ => None,
            }
        };
        let permits = self.rules.iter().filter(|rule| rule.permits());
        let near = permits.filter_map(|rule| differs(rule).map(|differs| (rule, differs)));
        near.take(MAX_NEAR_MISSES)
            .map(|(rule, differs)| NearMiss { policy: self.excerpt(rule), mismatch: differs })
            .collect()
    }

    fn excerpt(&self, rule: &Rule) -> PolicyExcerpt {
        PolicyExcerpt {
            policy_id: Arc::clone(&rule.id),
            effect: if rule.permits() { "permit" } else { "forbid" },
            file: self.text.policy_name.clone(),
            line: rule.line,
            text: self.text.policy.get(rule.span.clone()).unwrap_or_default().to_owned(),
        }
    }
}

fn not_applicable(action: ActionName, resource: &Resource) -> String {
    let kinds: Vec<_> = action.resource_kinds().iter().map(|kind| kind.as_str()).collect();
    let (action, kind) = (action.as_str(), resource.kind().as_str());
    if kinds.is_empty() {
        format!(
            "{action} is a group of actions: ask about callWebApiAsSystemUser or callWebApiAsUser"
        )
    } else {
        format!("{action} does not apply to a {kind}, only to a {}", kinds.join(" or "))
    }
}
