//! Why a decision is what it is, for people.

use std::sync::Arc;

use super::{PolicySet, Ruling, WebApiCall, prepared::Lineages, rule::Rule};
use crate::{
    access::{ActionName, Caller, Resource, ResourceKind},
    domain::credential_operation,
};

/// Most policies that are shown as nearly permitting.
const MAX_NEAR_MISSES: usize = 10;

/// See "Operations that return credentials" in docs/POLICY.md.
const UNNAMED: &str = "no permit names this operation, whose answers can hold credentials: write a permit with context.path == or \
    context.credentialOperation ==; a permit of a whole branch does not give it";

/// What policies may ask about a grant, and nobody can tell by its name.
const OF_GRANTS: [&str; 2] = ["associateId", "userPrincipalName"];

/// A policy as it stands in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excerpt {
    /// Its id.
    pub policy_id: Arc<str>,
    /// `permit` or `forbid`.
    pub effect: &'static str,
    /// The file.
    pub file: String,
    /// Its first line, from 1.
    pub line: usize,
    /// All of it.
    pub text: String,
}

/// A permit that would match if one thing were different.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NearMiss {
    /// The policy.
    pub policy: Excerpt,
    /// What it does not match.
    pub differs: &'static str,
}

/// A decision and everything that one may want to know about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// The decision.
    pub ruling: Ruling,
    /// The policies that made it.
    pub determining: Vec<Excerpt>,
    /// The groups of the caller, also those in which its groups are.
    pub caller_groups: Vec<String>,
    /// What the resource belongs to.
    pub resource_parents: Vec<String>,
    /// If nothing permits it: permits that nearly do.
    pub near_misses: Vec<NearMiss>,
    /// What else explains it.
    pub note: Option<String>,
    /// Attributes of the grant for which a policy asks that can match.
    pub attributes: Vec<&'static str>,
}

impl PolicySet {
    /// Decides as in a call and says why. `call` is for actions with a context; without it these are denied.
    #[must_use]
    pub fn explain(
        &self,
        caller: &Caller,
        action: ActionName,
        resource: &Resource,
        call: Option<WebApiCall<'_>>,
    ) -> Explanation {
        let ruling = self.decide(caller, action, resource, call);
        let lineages = self.lineages(caller, resource);
        let by = |rule: &&Arc<Rule>| ruling.policy_ids.contains(&rule.id);
        let determining = self.rules.iter().filter(by).map(|rule| self.excerpt(rule)).collect();
        let by_default = !ruling.allowed && ruling.policy_ids.is_empty();
        let applies = action.resource_kinds().contains(&resource.kind());
        let near_misses = if by_default && applies {
            self.near_misses(&lineages, action, resource)
        } else {
            Vec::new()
        };
        let operation = call.and_then(|call| credential_operation(call.method, call.path));
        let note = match (by_default, applies) {
            (true, false) => Some(not_applicable(action, resource)),
            (true, true) if operation.is_some() => Some(UNNAMED.to_owned()),
            (true, true) => Some("no permit matches".to_owned()),
            (false, _) => None,
        };
        let kind = self.words.kind(resource.kind());
        let asked_for = |attribute: &&str| {
            resource.kind() == ResourceKind::Grant
                && self.rules.iter().any(|rule| {
                    rule.matches_principal(&lineages.caller)
                        && rule.matches_action(action)
                        && rule.matches_resource(kind, &lineages.resource)
                        && rule.policy.to_string().contains(attribute)
                })
        };
        let names = |uids: &[cedar_policy::EntityUid]| {
            uids.iter().skip(1).map(ToString::to_string).collect()
        };
        Explanation {
            determining,
            caller_groups: names(&lineages.caller),
            resource_parents: names(&lineages.resource),
            near_misses,
            note,
            attributes: OF_GRANTS.into_iter().filter(asked_for).collect(),
            ruling,
        }
    }

    fn near_misses(
        &self,
        lineages: &Lineages,
        action: ActionName,
        resource: &Resource,
    ) -> Vec<NearMiss> {
        let kind = self.words.kind(resource.kind());
        let differs = |rule: &Rule| {
            let caller = rule.matches_principal(&lineages.caller);
            let action = rule.matches_action(action);
            let resource = rule.matches_resource(kind, &lineages.resource);
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
            .map(|(rule, differs)| NearMiss { policy: self.excerpt(rule), differs })
            .collect()
    }

    fn excerpt(&self, rule: &Rule) -> Excerpt {
        Excerpt {
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
        format!("{action} is not done to a {kind}, only to a {}", kinds.join(" or "))
    }
}
