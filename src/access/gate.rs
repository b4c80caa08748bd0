//! The one place that says who is calling and what it may do.

mod admission;

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use jiff::Timestamp;

use super::{
    Action, ActionName, Authorized, Caller, Calling, Identification, On, OverQuota, Policies,
    PolicyIds, QuotaRules, Refused, Resource, Rights, Ruling,
    quota::{Attempt, Quotas, Source},
};
use crate::{
    domain::{CallerOnRecord, TenantName, credential_operation},
    ports::Clock,
};

pub use self::admission::NotAdmitted;

/// How often the credential of an idle stream is looked at besides: its key may be withdrawn, and its authority removed.
const LOOK_AT_CREDENTIAL: Duration = Duration::from_secs(5);

/// A wait is at least this long, so that a clock that stands still is not asked without a pause.
const SHORTEST_WAIT: Duration = Duration::from_millis(1);

/// Tells who is calling and decides what it may do.
pub struct Access {
    callers: Callers,
    rules: Rules,
    quotas: Quotas,
    clock: Arc<dyn Clock>,
}

enum Callers {
    /// No credential is looked at: loopback without caller identity, and the command line.
    Everybody(Caller),
    Proven(Box<Identification>),
}

/// What decides.
#[derive(Clone)]
pub enum Rules {
    /// Everything is permitted: the command line, whose user can read store and keyring anyway, and loopback
    /// without caller identity where no policy is configured.
    PermitAll,
    /// Policy. What it does not permit is denied.
    Policies(Arc<Policies>),
}

impl Access {
    /// For `callers.insecure_anonymous`; configuration sees to it that no listener is reachable from outside then.
    #[must_use]
    pub fn insecure_anonymous(rules: Rules, quotas: QuotaRules, clock: Arc<dyn Clock>) -> Self {
        let callers = Callers::Everybody(Caller::anonymous());
        Self { callers, rules, quotas: Quotas::new(quotas, &clock), clock }
    }

    /// For a person at the command line, who can read the store and the keyring anyway.
    #[must_use]
    pub fn command_line(caller: Caller, clock: Arc<dyn Clock>) -> Self {
        let callers = Callers::Everybody(caller);
        let quotas = Quotas::new(QuotaRules::default(), &clock);
        Self { callers, rules: Rules::PermitAll, quotas, clock }
    }

    /// For callers that prove who they are, and a policy that says what they may do.
    #[must_use]
    pub fn new(
        identification: Identification,
        policies: Arc<Policies>,
        quotas: QuotaRules,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let callers = Callers::Proven(Box::new(identification));
        let quotas = Quotas::new(quotas, &clock);
        Self { callers, rules: Rules::Policies(policies), quotas, clock }
    }

    /// Decides whether `caller` may do `A` to `resource`. Runs on the name alone, before any look-up.
    ///
    /// # Errors
    /// If no policy permits it, or one forbids it; on a stream, also once the caller's credential has expired.
    pub fn authorize<A: On<R>, R: Clone + Into<Resource>>(
        &self,
        caller: &Caller,
        resource: R,
    ) -> Result<Authorized<A, R>, Refused> {
        self.check_still_proven(caller)?;
        let mut attempt = None;
        let ruling = self.rule(caller, A::NAME, &resource.clone().into(), &mut attempt)?;
        if ruling.allowed {
            if let Some(attempt) = attempt {
                attempt.excuse();
            }
            Ok(Authorized::new(caller.clone(), resource, ruling.policy_ids))
        } else {
            Err(Refused::Denied(ruling.policy_ids))
        }
    }

    /// Decides for a caller that began something and has gone since. Policy is asked, and not the credential, which may
    /// have expired. Counts against nobody: it is somebody else who goes on with it.
    ///
    /// # Errors
    /// The policies that forbid it; none if none permits it.
    pub fn authorize_absent<A: On<R>, R: Clone + Into<Resource>>(
        &self,
        record: &CallerOnRecord,
        resource: R,
    ) -> Result<Authorized<A, R>, PolicyIds> {
        let caller = Caller::from_record(record).ok_or_else(no_policy)?;
        let ruling = match &self.rules {
            Rules::PermitAll => permitted(),
            Rules::Policies(policies) => {
                policies.decide(&caller, A::NAME, &resource.clone().into())
            }
        };
        if ruling.allowed {
            Ok(Authorized::new(caller, resource, ruling.policy_ids))
        } else {
            Err(ruling.policy_ids)
        }
    }

    /// Decides whether `caller` may have this call of the Web API made by `A`. `path` is percent-decoded and in lower
    /// case.
    ///
    /// # Errors
    /// As [`Self::authorize`].
    pub fn authorize_call<A: On<R>, R: Clone + Into<Resource>>(
        &self,
        caller: &Caller,
        resource: R,
        method: &str,
        path: &str,
    ) -> Result<Authorized<A, R>, Refused> {
        self.check_still_proven(caller)?;
        let attempt = self.quotas.attempt(Source::Caller(caller))?;
        let ruling = match &self.rules {
            // Only a policy can name what hands out credentials.
            Rules::PermitAll if credential_operation(method, path).is_some() => {
                Ruling { allowed: false, policy_ids: no_policy() }
            }
            Rules::PermitAll => permitted(),
            Rules::Policies(policies) => {
                let resource = resource.clone().into();
                policies.decide_with_context(caller, A::NAME, &resource, method, path)
            }
        };
        if ruling.allowed {
            attempt.excuse();
            Ok(Authorized::new(caller.clone(), resource, ruling.policy_ids))
        } else {
            Err(Refused::Denied(ruling.policy_ids))
        }
    }

    /// Decides on a call of the Web API as it will be sent. Who may make other calls there, and not this one, is told so.
    ///
    /// # Errors
    /// As [`Self::authorize`].
    pub(super) fn authorize_calling<A: On<R>, R: Clone + Into<Resource>>(
        &self,
        caller: &Caller,
        call: Calling<R>,
    ) -> Result<Authorized<A, Calling<R>>, Refused> {
        let (method, path) = (call.method.as_str(), call.path.decided());
        let decided: Result<Authorized<A, R>, _> =
            self.authorize_call(caller, call.on.clone(), method, path);
        match decided {
            Ok(decided) => {
                let policy_ids = Arc::clone(decided.policy_ids());
                Ok(Authorized::new(caller.clone(), call, policy_ids))
            }
            Err(Refused::Denied(policy_ids))
                if self.may_in_some_way::<A>(caller, &call.on.into()) =>
            {
                Err(Refused::PathNotAllowed(policy_ids))
            }
            Err(refused) => Err(refused),
        }
    }

    fn may_in_some_way<A: Action>(&self, caller: &Caller, resource: &Resource) -> bool {
        match &self.rules {
            Rules::PermitAll => true,
            Rules::Policies(policies) => {
                policies.may_for_some_context(caller, A::NAME, resource).allowed
            }
        }
    }

    /// Whether a policy could let the caller do `action` to some grant of the tenant.
    #[must_use]
    pub fn may_on_some_grant(
        &self,
        caller: &Caller,
        action: ActionName,
        tenant: &TenantName,
    ) -> bool {
        match &self.rules {
            Rules::PermitAll => true,
            Rules::Policies(policies) => policies.may_on_some_grant(caller, action, tenant),
        }
    }

    /// Decides for each of several resources and keeps the permitted ones.
    ///
    /// # Errors
    /// If none is permitted.
    pub fn authorize_any<A: On<R>, R: Clone + Into<Resource>>(
        &self,
        caller: &Caller,
        resources: impl IntoIterator<Item = R>,
    ) -> Result<Vec<Authorized<A, R>>, Refused> {
        self.check_still_proven(caller)?;
        let (mut permitted, mut denying, mut slowed) = (Vec::new(), Vec::new(), None);
        let mut attempt = None;
        for resource in resources {
            match self.rule(caller, A::NAME, &resource.clone().into(), &mut attempt) {
                Ok(Ruling { allowed: true, policy_ids }) => {
                    permitted.push(Authorized::new(caller.clone(), resource, policy_ids));
                }
                Ok(Ruling { policy_ids, .. }) => denying.extend(policy_ids.iter().cloned()),
                // What is remembered as permitted is still answered.
                Err(over) => slowed = Some(over),
            }
        }
        match (permitted.is_empty(), slowed) {
            (false, _) => {
                if let Some(attempt) = attempt {
                    attempt.excuse();
                }
                Ok(permitted)
            }
            (true, Some(over)) => Err(over.into()),
            (true, None) => {
                denying.sort_unstable();
                denying.dedup();
                Err(Refused::Denied(denying.into()))
            }
        }
    }

    /// Those of `actions` that `caller` may do to `resource`: of calls to the Web API, whether there is any that it
    /// may make.
    ///
    /// # Errors
    /// `Denied` if there is none; as [`Self::authorize`].
    pub fn rights<R: Clone + Into<Resource>>(
        &self,
        caller: &Caller,
        resource: R,
        actions: &[ActionName],
    ) -> Result<Rights<R>, Refused> {
        let mut held = self.rights_any(caller, [resource], actions)?;
        held.pop().ok_or_else(|| Refused::Denied(no_policy()))
    }

    /// The same for each of several resources: those to which `caller` may do anything at all.
    ///
    /// # Errors
    /// `Denied` if there is none; as [`Self::authorize`].
    pub fn rights_any<R: Clone + Into<Resource>>(
        &self,
        caller: &Caller,
        resources: impl IntoIterator<Item = R>,
        actions: &[ActionName],
    ) -> Result<Vec<Rights<R>>, Refused> {
        let permitted_on = self.rights_among(caller, resources, actions)?;
        self.unless_empty(caller, permitted_on)
    }

    /// The same where none is no refusal: what is permitted is told beside something else.
    ///
    /// # Errors
    /// As [`Self::authorize`], but never `Denied`.
    pub fn rights_among<R: Clone + Into<Resource>>(
        &self,
        caller: &Caller,
        resources: impl IntoIterator<Item = R>,
        actions: &[ActionName],
    ) -> Result<Vec<Rights<R>>, Refused> {
        self.check_still_proven(caller)?;
        // Whether it is refused, the caller of this function tells.
        self.quotas.attempt(Source::Caller(caller))?.excuse();
        let mut permitted_on = Vec::new();
        for resource in resources {
            let name = resource.clone().into();
            let held = |action: &ActionName| {
                let ruling = match &self.rules {
                    Rules::PermitAll => permitted(),
                    Rules::Policies(policies) => {
                        policies.may_for_some_context(caller, *action, &name)
                    }
                };
                ruling.allowed.then_some((*action, ruling.policy_ids))
            };
            let held: Vec<_> = actions.iter().filter_map(held).collect();
            if !held.is_empty() {
                permitted_on.push(Rights::new(resource, held));
            }
        }
        Ok(permitted_on)
    }

    /// The same for one resource, for a caller who may know that it has none.
    ///
    /// # Errors
    /// As [`Self::authorize`], but never `Denied`.
    pub fn rights_if_any<R: Clone + Into<Resource>>(
        &self,
        caller: &Caller,
        resource: R,
        actions: &[ActionName],
    ) -> Result<Rights<R>, Refused> {
        let held = self.rights_among(caller, [resource.clone()], actions)?.pop();
        Ok(held.unwrap_or_else(|| Rights::new(resource, Vec::new())))
    }

    /// Refuses a caller of whom nothing was `found` to be permitted.
    ///
    /// # Errors
    /// `Denied` if it is empty.
    pub fn unless_empty<T>(&self, caller: &Caller, found: Vec<T>) -> Result<Vec<T>, Refused> {
        if found.is_empty() {
            drop(self.quotas.attempt(Source::Caller(caller)));
            return Err(Refused::Denied(no_policy()));
        }
        Ok(found)
    }

    /// Waits until the credential of a caller holds no longer. For streams, which end with it also while they are idle.
    pub async fn credential_ends(&self, caller: &Caller) -> Refused {
        loop {
            if let Err(refused) = self.check_still_proven(caller) {
                return refused;
            }
            let until = caller.identity().valid_until.unwrap_or(Timestamp::MAX);
            let left = until.duration_since(self.clock.now()).unsigned_abs();
            self.clock.sleep(left.clamp(SHORTEST_WAIT, LOOK_AT_CREDENTIAL)).await;
        }
    }

    fn check_still_proven(&self, caller: &Caller) -> Result<(), Refused> {
        match &self.callers {
            Callers::Everybody(_) => Ok(()),
            Callers::Proven(proven) => proven.check_still_holds(caller, self.clock.now()),
        }
    }

    fn rule<'a>(
        &'a self,
        caller: &Caller,
        action: ActionName,
        resource: &Resource,
        attempt: &mut Option<Attempt<'a>>,
    ) -> Result<Ruling, OverQuota> {
        let Rules::Policies(policies) = &self.rules else { return Ok(permitted()) };
        match policies.remembered(caller, action, resource) {
            // No guess, so nothing to slow down.
            Some(ruling) if ruling.allowed => Ok(ruling),
            _ => {
                if attempt.is_none() {
                    *attempt = Some(self.quotas.attempt(Source::Caller(caller))?);
                }
                Ok(policies.decide(caller, action, resource))
            }
        }
    }
}

fn permitted() -> Ruling {
    Ruling { allowed: true, policy_ids: no_policy() }
}

fn no_policy() -> PolicyIds {
    static NONE: LazyLock<PolicyIds> = LazyLock::new(|| Arc::new([]));
    Arc::clone(&NONE)
}
