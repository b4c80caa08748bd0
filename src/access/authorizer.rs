//! The single place that authenticates and authorizes callers.

mod admission;
mod web_api_call;

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use jiff::Timestamp;

use super::{
    AccessError, ActionName, Authenticator, Authorized, Caller, On, OverQuota, Policies,
    PolicyDecision, PolicyIds, QuotaRules, Resource, Rights,
    quota::{Attempt, Quotas, Source},
};
use crate::{
    domain::{CallerRecord, TenantName, credential_operation},
    ports::Clock,
};

pub use self::admission::AdmissionError;

/// Interval at which the credential of an idle stream is checked: its key or certificate authority may be removed.
const CREDENTIAL_CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// Minimum wait, so that a stopped clock does not cause a busy loop.
const MIN_WAIT: Duration = Duration::from_millis(1);

/// Authenticates callers and authorizes their calls.
pub struct Access {
    callers: Callers,
    rules: Rules,
    quotas: Quotas,
    clock: Arc<dyn Clock>,
}

enum Callers {
    /// Every call has this caller and no credential is checked: loopback without caller identity, and the command line.
    Fixed(Caller),
    Authenticated(Box<Authenticator>),
}

/// The rules that decide on calls.
#[derive(Clone)]
pub enum Rules {
    /// Permits everything: for the command line, whose user can read the store and the keyring anyway, and for loopback
    /// without caller identity if no policy is configured.
    PermitAll,
    /// Evaluates policies. Everything that no policy permits is denied.
    Policies(Arc<Policies>),
}

impl Rules {
    fn decide_with(&self, decide: impl FnOnce(&Policies) -> PolicyDecision) -> PolicyDecision {
        match self {
            Self::PermitAll => permitted(),
            Self::Policies(policies) => decide(policies),
        }
    }
}

impl Access {
    /// Creates the access control for `callers.insecure_anonymous`. The configuration ensures loopback listeners.
    #[must_use]
    pub fn insecure_anonymous(rules: Rules, quotas: QuotaRules, clock: Arc<dyn Clock>) -> Self {
        let callers = Callers::Fixed(Caller::anonymous());
        Self { callers, rules, quotas: Quotas::new(quotas, &clock), clock }
    }

    /// Creates the access control for a person at the command line, who can read the store and the keyring anyway.
    #[must_use]
    pub fn command_line(caller: Caller, clock: Arc<dyn Clock>) -> Self {
        let callers = Callers::Fixed(caller);
        let quotas = Quotas::new(QuotaRules::default(), &clock);
        Self { callers, rules: Rules::PermitAll, quotas, clock }
    }

    /// Creates the access control for authenticated callers and a policy.
    #[must_use]
    pub fn new(
        authenticator: Authenticator,
        policies: Arc<Policies>,
        quotas: QuotaRules,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let callers = Callers::Authenticated(Box::new(authenticator));
        let quotas = Quotas::new(quotas, &clock);
        Self { callers, rules: Rules::Policies(policies), quotas, clock }
    }

    /// Decides whether `caller` may do `A` to `resource`. The decision uses only the name, before any look-up.
    ///
    /// # Errors
    /// Returns an error if no policy permits the action, if a policy forbids it, if too many calls of the caller were
    /// refused before, or if its credential has expired (possible on a stream).
    pub fn authorize<A: On<R>, R: Clone + Into<Resource>>(
        &self,
        caller: &Caller,
        resource: R,
    ) -> Result<Authorized<A, R>, AccessError> {
        self.check_credential(caller)?;
        let mut attempt = None;
        let decision = self.decide(caller, A::NAME, &resource.clone().into(), &mut attempt)?;
        let authorized =
            witness(caller.clone(), resource, decision).map_err(AccessError::Denied)?;
        if let Some(attempt) = attempt {
            attempt.refund();
        }
        Ok(authorized)
    }

    /// Decides for the recorded caller of an operation that one request starts and another finishes. Only policies are
    /// evaluated; the caller's credential may have expired. A denial counts against no quota, because another client
    /// finishes the operation.
    ///
    /// # Errors
    /// Returns the policies that forbid the action, or an empty list if no policy permits it.
    pub fn authorize_recorded_caller<A: On<R>, R: Clone + Into<Resource>>(
        &self,
        record: &CallerRecord,
        resource: R,
    ) -> Result<Authorized<A, R>, PolicyIds> {
        let caller = Caller::from_record(record).ok_or_else(no_policy)?;
        let name: Resource = resource.clone().into();
        let decision = self.rules.decide_with(|policies| policies.decide(&caller, A::NAME, &name));
        witness(caller, resource, decision)
    }

    /// Decides whether `caller` may send this Web API call under the action `A`. `path` is in normal form.
    ///
    /// # Errors
    /// See [`Self::authorize`].
    pub fn authorize_call<A: On<R>, R: Clone + Into<Resource>>(
        &self,
        caller: &Caller,
        resource: R,
        method: &str,
        path: &str,
    ) -> Result<Authorized<A, R>, AccessError> {
        self.check_credential(caller)?;
        let attempt = self.quotas.attempt(Source::Caller(caller))?;
        let decision = match &self.rules {
            // An operation that returns credentials needs a policy that names it.
            Rules::PermitAll if credential_operation(method, path).is_some() => {
                PolicyDecision { allowed: false, policy_ids: no_policy() }
            }
            Rules::PermitAll => permitted(),
            Rules::Policies(policies) => {
                let resource = resource.clone().into();
                policies.decide_with_context(caller, A::NAME, &resource, method, path)
            }
        };
        let authorized =
            witness(caller.clone(), resource, decision).map_err(AccessError::Denied)?;
        attempt.refund();
        Ok(authorized)
    }

    /// Returns whether a policy could permit `action` on some grant of the tenant.
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

    /// Decides for each resource and returns the permitted ones.
    ///
    /// # Errors
    /// Returns an error if none is permitted.
    pub fn authorize_any<A: On<R>, R: Clone + Into<Resource>>(
        &self,
        caller: &Caller,
        resources: impl IntoIterator<Item = R>,
    ) -> Result<Vec<Authorized<A, R>>, AccessError> {
        self.check_credential(caller)?;
        let (mut permitted, mut denying, mut slowed) = (Vec::new(), Vec::new(), None);
        let mut attempt = None;
        for resource in resources {
            match self.decide(caller, A::NAME, &resource.clone().into(), &mut attempt) {
                Ok(PolicyDecision { allowed: true, policy_ids }) => {
                    permitted.push(Authorized::new(caller.clone(), resource, policy_ids));
                }
                Ok(PolicyDecision { policy_ids, .. }) => denying.extend(policy_ids.iter().cloned()),
                // Cached permissions of other resources are still returned.
                Err(over) => slowed = Some(over),
            }
        }
        match (permitted.is_empty(), slowed) {
            (false, _) => {
                if let Some(attempt) = attempt {
                    attempt.refund();
                }
                Ok(permitted)
            }
            (true, Some(over)) => Err(over.into()),
            (true, None) => {
                denying.sort_unstable();
                denying.dedup();
                Err(AccessError::Denied(denying.into()))
            }
        }
    }

    /// Returns those of `actions` that `caller` may do to `resource`. A call action is included if policy permits any
    /// call.
    ///
    /// # Errors
    /// Returns `Denied` if no action is permitted; otherwise see [`Self::authorize`].
    pub fn require_rights_on<R: Clone + Into<Resource>>(
        &self,
        caller: &Caller,
        resource: R,
        actions: &[ActionName],
    ) -> Result<Rights<R>, AccessError> {
        let held = self.rights_on_each(caller, [resource], actions)?;
        self.deny_if_empty(caller, held)?.pop().ok_or_else(|| AccessError::Denied(no_policy()))
    }

    /// Returns, for each resource, those of `actions` that `caller` may do to it. Leaves out resources without any; the
    /// caller of this method decides whether an empty list is a denial (see [`Self::deny_if_empty`]).
    ///
    /// # Errors
    /// See [`Self::authorize`], but never returns `Denied`.
    pub fn rights_on_each<R: Clone + Into<Resource>>(
        &self,
        caller: &Caller,
        resources: impl IntoIterator<Item = R>,
        actions: &[ActionName],
    ) -> Result<Vec<Rights<R>>, AccessError> {
        self.check_credential(caller)?;
        // Only checks that the quota is not used up. The calling function counts a refusal.
        self.quotas.attempt(Source::Caller(caller))?.refund();
        let mut permitted_on = Vec::new();
        for resource in resources {
            let name = resource.clone().into();
            let held = |action: &ActionName| {
                let decision = self
                    .rules
                    .decide_with(|policies| policies.may_for_some_context(caller, *action, &name));
                decision.allowed.then_some((*action, decision.policy_ids))
            };
            let held: Vec<_> = actions.iter().filter_map(held).collect();
            if !held.is_empty() {
                permitted_on.push(Rights::new(resource, held));
            }
        }
        Ok(permitted_on)
    }

    /// Returns those of `actions` that `caller` may do to `resource`, which may be none.
    ///
    /// # Errors
    /// See [`Self::authorize`], but never returns `Denied`.
    pub fn rights_on<R: Clone + Into<Resource>>(
        &self,
        caller: &Caller,
        resource: R,
        actions: &[ActionName],
    ) -> Result<Rights<R>, AccessError> {
        let held = self.rights_on_each(caller, [resource.clone()], actions)?.pop();
        Ok(held.unwrap_or_else(|| Rights::new(resource, Vec::new())))
    }

    /// Denies the call if `found` is empty, and counts the refusal.
    ///
    /// # Errors
    /// Returns `Denied` if `found` is empty.
    pub fn deny_if_empty<T>(&self, caller: &Caller, found: Vec<T>) -> Result<Vec<T>, AccessError> {
        if found.is_empty() {
            self.quotas.count_refusal(caller);
            return Err(AccessError::Denied(no_policy()));
        }
        Ok(found)
    }

    /// Waits until the caller's credential is no longer valid. Streams end then, even if they are idle.
    pub async fn wait_until_credential_expires(&self, caller: &Caller) -> AccessError {
        loop {
            if let Err(refused) = self.check_credential(caller) {
                return refused;
            }
            let until = caller.identity().valid_until.unwrap_or(Timestamp::MAX);
            let left = until.duration_since(self.clock.now()).unsigned_abs();
            self.clock.sleep(left.clamp(MIN_WAIT, CREDENTIAL_CHECK_INTERVAL)).await;
        }
    }

    fn check_credential(&self, caller: &Caller) -> Result<(), AccessError> {
        match &self.callers {
            Callers::Fixed(_) => Ok(()),
            Callers::Authenticated(authenticator) => {
                authenticator.check_still_valid(caller, self.clock.now())
            }
        }
    }

    fn decide<'a>(
        &'a self,
        caller: &Caller,
        action: ActionName,
        resource: &Resource,
        attempt: &mut Option<Attempt<'a>>,
    ) -> Result<PolicyDecision, OverQuota> {
        let Rules::Policies(policies) = &self.rules else { return Ok(permitted()) };
        match policies.cached(caller, action, resource) {
            // A cached permission is not a guess, so it does not count as an attempt.
            Some(decision) if decision.allowed => Ok(decision),
            _ => {
                if attempt.is_none() {
                    *attempt = Some(self.quotas.attempt(Source::Caller(caller))?);
                }
                Ok(policies.decide(caller, action, resource))
            }
        }
    }
}

/// Returns the proof of a permitting decision, or the policies that deny.
fn witness<A, R>(
    caller: Caller,
    resource: R,
    decision: PolicyDecision,
) -> Result<Authorized<A, R>, PolicyIds> {
    if decision.allowed {
        Ok(Authorized::new(caller, resource, decision.policy_ids))
    } else {
        Err(decision.policy_ids)
    }
}

fn permitted() -> PolicyDecision {
    PolicyDecision { allowed: true, policy_ids: no_policy() }
}

fn no_policy() -> PolicyIds {
    static NONE: LazyLock<PolicyIds> = LazyLock::new(|| Arc::new([]));
    Arc::clone(&NONE)
}
