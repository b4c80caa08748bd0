//! Cedar policies: strict loading and fast evaluation.
//!
//! A set is loaded once ([`PolicySet::parse`]): `load` checks the policies, `normal_form` their literals, `entities`
//! the groups. For a decision, `rule` selects the policies that can match, `prepared_request` evaluates these with
//! Cedar, and `evaluate` derives the decision. `decision_cache` holds the current set and the decisions made under it.

mod decision_cache;
mod depth;
mod entities;
mod evaluate;
mod explain;
mod limits;
mod load;
mod normal_form;
mod prepared_request;
mod problem;
mod rule;
mod schema_names;

#[cfg(test)]
mod examples;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, sync::Arc};

use cedar_policy::{Authorizer, EntityUid};

pub use self::{
    decision_cache::{MAX_DECISIONS, Policies},
    evaluate::PolicyDecision,
    explain::{Explanation, NearMiss, PolicyExcerpt},
    limits::{MAX_ENTITIES, MAX_POLICIES, MAX_POLICY_FILE_BYTES},
    prepared_request::WebApiCall,
    problem::{PolicyError, PolicyProblem},
    schema_names::POLICY_SCHEMA,
};
use self::{entities::Groups, rule::Rule, schema_names::SchemaNames};

/// The contents of the policy and entities files. The file names are for messages.
#[derive(Debug, Clone, Default)]
pub struct PolicyText {
    /// The name of the policy file.
    pub policy_name: String,
    /// The policies.
    pub policy: String,
    /// The name of the entities file.
    pub entities_name: Option<String>,
    /// The entities, if there is such a file.
    pub entities: Option<String>,
}

/// Valid policies and groups.
pub struct PolicySet {
    /// The policies, in the order of the file.
    rules: Vec<Arc<Rule>>,
    /// The indices in `rules` of the policies whose principal is this caller or group.
    by_principal: HashMap<EntityUid, Vec<usize>>,
    /// The indices of the policies that can match any caller.
    any_principal: Vec<usize>,
    groups: Groups,
    schema_names: SchemaNames,
    authorizer: Authorizer,
    /// The text of the files, for excerpts.
    text: PolicyText,
}

impl PolicySet {
    /// Returns the number of policies.
    #[must_use]
    pub fn policies(&self) -> usize {
        self.rules.len()
    }

    /// Returns the number of groups of callers and of tenants.
    #[must_use]
    pub fn groups(&self) -> usize {
        self.groups.len()
    }

    fn new(rules: Vec<Rule>, groups: Groups, schema_names: SchemaNames, text: &PolicyText) -> Self {
        let mut by_principal: HashMap<EntityUid, Vec<usize>> = HashMap::new();
        let mut any_principal = Vec::new();
        for (index, rule) in rules.iter().enumerate() {
            match rule.principal() {
                Some(principal) => by_principal.entry(principal.clone()).or_default().push(index),
                None => any_principal.push(index),
            }
        }
        let rules = rules.into_iter().map(Arc::new).collect();
        let (authorizer, text) = (Authorizer::new(), text.clone());
        Self { rules, by_principal, any_principal, groups, schema_names, authorizer, text }
    }
}

impl std::fmt::Debug for PolicySet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PolicySet({} policies, {} groups)", self.policies(), self.groups())
    }
}
