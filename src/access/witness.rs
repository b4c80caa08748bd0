//! Decisions, and the proof that one was made.

use std::marker::PhantomData;

use super::{Caller, On};

/// Policy does not permit it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not permitted")]
pub struct Denied;

/// Proof that a caller may do `A` to the resource inside. What was decided is what is done: a use case takes the
/// resource from here, not from the request.
#[derive(Debug, Clone)]
pub struct Authorized<A, R> {
    caller: Caller,
    resource: R,
    action: PhantomData<fn() -> A>,
}

impl<A, R> Authorized<A, R> {
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
}

/// Decides.
#[derive(Debug)]
pub struct Access {
    rules: Rules,
}

#[derive(Debug)]
enum Rules {
    /// For loopback without caller identity, and for the command line.
    PermitAll,
}

impl Access {
    /// Permits everything. For `callers.insecure_anonymous` and for the command line; configuration sees to it
    /// that no listener is reachable from outside then.
    #[must_use]
    pub fn permit_all() -> Self {
        Self { rules: Rules::PermitAll }
    }

    /// Decides whether `caller` may do `A` to `resource`. Runs on the name alone, before any look-up.
    ///
    /// # Errors
    /// If no rule permits it.
    pub fn authorize<A: On<R>, R>(
        &self,
        caller: &Caller,
        resource: R,
    ) -> Result<Authorized<A, R>, Denied> {
        match self.rules {
            Rules::PermitAll => {
                Ok(Authorized { caller: caller.clone(), resource, action: PhantomData })
            }
        }
    }

    /// Decides for each of several resources and keeps the permitted ones.
    ///
    /// # Errors
    /// If none is permitted.
    pub fn authorize_any<A: On<R>, R>(
        &self,
        caller: &Caller,
        resources: impl IntoIterator<Item = R>,
    ) -> Result<Vec<Authorized<A, R>>, Denied> {
        let permitted: Vec<_> =
            resources.into_iter().filter_map(|r| self.authorize(caller, r).ok()).collect();
        if permitted.is_empty() { Err(Denied) } else { Ok(permitted) }
    }
}
