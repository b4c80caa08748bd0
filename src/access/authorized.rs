//! Proofs of authorization decisions.

use std::{fmt, marker::PhantomData, sync::Arc};

use super::{ActionName, Caller, OverQuota};

/// The ids of the policies that made a decision.
pub type PolicyIds = Arc<[Arc<str>]>;

/// The reason why a call is not authorized.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// Policy denies the action: these policies forbid it, or none permits it.
    #[error("not permitted")]
    Denied(PolicyIds),
    /// Policy permits other Web API calls, but not this one: these policies forbid it, or none permits it.
    #[error("this call is not permitted")]
    PathNotAllowed(PolicyIds),
    /// Too many calls of this caller were refused. Only cached permissions are still granted.
    #[error(transparent)]
    OverQuota(#[from] OverQuota),
    /// The credential with which the stream was opened is no longer valid.
    #[error("the caller's credential has expired or its key was withdrawn")]
    CredentialExpired,
    /// The certificate of the caller's connection is no longer trusted.
    #[error("the client certificate is no longer trusted")]
    CertificateNotTrusted,
}

/// Proof that a caller may do `A` to the contained resource. A use case takes the resource from this proof and not from
/// the request, so that it acts on exactly the resource that was authorized.
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

    /// Returns the caller.
    #[must_use]
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Returns the resource.
    #[must_use]
    pub fn resource(&self) -> &R {
        &self.resource
    }

    /// Returns the policies that permit the action.
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

/// The actions that a caller may do to a resource.
#[derive(Debug, Clone)]
pub struct Rights<R> {
    resource: R,
    held: Vec<(ActionName, PolicyIds)>,
}

impl<R> Rights<R> {
    pub(super) fn new(resource: R, held: Vec<(ActionName, PolicyIds)>) -> Self {
        Self { resource, held }
    }

    /// Returns the resource.
    #[must_use]
    pub fn resource(&self) -> &R {
        &self.resource
    }

    /// Returns whether the action is permitted.
    #[must_use]
    pub fn holds(&self, action: ActionName) -> bool {
        self.held.iter().any(|(held, _)| *held == action)
    }

    /// Returns the policies that permit any of these actions, without duplicates.
    #[must_use]
    pub fn policy_ids(&self, actions: &[ActionName]) -> Vec<Arc<str>> {
        let permitting = self.held.iter().filter(|(held, _)| actions.contains(held));
        let mut ids: Vec<_> = permitting.flat_map(|(_, ids)| ids.iter().cloned()).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }
}
