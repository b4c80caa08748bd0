//! Asking a set: Cedar evaluates the policies that can match, and an error is a denial.

use std::sync::Arc;

use cedar_policy::EntityUid;

use super::{
    PolicySet,
    entities::Groups,
    prepared::{Failure, Prepared},
    rule::Rule,
    words::{Words, uid},
};
use crate::{
    access::{ActionName, Caller, Resource, ResourceKind},
    domain::{TenantName, credential_operation},
};

/// Most positions of a segment at which [`siblings`] inserts a character: each costs an evaluation. Names of operations
/// are shorter.
const MAX_POSITIONS: usize = 64;

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
    /// The path in normal form ([`crate::domain::ApiPath::decided`]).
    pub path: &'a str,
}

/// What is remembered of a question about calls, each of which has another context.
#[derive(Clone)]
pub(super) enum Standing {
    /// None of the policies that can match reads the context, and none failed: it is the same for every call.
    Settled(Ruling),
    /// Each call is asked about.
    Open(Arc<Prepared>),
}

impl Ruling {
    fn denied() -> Self {
        Self { allowed: false, policy_ids: [].into() }
    }

    fn by<'a>(allowed: bool, rules: impl IntoIterator<Item = &'a Arc<Rule>>) -> Self {
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
        match self.prepare(caller, action, resource) {
            Ok(prepared) => self.rule_on(&prepared, call),
            Err(error) => not_asked(caller.id(), action.as_str(), &error),
        }
    }

    /// What can be said of a question about calls before there is one.
    ///
    /// # Errors
    /// If it cannot be asked; the text is for the log.
    pub(super) fn standing(
        &self,
        caller: &Caller,
        action: ActionName,
        resource: &Resource,
    ) -> Result<Standing, String> {
        let prepared = self.prepare(caller, action, resource)?;
        if !prepared.reads_context() {
            let answer = prepared.answer(&self.authorizer, None)?;
            // A failure is for the log, each time.
            if answer.failed.is_empty() {
                return Ok(Standing::Settled(Ruling::by(answer.allowed, answer.determining)));
            }
        }
        Ok(Standing::Open(Arc::new(prepared)))
    }

    /// Decides on a call, as [`Self::decide`] would.
    pub(super) fn decide_call(&self, standing: &Standing, call: WebApiCall<'_>) -> Ruling {
        match standing {
            // A policy that does not read the context names no operation.
            Standing::Settled(ruling)
                if ruling.allowed && credential_operation(call.method, call.path).is_some() =>
            {
                Ruling::denied()
            }
            Standing::Settled(ruling) => ruling.clone(),
            Standing::Open(prepared) => self.rule_on(prepared, Some(call)),
        }
    }

    fn rule_on(&self, prepared: &Prepared, call: Option<WebApiCall<'_>>) -> Ruling {
        let answer = match prepared.answer(&self.authorizer, call) {
            Ok(answer) => answer,
            Err(error) => return not_asked(prepared.caller(), prepared.action(), &error),
        };
        if !answer.failed.is_empty() {
            return denied_by_failure(prepared, &answer.failed);
        }
        let operation = call.and_then(|call| credential_operation(call.method, call.path));
        match (call, operation) {
            (Some(call), Some(operation)) if answer.allowed => {
                self.naming(prepared, call, operation, answer.determining)
            }
            _ => Ruling::by(answer.allowed, answer.determining),
        }
    }

    /// Keeps only the permits that name the operation, which can return credentials: they match this path or this
    /// operation, and no sibling of both. A permit of a whole branch was not written with this operation in mind.
    fn naming(
        &self,
        prepared: &Prepared,
        call: WebApiCall<'_>,
        operation: &str,
        mut permits: Vec<&Arc<Rule>>,
    ) -> Ruling {
        let not_asked = |error: String| not_asked(prepared.caller(), prepared.action(), &error);
        let asked = match prepared.to(&permits) {
            Ok(asked) => asked,
            Err(error) => return not_asked(error),
        };
        let (paths, operations) = (siblings(call.path), siblings(operation));
        let pairs = paths.iter().cycle().zip(operations.iter().cycle());
        for (path, operation) in pairs.take(paths.len().max(operations.len())) {
            if permits.is_empty() {
                break;
            }
            let sibling = Some(WebApiCall { path, ..call });
            match asked.answer_about(&self.authorizer, sibling, operation) {
                Ok(answer) => permits
                    .retain(|rule| !answer.determining.iter().any(|other| other.id == rule.id)),
                Err(error) => return not_asked(error),
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
        if !resource.leaves_open(action) || !action.resource_kinds().contains(&resource.kind()) {
            return self.decide(caller, action, resource, None);
        }
        let not_asked = |error: String| not_asked(caller.id(), action.as_str(), &error);
        let prepared = match self.prepare(caller, action, resource) {
            Ok(prepared) => prepared,
            Err(error) => return not_asked(error),
        };
        let answer = match prepared.answer(&self.authorizer, None) {
            Ok(answer) => answer,
            Err(error) => return not_asked(error),
        };
        if answer.failed.iter().any(|failure| !failure.wants_more) {
            return denied_by_failure(&prepared, &answer.failed);
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
        let all = self.rules.clone();
        let prepared = Prepared::new(all, &lineages, &self.words, caller, action, resource);
        let prepared = prepared.unwrap();
        let answer = prepared.answer(&self.authorizer, call).unwrap();
        if answer.failed.is_empty() {
            Ruling::by(answer.allowed, answer.determining)
        } else {
            denied_by_failure(&prepared, &answer.failed)
        }
    }
}

/// Returns paths that differ from this one in their last segment only: another segment, and this one with a character
/// more at each of its first positions and at its end. A pattern with a wildcard in this segment matches one of them.
fn siblings(path: &str) -> Vec<String> {
    let (above, last) = path.rsplit_once('/').unwrap_or(("", path));
    let positions = last.char_indices().map(|(at, _)| at).take(MAX_POSITIONS);
    let longer = positions.chain([last.len()]).filter_map(|at| {
        let (before, behind) = last.split_at_checked(at)?;
        Some(format!("{above}/{before}-{behind}"))
    });
    std::iter::once(format!("{above}/-")).chain(longer).collect()
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

pub(super) fn not_asked(caller: &str, action: &str, error: &str) -> Ruling {
    tracing::error!(caller, action, error, "policies could not be asked: denied");
    Ruling::denied()
}

/// Cedar passes over a policy that fails, also one that forbids; the gateway does not.
fn denied_by_failure(prepared: &Prepared, failed: &[Failure<'_>]) -> Ruling {
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
    Ruling::by(false, failed.iter().map(|failure| failure.rule))
}
