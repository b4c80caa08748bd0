//! The policies in force, and the decisions made under them.

use std::hash::{Hash, Hasher};

use arc_swap::ArcSwap;
use quick_cache::{
    Equivalent, UnitWeighter, Weighter,
    sync::{Cache, DefaultLifecycle},
};

use super::{
    PolicySet, Ruling, WebApiCall,
    ask::{Standing, not_asked},
};
use crate::{
    access::{ActionName, Caller, Resource},
    domain::TenantName,
};

/// Most decisions that are remembered; those asked for least make room.
pub const MAX_DECISIONS: usize = 64 * 1024;

/// Most memory for questions about calls: about 6,000 that have to be asked for each call, with the few policies that
/// usually match, or 64,000 that are settled. They are weighed, because hundreds of policies may match, and their texts
/// may be long; what weighs too much for its part of the memory is prepared anew for each call.
const MAX_STANDING_BYTES: u64 = 64 * 1024 * 1024;

/// Memory of a settled question, and of the names in any.
const SETTLED_BYTES: usize = 1024;

/// Decisions for which there is room from the beginning.
const FIRST_DECISIONS: usize = 1024;

/// The policies in force. They can be replaced at any time; what was decided under the old ones is forgotten then.
#[derive(Debug)]
pub struct Policies {
    current: ArcSwap<Version>,
}

/// A set and its own decisions: one that was made while the set was replaced is remembered where it was made.
struct Version {
    set: PolicySet,
    decisions: Memory<Ruling>,
    /// What may be done in some context, apart from the decisions: as one of them it would permit any call.
    in_some_context: Memory<Ruling>,
    /// What is the same for all calls: not a decision either, it needs the call.
    standing: Memory<Standing, ByBytes>,
    on_some_grant: Memory<bool>,
}

type Memory<V, W = UnitWeighter> = Cache<Decided, V, W, std::hash::RandomState>;

#[derive(Clone)]
struct ByBytes;

/// Everything that a decision depends on.
#[derive(Clone)]
struct Decided {
    caller: Caller,
    action: ActionName,
    resource: Resource,
}

/// The same, borrowed.
#[derive(Clone, Copy)]
struct Question<'a> {
    caller: &'a Caller,
    action: ActionName,
    resource: &'a Resource,
}

impl Policies {
    /// Puts a set in force.
    #[must_use]
    pub fn new(set: PolicySet) -> Self {
        Self { current: ArcSwap::from_pointee(Version::new(set)) }
    }

    /// Puts another set in force, from the next question on.
    pub fn replace(&self, set: PolicySet) {
        self.current.store(Version::new(set).into());
    }

    /// Decides whether `caller` may do `action` to `resource`, and remembers it. A policy that cannot be evaluated
    /// denies, and so does an action on a kind of resource that it is not for. Actions with a context are denied
    /// here: they are for [`Self::decide_with_context`].
    #[must_use]
    pub fn decide(&self, caller: &Caller, action: ActionName, resource: &Resource) -> Ruling {
        let version = self.current.load();
        let question = Question { caller, action, resource };
        if let Some(ruling) = version.decisions.get(&question) {
            return ruling;
        }
        let ruling = version.set.decide(caller, action, resource, None);
        if !action.has_context() {
            version.decisions.insert(question.owned(), ruling.clone());
        }
        ruling
    }

    /// The decision, if it was made before and is still remembered.
    #[must_use]
    pub fn remembered(
        &self,
        caller: &Caller,
        action: ActionName,
        resource: &Resource,
    ) -> Option<Ruling> {
        self.current.load().decisions.get(&Question { caller, action, resource })
    }

    /// Decides an action with a context. The decision is remembered only if no policy that can match reads the
    /// context: there are as many contexts as paths. Otherwise all is remembered that does not depend on it.
    #[must_use]
    pub fn decide_with_context(
        &self,
        caller: &Caller,
        action: ActionName,
        resource: &Resource,
        method: &str,
        path: &str,
    ) -> Ruling {
        if !action.has_context() || !action.resource_kinds().contains(&resource.kind()) {
            return self.decide(caller, action, resource);
        }
        let (version, call) = (self.current.load(), WebApiCall { method, path });
        let question = Question { caller, action, resource };
        if let Some(standing) = version.standing.get(&question) {
            return version.set.decide_call(&standing, call);
        }
        let standing = match version.set.standing(caller, action, resource) {
            Ok(standing) => standing,
            Err(error) => return not_asked(caller.id(), action.as_str(), &error),
        };
        version.standing.insert(question.owned(), standing.clone());
        version.set.decide_call(&standing, call)
    }

    /// Whether any policy could permit `action` to `caller` on some grant of the tenant. It may say yes where no
    /// decision does, never the other way round. Remembered until the policies change.
    #[must_use]
    pub fn may_on_some_grant(
        &self,
        caller: &Caller,
        action: ActionName,
        tenant: &TenantName,
    ) -> bool {
        let version = self.current.load();
        let resource = &Resource::Tenant(tenant.clone());
        let question = Question { caller, action, resource };
        if let Some(may) = version.on_some_grant.get(&question) {
            return may;
        }
        let may = version.set.may_on_some_grant(caller, action, tenant);
        version.on_some_grant.insert(question.owned(), may);
        may
    }

    /// Whether `caller` may do it in some context, and to somebody's grant if it may be anybody's; where neither is open,
    /// what [`Self::decide`] says.
    ///
    /// It tells a caller what to try, and decides nothing. Policies are asked without a context. Held, if that
    /// permits; or if a `permit` asked for the context while no `forbid` matched without it. So a call may still be
    /// denied: by its path, or by a part of a `when` that stands after the one about the context. (A policy that
    /// writes `context has path`, which is always true, is not found here.) Remembered until the policies change.
    #[must_use]
    pub fn may_for_some_context(
        &self,
        caller: &Caller,
        action: ActionName,
        resource: &Resource,
    ) -> Ruling {
        if !resource.leaves_open(action) {
            return self.decide(caller, action, resource);
        }
        let version = self.current.load();
        let question = Question { caller, action, resource };
        if let Some(ruling) = version.in_some_context.get(&question) {
            return ruling;
        }
        let ruling = version.set.may_for_some_context(caller, action, resource);
        version.in_some_context.insert(question.owned(), ruling.clone());
        ruling
    }
}

impl Version {
    fn new(set: PolicySet) -> Self {
        Self {
            set,
            decisions: memory(MAX_DECISIONS as u64, UnitWeighter),
            in_some_context: memory(MAX_DECISIONS as u64, UnitWeighter),
            standing: memory(MAX_STANDING_BYTES, ByBytes),
            on_some_grant: memory(MAX_DECISIONS as u64, UnitWeighter),
        }
    }
}

fn memory<V: Clone, W: Weighter<Decided, V> + Clone>(most: u64, weighter: W) -> Memory<V, W> {
    let (hasher, lifecycle) = (std::hash::RandomState::new(), DefaultLifecycle::default());
    Cache::with(FIRST_DECISIONS, most, weighter, hasher, lifecycle)
}

impl Weighter<Decided, Standing> for ByBytes {
    fn weight(&self, _: &Decided, standing: &Standing) -> u64 {
        let prepared = match standing {
            Standing::Settled(_) => 0,
            Standing::Open(prepared) => prepared.bytes(),
        };
        (SETTLED_BYTES + prepared) as u64
    }
}

impl std::fmt::Debug for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.set.fmt(f)
    }
}

impl Question<'_> {
    fn owned(self) -> Decided {
        let (caller, resource) = (self.caller.clone(), self.resource.clone());
        Decided { caller, action: self.action, resource }
    }
}

impl Decided {
    fn question(&self) -> Question<'_> {
        Question { caller: &self.caller, action: self.action, resource: &self.resource }
    }
}

impl PartialEq for Question<'_> {
    fn eq(&self, other: &Self) -> bool {
        let (caller, others) = (self.caller, other.caller);
        self.action == other.action
            && self.resource == other.resource
            && caller.id() == others.id()
            && caller.method() == others.method()
            && caller.issuer() == others.issuer()
    }
}

impl Hash for Question<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.caller.id().hash(state);
        self.caller.method().hash(state);
        self.caller.issuer().hash(state);
        self.action.hash(state);
        self.resource.hash(state);
    }
}

impl PartialEq for Decided {
    fn eq(&self, other: &Self) -> bool {
        self.question() == other.question()
    }
}

impl Eq for Decided {}

impl Hash for Decided {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.question().hash(state);
    }
}

impl Equivalent<Decided> for Question<'_> {
    fn equivalent(&self, key: &Decided) -> bool {
        *self == key.question()
    }
}
