//! One policy, and the questions that it can match.
//!
//! Evaluating a policy costs about a microsecond, so a question is put only to those whose scope can match it. The
//! scope is the head of a policy: `principal`, `action` and `resource`. What is said here about matching may be too
//! wide, never too narrow; a property test compares it with Cedar's own evaluation of all policies.

use std::{ops::Range, sync::Arc};

use cedar_policy::{
    ActionConstraint, Effect, Entity, EntityTypeName, EntityUid, Policy, PrincipalConstraint,
    ResourceConstraint,
};

use super::{super::ActionName, words::Words};

/// One policy of the file.
pub(super) struct Rule {
    /// Its `@id`, or Cedar's `policyN`.
    pub(super) id: Arc<str>,
    /// Where it begins, from 1.
    pub(super) line: usize,
    /// Its text, in bytes of the file.
    pub(super) span: Range<usize>,
    pub(super) policy: Policy,
    /// Entities that its conditions name, with what they belong to.
    pub(super) named: Vec<Entity>,
    /// Whether it can say something else in another context. It is taken to do so where its text has the word at all,
    /// also in a comment: Cedar has no other way to write it.
    pub(super) reads_context: bool,
    principal: Option<EntityUid>,
    /// A bit for each action.
    actions: u32,
    resource: ResourceScope,
}

struct ResourceScope {
    kind: Option<EntityTypeName>,
    within: Option<EntityUid>,
}

impl Rule {
    pub(super) fn new(
        policy: Policy,
        line: usize,
        span: Range<usize>,
        named: Vec<Entity>,
        words: &Words,
    ) -> Self {
        let id = AsRef::<str>::as_ref(policy.id()).into();
        let principal = match policy.principal_constraint() {
            PrincipalConstraint::Any | PrincipalConstraint::Is(_) => None,
            PrincipalConstraint::In(uid)
            | PrincipalConstraint::Eq(uid)
            | PrincipalConstraint::IsIn(_, uid) => Some(uid),
        };
        let resource = match policy.resource_constraint() {
            ResourceConstraint::Any => ResourceScope { kind: None, within: None },
            ResourceConstraint::Is(kind) => ResourceScope { kind: Some(kind), within: None },
            ResourceConstraint::In(uid) | ResourceConstraint::Eq(uid) => {
                ResourceScope { kind: None, within: Some(uid) }
            }
            ResourceConstraint::IsIn(kind, uid) => {
                ResourceScope { kind: Some(kind), within: Some(uid) }
            }
        };
        let actions = actions(&policy.action_constraint(), words);
        let reads_context = policy.to_string().contains("context");
        Self { id, line, span, policy, named, reads_context, principal, actions, resource }
    }

    /// The caller or group that it is about; `None` if any caller may match.
    pub(super) fn principal(&self) -> Option<&EntityUid> {
        self.principal.as_ref()
    }

    pub(super) fn permits(&self) -> bool {
        self.policy.effect() == Effect::Permit
    }

    pub(super) fn matches_action(&self, action: ActionName) -> bool {
        self.actions & bit(action) != 0
    }

    /// `lineage` is the resource and everything that it belongs to.
    pub(super) fn matches_resource(&self, kind: &EntityTypeName, lineage: &[EntityUid]) -> bool {
        self.resource.kind.as_ref().is_none_or(|wanted| wanted == kind)
            && self.resource.within.as_ref().is_none_or(|uid| lineage.contains(uid))
    }

    /// Whether it can match something of this kind below a resource. `lineage` is that resource and everything that it
    /// belongs to.
    pub(super) fn matches_below(&self, kind: &EntityTypeName, lineage: &[EntityUid]) -> bool {
        let in_reach = |uid: &EntityUid| uid.type_name() == kind || lineage.contains(uid);
        self.resource.kind.as_ref().is_none_or(|wanted| wanted == kind)
            && self.resource.within.as_ref().is_none_or(in_reach)
    }

    /// `lineage` is the caller and its groups.
    pub(super) fn matches_principal(&self, lineage: &[EntityUid]) -> bool {
        self.principal.as_ref().is_none_or(|uid| lineage.contains(uid))
    }
}

fn bit(action: ActionName) -> u32 {
    1 << (action as u32)
}

fn actions(constraint: &ActionConstraint, words: &Words) -> u32 {
    let matches = |action: ActionName, wanted: &EntityUid, reflexive_only: bool| {
        let group = action.group().filter(|_| !reflexive_only);
        words.action(action) == Some(wanted)
            || group.and_then(|group| words.action(group)) == Some(wanted)
    };
    let all = words.actions().map(|(action, _)| action);
    match constraint {
        ActionConstraint::Any => u32::MAX,
        ActionConstraint::Eq(wanted) => {
            all.filter(|a| matches(*a, wanted, true)).map(bit).fold(0, |x, y| x | y)
        }
        ActionConstraint::In(several) => all
            .filter(|a| several.iter().any(|wanted| matches(*a, wanted, false)))
            .map(bit)
            .fold(0, |x, y| x | y),
    }
}
