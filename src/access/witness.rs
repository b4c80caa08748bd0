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

/// Tells who is calling and decides what it may do.
#[derive(Debug)]
pub struct Access {
    rules: Rules,
}

#[derive(Debug)]
enum Rules {
    /// Every call is this caller's and everything is permitted: loopback without caller identity, and the
    /// command line.
    PermitAll(Caller),
}

impl Access {
    /// For `callers.insecure_anonymous`; configuration sees to it that no listener is reachable from outside then.
    #[must_use]
    pub fn insecure_anonymous() -> Self {
        Self { rules: Rules::PermitAll(Caller::anonymous()) }
    }

    /// For a person at the command line, who can read the store and the keyring anyway.
    #[must_use]
    pub fn command_line(os_user: &str) -> Self {
        Self { rules: Rules::PermitAll(Caller::command_line(os_user)) }
    }

    /// Who is calling.
    #[must_use]
    pub fn identify(&self) -> Caller {
        let Rules::PermitAll(caller) = &self.rules;
        caller.clone()
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
        match &self.rules {
            Rules::PermitAll(everybody) if everybody.id() == caller.id() => {
                Ok(Authorized { caller: caller.clone(), resource, action: PhantomData })
            }
            Rules::PermitAll(_) => Err(Denied),
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
