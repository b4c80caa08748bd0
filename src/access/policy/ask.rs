//! Asking a set: Cedar evaluates the policies that can match, and an error is a denial.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use cedar_policy::{
    AuthorizationError, Context, Decision, Entities, Entity, EntityUid, EvaluationError, PolicyId,
    Request, RestrictedExpression,
};

use super::{
    PolicySet,
    entities::Groups,
    rule::Rule,
    words::{Words, uid},
};
use crate::{
    access::{ActionName, Caller, Resource, ResourceKind},
    domain::{TenantName, gives_credentials},
};

/// What was decided, and by which policies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ruling {
    /// Whether it may be done.
    pub allowed: bool,
    /// The policies that made the decision, in the order of the file; none if no policy permits it.
    pub policy_ids: Arc<[Arc<str>]>,
}

/// A call to SuperOffice's Web API as policies see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WebApiCall<'a> {
    /// The method, in upper case.
    pub method: &'a str,
    /// The path, percent-decoded and in lower case.
    pub path: &'a str,
}

/// Who asks and for what, with everything that both belong to.
pub(super) struct Lineages {
    /// The caller and its groups.
    pub(super) caller: Vec<EntityUid>,
    /// The resource and what is above it.
    pub(super) resource: Vec<EntityUid>,
}

/// What Cedar found.
struct Answer<'a> {
    allowed: bool,
    determining: Vec<&'a Rule>,
    failed: Vec<Failure<'a>>,
}

struct Failure<'a> {
    rule: &'a Rule,
    /// It asked for something of a context that was not there.
    wants_context: bool,
    error: String,
}

impl Ruling {
    fn denied() -> Self {
        Self { allowed: false, policy_ids: [].into() }
    }

    fn by<'a>(allowed: bool, rules: impl IntoIterator<Item = &'a Rule>) -> Self {
        Self { allowed, policy_ids: rules.into_iter().map(|rule| Arc::clone(&rule.id)).collect() }
    }
}

impl PolicySet {
    /// Decides. An action with a context is denied without one.
    pub(super) fn decide(
        &self,
        caller: &Caller,
        action: ActionName,
        resource: &Resource,
        call: Option<WebApiCall<'_>>,
    ) -> Ruling {
        if !action.resource_kinds().contains(&resource.kind()) {
            return Ruling::denied();
        }
        if action.has_context() && call.is_none() {
            tracing::error!(
                action = action.as_str(),
                "asked without the method and path of the call: denied"
            );
            return Ruling::denied();
        }
        let answer = match self.ask(caller, action, resource, call) {
            Ok(answer) => answer,
            Err(error) => return not_asked(caller, action, &error),
        };
        if !answer.failed.is_empty() {
            return denied_by_failure(caller, action, resource, &answer.failed);
        }
        match call {
            Some(call) if answer.allowed && gives_credentials(call.path) => {
                self.naming(caller, action, resource, call, answer.determining)
            }
            _ => Ruling::by(answer.allowed, answer.determining),
        }
    }

    /// Of the permits of a call that hands out credentials those that name its path: that permit it, and none of its
    /// neighbours. What permits a whole branch was not written with this path in mind.
    fn naming(
        &self,
        caller: &Caller,
        action: ActionName,
        resource: &Resource,
        call: WebApiCall<'_>,
        mut permits: Vec<&Rule>,
    ) -> Ruling {
        let lineages = self.lineages(caller, resource);
        for path in neighbours(call.path) {
            let neighbour = Some(WebApiCall { path: &path, ..call });
            let rules = permits.clone();
            match self.evaluate(rules, &lineages, caller, action, resource, neighbour) {
                Ok(answer) => permits
                    .retain(|rule| !answer.determining.iter().any(|other| other.id == rule.id)),
                Err(error) => return not_asked(caller, action, &error),
            }
        }
        Ruling::by(!permits.is_empty(), permits)
    }

    /// Whether the caller may do it in some context: see [`super::Policies::may_for_some_context`].
    pub(super) fn may_for_some_context(
        &self,
        caller: &Caller,
        action: ActionName,
        resource: &Resource,
    ) -> Ruling {
        if !action.has_context() || !action.resource_kinds().contains(&resource.kind()) {
            return self.decide(caller, action, resource, None);
        }
        let answer = match self.ask(caller, action, resource, None) {
            Ok(answer) => answer,
            Err(error) => return not_asked(caller, action, &error),
        };
        if answer.failed.iter().any(|failure| !failure.wants_context) {
            return denied_by_failure(caller, action, resource, &answer.failed);
        }
        let forbidden = !answer.allowed && !answer.determining.is_empty();
        if answer.allowed || forbidden {
            return Ruling::by(answer.allowed, answer.determining);
        }
        let permits: Vec<_> = answer
            .failed
            .iter()
            .map(|failure| failure.rule)
            .filter(|rule| rule.permits())
            .collect();
        Ruling::by(!permits.is_empty(), permits)
    }

    /// Whether any permit of `action` could match this caller on some grant of the tenant: without one nobody has to
    /// look which grants there are.
    pub(super) fn may_on_some_grant(
        &self,
        caller: &Caller,
        action: ActionName,
        tenant: &TenantName,
    ) -> bool {
        let lineages = self.lineages(caller, &Resource::Tenant(tenant.clone()));
        let kind = self.words.kind(ResourceKind::Grant);
        self.rules.iter().any(|rule| {
            rule.permits()
                && rule.matches_principal(&lineages.caller)
                && rule.matches_action(action)
                && rule.matches_below(kind, &lineages.resource)
        })
    }

    pub(super) fn lineages(&self, caller: &Caller, resource: &Resource) -> Lineages {
        let mut callers = vec![uid(&self.words.caller, caller.id())];
        callers.extend(self.groups.of_caller(caller.id()));
        let mut resources = vec![self.words.resource(resource)];
        resources.extend(above(resource, &self.words, &self.groups));
        Lineages { caller: callers, resource: resources }
    }

    /// The policies whose scope can match, in the order of the file.
    fn candidates(
        &self,
        lineages: &Lineages,
        action: ActionName,
        kind: ResourceKind,
    ) -> Vec<&Rule> {
        let kind = self.words.kind(kind);
        let of_principal = lineages.caller.iter().filter_map(|uid| self.by_principal.get(uid));
        let indices = std::iter::once(&self.any_principal).chain(of_principal).flatten();
        let rules = indices.filter_map(|index| self.rules.get(*index));
        let mut rules: Vec<_> = rules
            .filter(|r| r.matches_action(action) && r.matches_resource(kind, &lineages.resource))
            .collect();
        rules.sort_unstable_by_key(|rule| rule.span.start);
        rules
    }

    fn ask(
        &self,
        caller: &Caller,
        action: ActionName,
        resource: &Resource,
        call: Option<WebApiCall<'_>>,
    ) -> Result<Answer<'_>, String> {
        let lineages = self.lineages(caller, resource);
        let rules = self.candidates(&lineages, action, resource.kind());
        self.evaluate(rules, &lineages, caller, action, resource, call)
    }

    /// As [`Self::decide`], with all policies instead of those that can match.
    #[cfg(test)]
    pub(super) fn decide_with_all(
        &self,
        caller: &Caller,
        action: ActionName,
        resource: &Resource,
        call: Option<WebApiCall<'_>>,
    ) -> Ruling {
        let lineages = self.lineages(caller, resource);
        let all = self.rules.iter().collect();
        let answer = self.evaluate(all, &lineages, caller, action, resource, call).unwrap();
        if answer.failed.is_empty() {
            Ruling::by(answer.allowed, answer.determining)
        } else {
            denied_by_failure(caller, action, resource, &answer.failed)
        }
    }

    fn evaluate<'a>(
        &self,
        rules: Vec<&'a Rule>,
        lineages: &Lineages,
        caller: &Caller,
        action: ActionName,
        resource: &Resource,
        call: Option<WebApiCall<'_>>,
    ) -> Result<Answer<'a>, String> {
        if rules.is_empty() {
            return Ok(Answer { allowed: false, determining: Vec::new(), failed: Vec::new() });
        }
        let (request, entities) =
            self.question(&rules, lineages, caller, action, resource, call)?;
        let policies = rules.iter().map(|rule| rule.policy.clone());
        let policies = cedar_policy::PolicySet::from_policies(policies).map_err(text)?;
        let response = self.authorizer.is_authorized(&request, &policies, &entities);
        let allowed = response.decision() == Decision::Allow;
        let reasons: HashSet<&PolicyId> = response.diagnostics().reason().collect();
        let errors: HashMap<&PolicyId, &EvaluationError> = response
            .diagnostics()
            .errors()
            .map(|AuthorizationError::PolicyEvaluationError(e)| (e.policy_id(), e.inner()))
            .collect();
        let failure = |rule: &&'a Rule| {
            let error = errors.get(rule.policy.id())?;
            let wants_context = matches!(error, EvaluationError::RecordAttrDoesNotExist(_));
            Some(Failure { rule, wants_context, error: error.to_string() })
        };
        let failed = rules.iter().filter_map(failure).collect();
        let determining =
            rules.into_iter().filter(|rule| reasons.contains(rule.policy.id())).collect();
        Ok(Answer { allowed, determining, failed })
    }

    fn question(
        &self,
        rules: &[&Rule],
        lineages: &Lineages,
        caller: &Caller,
        action: ActionName,
        resource: &Resource,
        call: Option<WebApiCall<'_>>,
    ) -> Result<(Request, Entities), String> {
        let string = |text: &str| RestrictedExpression::new_string(text.to_owned());
        let mut of_caller =
            HashMap::from([("method".to_owned(), string(caller.method().as_str()))]);
        if let Some(issuer) = caller.issuer() {
            of_caller.insert("issuer".to_owned(), string(issuer));
        }
        let mut of_resource = HashMap::new();
        if let Resource::Grant(grant) = resource {
            let associate = RestrictedExpression::new_long(i64::from(grant.associate_id));
            of_resource.insert("associateId".to_owned(), associate);
            let name = string(&grant.user_principal_name);
            of_resource.insert("userPrincipalName".to_owned(), name);
        }
        let (principal, of_caller) = entity(&lineages.caller, of_caller)?;
        let (object, of_resource) = entity(&lineages.resource, of_resource)?;
        let verb = self.words.action(action).ok_or("an action without a name")?.clone();
        let mut seen = HashSet::from([principal.clone(), object.clone()]);
        let named = rules.iter().flat_map(|rule| &rule.named);
        let entities = [of_caller, of_resource]
            .into_iter()
            .chain(self.words.grouped_action(action))
            .chain(named.filter(|entity| seen.insert(entity.uid())).cloned());
        let entities = Entities::from_entities(entities, None).map_err(text)?;
        let context = match call {
            None => Context::empty(),
            Some(WebApiCall { method, path }) => {
                let pairs = [("method", method), ("path", path)];
                let pairs = pairs.map(|(key, value)| (key.to_owned(), string(value)));
                Context::from_pairs(pairs).map_err(text)?
            }
        };
        let request = Request::new(principal, verb, object, context, None).map_err(text)?;
        Ok((request, entities))
    }
}

/// Paths that differ from this one in their last segment only: all of it, its beginning, its end.
fn neighbours(path: &str) -> [String; 3] {
    let (above, last) = path.rsplit_once('/').unwrap_or(("", path));
    [format!("{above}/-"), format!("{above}/-{last}"), format!("{above}/{last}-")]
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// The first of a lineage, in all the others.
fn entity(
    lineage: &[EntityUid],
    attributes: HashMap<String, RestrictedExpression>,
) -> Result<(EntityUid, Entity), String> {
    let (uid, parents) = lineage.split_first().ok_or("nobody and nothing")?;
    let parents = parents.iter().cloned().collect();
    let entity = Entity::new(uid.clone(), attributes, parents).map_err(text)?;
    Ok((uid.clone(), entity))
}

/// Everything above a resource.
pub(super) fn above(resource: &Resource, words: &Words, groups: &Groups) -> Vec<EntityUid> {
    let mut above = Vec::new();
    if let Some(tenant) = resource.tenant() {
        let name = tenant.to_string();
        above.extend_from_slice(groups.of_tenant(&name));
        above.push(words.resource(&Resource::Application(tenant.application.clone())));
        if resource.kind() == ResourceKind::Grant {
            above.push(uid(words.kind(ResourceKind::Tenant), &name));
        }
    }
    if resource.kind() != ResourceKind::Gateway {
        above.push(words.the_gateway.clone());
    }
    above
}

fn not_asked(caller: &Caller, action: ActionName, error: &str) -> Ruling {
    let action = action.as_str();
    tracing::error!(caller = caller.id(), action, error, "policies could not be asked: denied");
    Ruling::denied()
}

/// Cedar passes over a policy that fails, also one that forbids; the gateway does not.
fn denied_by_failure(
    caller: &Caller,
    action: ActionName,
    resource: &Resource,
    failed: &[Failure<'_>],
) -> Ruling {
    for failure in failed {
        tracing::error!(
            policy_id = &*failure.rule.id,
            line = failure.rule.line,
            error = failure.error,
            caller = caller.id(),
            action = action.as_str(),
            %resource,
            "a policy could not be evaluated: denied"
        );
    }
    Ruling::by(false, failed.iter().map(|failure| failure.rule))
}
