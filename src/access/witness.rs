//! Proof that a decision was made.

use std::{fmt, marker::PhantomData, sync::Arc};

use super::{ActionName, Caller, OverQuota};

/// The ids of the policies that made a decision.
pub type PolicyIds = Arc<[Arc<str>]>;

/// Why a caller may not do what it asks for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Policy does not permit it: these policies forbid it, or none permits it.
    #[error("not permitted")]
    Denied(PolicyIds),
    /// Policy permits some calls of the Web API, and not this one: these policies forbid it, or none permits it.
    #[error("this call is not permitted")]
    PathNotAllowed(PolicyIds),
    /// It was refused so often that only what is known to be permitted is still answered.
    #[error(transparent)]
    OverQuota(#[from] OverQuota),
    /// What proved who the caller is holds no longer: on a stream that was opened with it.
    #[error("the caller's credential has expired or its key was withdrawn")]
    Expired,
    /// The certificate of the caller's connection is no longer trusted.
    #[error("the client certificate is no longer trusted")]
    Distrusted,
}

/// Proof that a caller may do `A` to the resource inside. What was decided is what is done: a use case takes the
/// resource from here, not from the request.
#[derive(Clone)]
pub struct Authorized<A, R> {
    caller: Caller,
    resource: R,
    policy_ids: PolicyIds,
    action: PhantomData<fn() -> A>,
}

impl<A, R> Authorized<A, R> {
    pub(super) fn new(caller: Caller, resource: R, policy_ids: PolicyIds) -> Self {
        Self { caller, resource, policy_ids, action: PhantomData }
    }

    /// Who asked.
    #[must_use]
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// What it may be done to.
    #[must_use]
    pub fn resource(&self) -> &R {
        &self.resource
    }

    /// The policies that permit it.
    #[must_use]
    pub fn policy_ids(&self) -> &PolicyIds {
        &self.policy_ids
    }
}

impl<A, R: fmt::Debug> fmt::Debug for Authorized<A, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} on {:?}", self.caller, self.resource)
    }
}

/// What a caller may do to a resource, at least one thing.
#[derive(Debug, Clone)]
pub struct Rights<R> {
    resource: R,
    held: Vec<(ActionName, PolicyIds)>,
}

impl<R> Rights<R> {
    pub(super) fn new(resource: R, held: Vec<(ActionName, PolicyIds)>) -> Self {
        Self { resource, held }
    }

    /// What it may be done to.
    #[must_use]
    pub fn resource(&self) -> &R {
        &self.resource
    }

    /// Whether this is among them.
    #[must_use]
    pub fn holds(&self, action: ActionName) -> bool {
        self.held.iter().any(|(held, _)| *held == action)
    }

    /// The policies that permit any of these actions, each once.
    #[must_use]
    pub fn policy_ids(&self, actions: &[ActionName]) -> Vec<Arc<str>> {
        let permitting = self.held.iter().filter(|(held, _)| actions.contains(held));
        let mut ids: Vec<_> = permitting.flat_map(|(_, ids)| ids.iter().cloned()).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }
}
