//! A Cedar request without the context of the call.
//!
//! Selecting the policies that can match and building Cedar's entities takes longer than evaluating a few policies, and
//! does not depend on the call. So it is done once and cached.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use cedar_policy::{
    AuthorizationError, Authorizer, Context, Decision, Entities, Entity, EntityUid,
    EvaluationError, PolicyId, Request, RestrictedExpression,
};

use super::{
    PolicySet,
    rule::Rule,
    schema_names::{SchemaNames, uid},
};
use crate::{
    access::{ActionName, Caller, Resource, ResourceKind},
    domain::{credential_operation, folded_name},
};

/// A call to SuperOffice's Web API as policies see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WebApiCall<'a> {
    /// The HTTP method, in upper case.
    pub method: &'a str,
    /// The path in normal form ([`crate::domain::ApiPath::normal_form`]).
    pub path: &'a str,
}

/// The caller and the resource with their ancestors.
pub(super) struct Ancestors {
    /// The caller and its groups.
    pub(super) caller: Vec<EntityUid>,
    /// The resource and its ancestors.
    pub(super) resource: Vec<EntityUid>,
}

/// Memory of a request, and of each of its policies in addition to the text. Measured and rounded.
const QUESTION_BYTES: usize = 7 * 1024;
const RULE_BYTES: usize = 1024;

/// A caller, an action, a resource and the policies that can match.
#[derive(Clone)]
pub(super) struct PreparedRequest {
    caller: EntityUid,
    action: EntityUid,
    resource: EntityUid,
    entities: Entities,
    /// The policies that can match, in the order of the file.
    rules: Vec<Arc<Rule>>,
    policies: cedar_policy::PolicySet,
}

/// The result of an evaluation by Cedar.
#[derive(Default)]
pub(super) struct Evaluation<'a> {
    pub(super) allowed: bool,
    pub(super) determining: Vec<&'a Arc<Rule>>,
    pub(super) failed: Vec<FailedPolicy<'a>>,
}

pub(super) struct FailedPolicy<'a> {
    pub(super) rule: &'a Arc<Rule>,
    /// Whether it read an attribute that is not known yet.
    pub(super) lacks_attribute: bool,
    pub(super) error: String,
}

impl PolicySet {
    pub(super) fn ancestors(&self, caller: &Caller, resource: &Resource) -> Ancestors {
        let mut callers = vec![uid(&self.schema_names.caller, caller.id())];
        callers.extend(self.groups.of_caller(caller.id()));
        let mut resources = vec![self.schema_names.resource(resource)];
        resources.extend(self.groups.ancestors_of(resource, &self.schema_names));
        Ancestors { caller: callers, resource: resources }
    }

    /// Prepares a request for the policies whose scope can match.
    pub(super) fn prepare(
        &self,
        caller: &Caller,
        action: ActionName,
        resource: &Resource,
    ) -> Result<PreparedRequest, String> {
        let ancestors = self.ancestors(caller, resource);
        let rules = self.candidates(&ancestors, action, resource.kind());
        PreparedRequest::new(rules, &ancestors, &self.schema_names, caller, action, resource)
    }

    /// Returns the policies whose scope can match, in the order of the file.
    fn candidates(
        &self,
        ancestors: &Ancestors,
        action: ActionName,
        kind: ResourceKind,
    ) -> Vec<Arc<Rule>> {
        let kind = self.schema_names.kind(kind);
        let of_principal = ancestors.caller.iter().filter_map(|uid| self.by_principal.get(uid));
        let indices = std::iter::once(&self.any_principal).chain(of_principal).flatten();
        let rules = indices.filter_map(|index| self.rules.get(*index));
        let matching = |rule: &&Arc<Rule>| {
            rule.matches_action(action) && rule.matches_resource(kind, &ancestors.resource)
        };
        let mut rules: Vec<_> = rules.filter(matching).cloned().collect();
        rules.sort_unstable_by_key(|rule| rule.span.start);
        rules
    }
}

impl PreparedRequest {
    pub(super) fn new(
        rules: Vec<Arc<Rule>>,
        ancestors: &Ancestors,
        schema_names: &SchemaNames,
        caller: &Caller,
        action: ActionName,
        resource: &Resource,
    ) -> Result<Self, String> {
        let first = |ancestors: &[EntityUid]| {
            ancestors.first().cloned().ok_or("the caller or the resource is missing")
        };
        Ok(Self {
            caller: first(&ancestors.caller)?,
            action: schema_names.action(action).ok_or("an action without a name")?.clone(),
            resource: first(&ancestors.resource)?,
            entities: entities(&rules, ancestors, schema_names, caller, action, resource)?,
            policies: policies(&rules)?,
            rules,
        })
    }

    /// Returns the same request for some of the policies.
    pub(super) fn with_rules(&self, rules: &[&Arc<Rule>]) -> Result<Self, String> {
        let rules: Vec<_> = rules.iter().copied().cloned().collect();
        Ok(Self { policies: policies(&rules)?, rules, ..self.clone() })
    }

    pub(super) fn caller(&self) -> &str {
        self.caller.id().unescaped()
    }

    pub(super) fn action(&self) -> &str {
        self.action.id().unescaped()
    }

    pub(super) fn resource(&self) -> &str {
        self.resource.id().unescaped()
    }

    /// Returns whether the result can depend on the context.
    pub(super) fn reads_context(&self) -> bool {
        self.rules.iter().any(|rule| rule.reads_context)
    }

    /// Returns the approximate memory that it uses.
    pub(super) fn bytes(&self) -> usize {
        QUESTION_BYTES + self.rules.iter().map(|rule| RULE_BYTES + rule.span.len()).sum::<usize>()
    }

    /// Evaluates the policies with the context of `call`.
    pub(super) fn evaluate(
        &self,
        authorizer: &Authorizer,
        call: Option<WebApiCall<'_>>,
    ) -> Result<Evaluation<'_>, String> {
        let operation = call.and_then(|call| credential_operation(call.method, call.path));
        self.evaluate_with_operation(authorizer, call, operation.unwrap_or_default())
    }

    /// Evaluates the policies with this credential operation in the context; empty means none.
    pub(super) fn evaluate_with_operation(
        &self,
        authorizer: &Authorizer,
        call: Option<WebApiCall<'_>>,
        operation: &str,
    ) -> Result<Evaluation<'_>, String> {
        if self.rules.is_empty() {
            return Ok(Evaluation::default());
        }
        let context = match call {
            None => Context::empty(),
            Some(WebApiCall { method, path }) => {
                let pairs =
                    [("method", method), ("path", path), ("credentialOperation", operation)];
                let pairs = pairs.map(|(key, value)| (key.to_owned(), string(value)));
                Context::from_pairs(pairs).map_err(text)?
            }
        };
        let (caller, action) = (self.caller.clone(), self.action.clone());
        let request = Request::new(caller, action, self.resource.clone(), context, None);
        let request = request.map_err(text)?;
        let response = authorizer.is_authorized(&request, &self.policies, &self.entities);
        let allowed = response.decision() == Decision::Allow;
        let reasons: HashSet<&PolicyId> = response.diagnostics().reason().collect();
        let errors: HashMap<&PolicyId, &EvaluationError> = response
            .diagnostics()
            .errors()
            .map(|AuthorizationError::PolicyEvaluationError(e)| (e.policy_id(), e.inner()))
            .collect();
        let failed = self.rules.iter().filter_map(|rule| {
            let error = errors.get(rule.policy.id())?;
            // The attribute belongs to the context or to any person's grant: all others have all their attributes.
            let wants_more = matches!(
                error,
                EvaluationError::RecordAttrDoesNotExist(_)
                    | EvaluationError::EntityAttrDoesNotExist(_)
            );
            Some(FailedPolicy { rule, lacks_attribute: wants_more, error: error.to_string() })
        });
        let failed = failed.collect();
        let determining =
            self.rules.iter().filter(|rule| reasons.contains(rule.policy.id())).collect();
        Ok(Evaluation { allowed, determining, failed })
    }
}

fn policies(rules: &[Arc<Rule>]) -> Result<cedar_policy::PolicySet, String> {
    let policies = rules.iter().map(|rule| rule.policy.clone());
    cedar_policy::PolicySet::from_policies(policies).map_err(text)
}

/// Returns the entities that the policies can read.
fn entities(
    rules: &[Arc<Rule>],
    ancestors: &Ancestors,
    schema_names: &SchemaNames,
    caller: &Caller,
    action: ActionName,
    resource: &Resource,
) -> Result<Entities, String> {
    if rules.is_empty() {
        return Ok(Entities::empty());
    }
    let mut of_caller = HashMap::from([("method".to_owned(), string(caller.method().as_str()))]);
    if let Some(issuer) = caller.issuer() {
        of_caller.insert("issuer".to_owned(), string(issuer));
    }
    let mut of_resource = HashMap::new();
    if let Resource::Grant(grant) = resource
        && !grant.is_any_grant()
    {
        let associate = RestrictedExpression::new_long(i64::from(grant.associate_id));
        of_resource.insert("associateId".to_owned(), associate);
        // Policies see the normal form; literals in another form are rejected at load.
        let name = string(&folded_name(&grant.user_principal_name));
        of_resource.insert("userPrincipalName".to_owned(), name);
    }
    let origin = [entity(&ancestors.caller, of_caller)?, entity(&ancestors.resource, of_resource)?];
    let mut seen: HashSet<_> = origin.iter().map(Entity::uid).collect();
    let named = rules.iter().flat_map(|rule| &rule.condition_entities);
    let entities = origin
        .into_iter()
        .chain(schema_names.grouped_action(action))
        .chain(named.filter(|entity| seen.insert(entity.uid())).cloned());
    Entities::from_entities(entities, None).map_err(text)
}

/// Creates the entity of the first id, with the other ids as its ancestors.
fn entity(
    ancestors: &[EntityUid],
    attributes: HashMap<String, RestrictedExpression>,
) -> Result<Entity, String> {
    let (uid, parents) = ancestors.split_first().ok_or("the caller or the resource is missing")?;
    Entity::new(uid.clone(), attributes, parents.iter().cloned().collect()).map_err(text)
}

fn string(text: &str) -> RestrictedExpression {
    RestrictedExpression::new_string(text.to_owned())
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
