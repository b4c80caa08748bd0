//! What callers may do: Cedar policies, read strictly and asked quickly.
//!
//! A set is read once ([`PolicySet::parse`]: `load` checks the policies, `normal_form` their literals, `entities` the groups) and then only
//! asked. `rule` knows which policies can match a question at all, `prepared` has Cedar evaluate these, `ask` makes
//! decisions of it, and `memory` keeps the set in force with the decisions made under it.

mod ask;
mod depth;
mod entities;
mod explain;
mod load;
mod memory;
mod normal_form;
mod prepared;
mod problem;
mod rule;
mod words;

#[cfg(test)]
mod examples;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, sync::Arc};

use cedar_policy::{Authorizer, EntityUid};

pub use self::{
    ask::{Ruling, WebApiCall},
    explain::{Excerpt, Explanation, NearMiss},
    memory::{MAX_DECISIONS, Policies},
    problem::{PolicyError, PolicyProblem},
};
use self::{entities::Groups, rule::Rule, words::Words};

/// What policies can speak of: entity types, actions and their context, in Cedar's schema language.
pub const POLICY_SCHEMA: &str = include_str!("policy/schema.cedarschema");

/// Longest policy file and longest entities file that is read.
pub const MAX_POLICY_FILE_BYTES: usize = 1024 * 1024;

/// Most policies of a file.
pub const MAX_POLICIES: usize = 10_000;

/// Most entities of an entities file.
pub const MAX_ENTITIES: usize = 100_000;

/// The texts of the files, as they were read. Their names are for messages.
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

/// Policies and groups that were found to be right.
pub struct PolicySet {
    /// In the order of the file.
    rules: Vec<Arc<Rule>>,
    /// Of each rule whose principal is a caller or a group, where it stands in `rules`.
    by_principal: HashMap<EntityUid, Vec<usize>>,
    /// Rules that any caller may match.
    any_principal: Vec<usize>,
    groups: Groups,
    words: Words,
    authorizer: Authorizer,
    /// For excerpts.
    text: PolicyText,
}

impl PolicySet {
    /// How many policies there are.
    #[must_use]
    pub fn policies(&self) -> usize {
        self.rules.len()
    }

    /// How many groups of callers and of tenants there are.
    #[must_use]
    pub fn groups(&self) -> usize {
        self.groups.len()
    }

    fn new(rules: Vec<Rule>, groups: Groups, words: Words, text: &PolicyText) -> Self {
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
        Self { rules, by_principal, any_principal, groups, words, authorizer, text }
    }
}

impl std::fmt::Debug for PolicySet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PolicySet({} policies, {} groups)", self.policies(), self.groups())
    }
}
