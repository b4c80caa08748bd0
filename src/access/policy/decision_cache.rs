//! The current policies and the cache of decisions made under them.

use std::hash::{Hash, Hasher};

use arc_swap::ArcSwap;
use quick_cache::{
    Equivalent, UnitWeighter, Weighter,
    sync::{Cache, DefaultLifecycle},
};

use super::{
    PolicyDecision, PolicySet, WebApiCall,
    evaluate::{CallDecision, denied_by_error},
};
use crate::{
    access::{ActionName, Caller, Resource},
    domain::TenantName,
};

/// Maximum number of cached decisions; the least used are evicted.
pub const MAX_DECISIONS: usize = 64 * 1024;

/// Maximum memory for cached results of call actions: about 6,000 that are evaluated for each call, with the usual
/// number of matching policies, or 64,000 that are the same for all calls. Entries are weighed, because hundreds of
/// policies with long texts may match. An entry that exceeds its share of the memory is prepared anew for each call.
const MAX_CALL_DECISION_BYTES: u64 = 64 * 1024 * 1024;

/// Memory of an entry without its policies.
const ENTRY_BYTES: usize = 1024;

/// Initial capacity of a cache.
const INITIAL_CAPACITY: usize = 1024;

/// The current policies. They can be replaced at any time, which also drops all decisions made under the old ones.
#[derive(Debug)]
pub struct Policies {
    current: ArcSwap<PolicyVersion>,
}

/// A policy set and its own caches, so that a decision is cached with the set that made it.
struct PolicyVersion {
    set: PolicySet,
    decisions: DecisionCache<PolicyDecision>,
    /// The actions permitted in some context. Kept apart from `decisions`, where such an entry would permit every call.
    in_some_context: DecisionCache<PolicyDecision>,
    /// The results for call actions. They are not decisions, because the call is still needed.
    call_decisions: DecisionCache<CallDecision, ByBytes>,
    on_some_grant: DecisionCache<bool>,
}

type DecisionCache<V, W = UnitWeighter> = Cache<CacheKey, V, W, std::hash::RandomState>;

#[derive(Clone)]
struct ByBytes;

/// The key of a cached decision: everything that it depends on.
#[derive(Clone)]
struct CacheKey {
    caller: Caller,
    action: ActionName,
    resource: Resource,
}

/// The same key, borrowed.
#[derive(Clone, Copy)]
struct CacheKeyRef<'a> {
    caller: &'a Caller,
    action: ActionName,
    resource: &'a Resource,
}

impl Policies {
    /// Creates the policies with this set.
    #[must_use]
    pub fn new(set: PolicySet) -> Self {
        Self { current: ArcSwap::from_pointee(PolicyVersion::new(set)) }
    }

    /// Replaces the set, from the next decision on.
    pub fn replace(&self, set: PolicySet) {
        self.current.store(PolicyVersion::new(set).into());
    }

    /// Decides whether `caller` may do `action` to `resource`, and caches the decision. Denies if a policy cannot be
    /// evaluated or the action does not apply to this kind of resource. Denies actions with a context, which need
    /// [`Self::decide_with_context`].
    #[must_use]
    pub fn decide(
        &self,
        caller: &Caller,
        action: ActionName,
        resource: &Resource,
    ) -> PolicyDecision {
        let version = self.current.load();
        let decide = || version.set.decide(caller, action, resource, None);
        if action.has_context() {
            return decide();
        }
        let question = CacheKeyRef { caller, action, resource };
        get_or_insert(&version.decisions, question, decide)
    }

    /// Returns the decision if it is cached.
    #[must_use]
    pub fn cached(
        &self,
        caller: &Caller,
        action: ActionName,
        resource: &Resource,
    ) -> Option<PolicyDecision> {
        self.current.load().decisions.get(&CacheKeyRef { caller, action, resource })
    }

    /// Decides on an action with a context. Caches the decision only if no policy that can match reads the context,
    /// because there are as many contexts as paths. Otherwise caches everything that does not depend on the context.
    #[must_use]
    pub fn decide_with_context(
        &self,
        caller: &Caller,
        action: ActionName,
        resource: &Resource,
        method: &str,
        path: &str,
    ) -> PolicyDecision {
        if !action.has_context() || !action.resource_kinds().contains(&resource.kind()) {
            return self.decide(caller, action, resource);
        }
        let (version, call) = (self.current.load(), WebApiCall { method, path });
        let question = CacheKeyRef { caller, action, resource };
        if let Some(call_decision) = version.call_decisions.get(&question) {
            return version.set.decide_call(&call_decision, call);
        }
        let call_decision = match version.set.prepare_call_decision(caller, action, resource) {
            Ok(call_decision) => call_decision,
            Err(error) => return denied_by_error(caller.id(), action.as_str(), &error),
        };
        version.call_decisions.insert(question.owned(), call_decision.clone());
        version.set.decide_call(&call_decision, call)
    }

    /// Returns whether any policy could permit `action` to `caller` on some grant of the tenant. May return `true`
    /// although every decision is a denial, never the reverse. Cached until the policies change.
    #[must_use]
    pub fn may_on_some_grant(
        &self,
        caller: &Caller,
        action: ActionName,
        tenant: &TenantName,
    ) -> bool {
        let version = self.current.load();
        let resource = &Resource::Tenant(tenant.clone());
        let question = CacheKeyRef { caller, action, resource };
        get_or_insert(&version.on_some_grant, question, || {
            version.set.may_on_some_grant(caller, action, tenant)
        })
    }

    /// Returns whether `caller` may do the action in some context, or on some person's grant for
    /// [`any_grant`](crate::access::GrantResource::any_grant). Otherwise returns [`Self::decide`].
    ///
    /// This is information for the caller and not a decision. Policies are evaluated without a context. The result is a
    /// permission if a policy permits without the context, or if a `permit` reads the context and no `forbid` matches
    /// without it. A call may still be denied: by its path, or by a later part of a `when`. (A policy with `context has
    /// path`, which is always true, is not found here.) Cached until the policies change.
    #[must_use]
    pub fn may_for_some_context(
        &self,
        caller: &Caller,
        action: ActionName,
        resource: &Resource,
    ) -> PolicyDecision {
        if !action.has_open_attributes(resource) {
            return self.decide(caller, action, resource);
        }
        let version = self.current.load();
        let question = CacheKeyRef { caller, action, resource };
        get_or_insert(&version.in_some_context, question, || {
            version.set.may_for_some_context(caller, action, resource)
        })
    }
}

impl PolicyVersion {
    fn new(set: PolicySet) -> Self {
        Self {
            set,
            decisions: cache(MAX_DECISIONS as u64, UnitWeighter),
            in_some_context: cache(MAX_DECISIONS as u64, UnitWeighter),
            call_decisions: cache(MAX_CALL_DECISION_BYTES, ByBytes),
            on_some_grant: cache(MAX_DECISIONS as u64, UnitWeighter),
        }
    }
}

fn cache<V: Clone, W: Weighter<CacheKey, V> + Clone>(
    max_weight: u64,
    weighter: W,
) -> DecisionCache<V, W> {
    let (hasher, lifecycle) = (std::hash::RandomState::new(), DefaultLifecycle::default());
    Cache::with(INITIAL_CAPACITY, max_weight, weighter, hasher, lifecycle)
}

/// Returns the cached value, or computes and caches it.
fn get_or_insert<V: Clone>(
    cache: &DecisionCache<V>,
    question: CacheKeyRef<'_>,
    compute: impl FnOnce() -> V,
) -> V {
    cache.get(&question).unwrap_or_else(|| {
        let value = compute();
        cache.insert(question.owned(), value.clone());
        value
    })
}

impl Weighter<CacheKey, CallDecision> for ByBytes {
    fn weight(&self, _: &CacheKey, call_decision: &CallDecision) -> u64 {
        let prepared = match call_decision {
            CallDecision::SameForAllCalls(_) => 0,
            CallDecision::PerCall(prepared) => prepared.bytes(),
        };
        (ENTRY_BYTES + prepared) as u64
    }
}

impl std::fmt::Debug for PolicyVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.set.fmt(f)
    }
}

impl CacheKeyRef<'_> {
    fn owned(self) -> CacheKey {
        let (caller, resource) = (self.caller.clone(), self.resource.clone());
        CacheKey { caller, action: self.action, resource }
    }
}

impl CacheKey {
    fn question(&self) -> CacheKeyRef<'_> {
        CacheKeyRef { caller: &self.caller, action: self.action, resource: &self.resource }
    }
}

impl PartialEq for CacheKeyRef<'_> {
    fn eq(&self, other: &Self) -> bool {
        let (caller, others) = (self.caller, other.caller);
        self.action == other.action
            && self.resource == other.resource
            && caller.id() == others.id()
            && caller.method() == others.method()
            && caller.issuer() == others.issuer()
    }
}

impl Hash for CacheKeyRef<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // A hash of everything that `eq` compares of the caller.
        self.caller.identity_hash().hash(state);
        self.action.hash(state);
        self.resource.hash(state);
    }
}

impl PartialEq for CacheKey {
    fn eq(&self, other: &Self) -> bool {
        self.question() == other.question()
    }
}

impl Eq for CacheKey {}

impl Hash for CacheKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.question().hash(state);
    }
}

impl Equivalent<CacheKey> for CacheKeyRef<'_> {
    fn equivalent(&self, key: &CacheKey) -> bool {
        *self == key.question()
    }
}
