//! A question as Cedar wants to be asked it, all but the context of a call.
//!
//! Finding the policies that can match and telling Cedar of the entities takes longer than evaluating a few policies,
//! and depends on nothing that differs from call to call. So it is done once and kept.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use cedar_policy::{
    AuthorizationError, Authorizer, Context, Decision, Entities, Entity, EntityUid,
    EvaluationError, PolicyId, Request, RestrictedExpression,
};

use super::{
    PolicySet, WebApiCall,
    ask::above,
    rule::Rule,
    words::{Words, uid},
};
use crate::{
    access::{ActionName, Caller, Resource, ResourceKind},
    domain::{credential_operation, folded_name},
};

/// Who asks and for what, with everything that both belong to.
pub(super) struct Lineages {
    /// The caller and its groups.
    pub(super) caller: Vec<EntityUid>,
    /// The resource and what is above it.
    pub(super) resource: Vec<EntityUid>,
}

/// Memory that a question takes, and each policy that it is put to beside its text. Measured, and rounded.
const QUESTION_BYTES: usize = 7 * 1024;
const RULE_BYTES: usize = 1024;

/// Who asks for what, and which policies.
#[derive(Clone)]
pub(super) struct Prepared {
    caller: EntityUid,
    action: EntityUid,
    resource: EntityUid,
    entities: Entities,
    /// In the order of the file.
    rules: Vec<Arc<Rule>>,
    policies: cedar_policy::PolicySet,
}

/// What Cedar found.
#[derive(Default)]
pub(super) struct Answer<'a> {
    pub(super) allowed: bool,
    pub(super) determining: Vec<&'a Arc<Rule>>,
    pub(super) failed: Vec<Failure<'a>>,
}

pub(super) struct Failure<'a> {
    pub(super) rule: &'a Arc<Rule>,
    /// It asked for something that is not known yet.
    pub(super) wants_more: bool,
    pub(super) error: String,
}

impl PolicySet {
    pub(super) fn lineages(&self, caller: &Caller, resource: &Resource) -> Lineages {
        let mut callers = vec![uid(&self.words.caller, caller.id())];
        callers.extend(self.groups.of_caller(caller.id()));
        let mut resources = vec![self.words.resource(resource)];
        resources.extend(above(resource, &self.words, &self.groups));
        Lineages { caller: callers, resource: resources }
    }

    /// Prepares a question to the policies whose scope can match.
    pub(super) fn prepare(
        &self,
        caller: &Caller,
        action: ActionName,
        resource: &Resource,
    ) -> Result<Prepared, String> {
        let lineages = self.lineages(caller, resource);
        let rules = self.candidates(&lineages, action, resource.kind());
        Prepared::new(rules, &lineages, &self.words, caller, action, resource)
    }

    /// The policies whose scope can match, in the order of the file.
    fn candidates(
        &self,
        lineages: &Lineages,
        action: ActionName,
        kind: ResourceKind,
    ) -> Vec<Arc<Rule>> {
        let kind = self.words.kind(kind);
        let of_principal = lineages.caller.iter().filter_map(|uid| self.by_principal.get(uid));
        let indices = std::iter::once(&self.any_principal).chain(of_principal).flatten();
        let rules = indices.filter_map(|index| self.rules.get(*index));
        let matching = |rule: &&Arc<Rule>| {
            rule.matches_action(action) && rule.matches_resource(kind, &lineages.resource)
        };
        let mut rules: Vec<_> = rules.filter(matching).cloned().collect();
        rules.sort_unstable_by_key(|rule| rule.span.start);
        rules
    }
}

impl Prepared {
    pub(super) fn new(
        rules: Vec<Arc<Rule>>,
        lineages: &Lineages,
        words: &Words,
        caller: &Caller,
        action: ActionName,
        resource: &Resource,
    ) -> Result<Self, String> {
        let first = |lineage: &[EntityUid]| lineage.first().cloned().ok_or("nobody and nothing");
        Ok(Self {
            caller: first(&lineages.caller)?,
            action: words.action(action).ok_or("an action without a name")?.clone(),
            resource: first(&lineages.resource)?,
            entities: entities(&rules, lineages, words, caller, action, resource)?,
            policies: policies(&rules)?,
            rules,
        })
    }

    /// The same question to some of the policies.
    pub(super) fn to(&self, rules: &[&Arc<Rule>]) -> Result<Self, String> {
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

    /// Whether the answer can be another one in another context.
    pub(super) fn reads_context(&self) -> bool {
        self.rules.iter().any(|rule| rule.reads_context)
    }

    /// About how much memory it takes.
    pub(super) fn bytes(&self) -> usize {
        QUESTION_BYTES + self.rules.iter().map(|rule| RULE_BYTES + rule.span.len()).sum::<usize>()
    }

    /// Asks, with the context that `call` makes.
    pub(super) fn answer(
        &self,
        authorizer: &Authorizer,
        call: Option<WebApiCall<'_>>,
    ) -> Result<Answer<'_>, String> {
        let operation = call.and_then(|call| credential_operation(call.method, call.path));
        self.answer_about(authorizer, call, operation.unwrap_or_default())
    }

    /// As [`Self::answer`], with this as the operation that can return credentials; empty for none.
    pub(super) fn answer_about(
        &self,
        authorizer: &Authorizer,
        call: Option<WebApiCall<'_>>,
        operation: &str,
    ) -> Result<Answer<'_>, String> {
        if self.rules.is_empty() {
            return Ok(Answer::default());
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
            // Of the context, or of a grant that may be anybody's: everything else has what the schema says.
            let wants_more = matches!(
                error,
                EvaluationError::RecordAttrDoesNotExist(_)
                    | EvaluationError::EntityAttrDoesNotExist(_)
            );
            Some(Failure { rule, wants_more, error: error.to_string() })
        });
        let failed = failed.collect();
        let determining =
            self.rules.iter().filter(|rule| reasons.contains(rule.policy.id())).collect();
        Ok(Answer { allowed, determining, failed })
    }
}

fn policies(rules: &[Arc<Rule>]) -> Result<cedar_policy::PolicySet, String> {
    let policies = rules.iter().map(|rule| rule.policy.clone());
    cedar_policy::PolicySet::from_policies(policies).map_err(text)
}

/// Everything that policies can ask about.
fn entities(
    rules: &[Arc<Rule>],
    lineages: &Lineages,
    words: &Words,
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
        && !grant.is_anybodys()
    {
        let associate = RestrictedExpression::new_long(i64::from(grant.associate_id));
        of_resource.insert("associateId".to_owned(), associate);
        // Policies see one spelling of it: literals in another one are refused at load.
        let name = string(&folded_name(&grant.user_principal_name));
        of_resource.insert("userPrincipalName".to_owned(), name);
    }
    let asking = [entity(&lineages.caller, of_caller)?, entity(&lineages.resource, of_resource)?];
    let mut seen: HashSet<_> = asking.iter().map(Entity::uid).collect();
    let named = rules.iter().flat_map(|rule| &rule.named);
    let entities = asking
        .into_iter()
        .chain(words.grouped_action(action))
        .chain(named.filter(|entity| seen.insert(entity.uid())).cloned());
    Entities::from_entities(entities, None).map_err(text)
}

/// The first of a lineage, in all the others.
fn entity(
    lineage: &[EntityUid],
    attributes: HashMap<String, RestrictedExpression>,
) -> Result<Entity, String> {
    let (uid, parents) = lineage.split_first().ok_or("nobody and nothing")?;
    Entity::new(uid.clone(), attributes, parents.iter().cloned().collect()).map_err(text)
}

fn string(text: &str) -> RestrictedExpression {
    RestrictedExpression::new_string(text.to_owned())
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
