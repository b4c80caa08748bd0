//! A policy and the requests that its scope can match.
//!
//! Evaluating a policy costs about 1 µs, so only policies whose scope can match a request are evaluated. The scope is
//! the head of a policy: `principal`, `action` and `resource`. The match here may be too wide, never too narrow; a
//! property test compares it with Cedar's own evaluation of all policies.

use std::{ops::Range, sync::Arc};

use cedar_policy::{
    ActionConstraint, Effect, Entity, EntityTypeName, EntityUid, Policy, PrincipalConstraint,
    ResourceConstraint,
};

use super::{super::ActionName, schema_names::SchemaNames};

/// One policy of the file.
pub(super) struct Rule {
    /// The policy's `@id`, or Cedar's `policyN`.
    pub(super) id: Arc<str>,
    /// The policy's first line, from 1.
    pub(super) line: usize,
    /// The byte range of the policy in the file.
    pub(super) span: Range<usize>,
    pub(super) policy: Policy,
    /// The entities that its conditions name, with their ancestors.
    pub(super) condition_entities: Vec<Entity>,
    /// Whether the result can depend on the context. This is assumed if the text has the word `context`, even in a
    /// comment, because a policy cannot read the context without that word.
    pub(super) reads_context: bool,
    principal: Option<EntityUid>,
    /// The actions that it matches, one bit for each.
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
        schema_names: &SchemaNames,
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
        let actions = actions(&policy.action_constraint(), schema_names);
        let reads_context = policy.to_string().contains("context");
        Self {
            id,
            line,
            span,
            policy,
            condition_entities: named,
            reads_context,
            principal,
            actions,
            resource,
        }
    }

    /// Returns the caller or group in its scope; `None` if any caller can match.
    pub(super) fn principal(&self) -> Option<&EntityUid> {
        self.principal.as_ref()
    }

    pub(super) fn permits(&self) -> bool {
        self.policy.effect() == Effect::Permit
    }

    pub(super) fn matches_action(&self, action: ActionName) -> bool {
        self.actions & bit(action) != 0
    }

    /// Returns whether the scope matches the resource. `ancestors` holds the resource and its ancestors.
    pub(super) fn matches_resource(&self, kind: &EntityTypeName, ancestors: &[EntityUid]) -> bool {
        self.resource.kind.as_ref().is_none_or(|wanted| wanted == kind)
            && self.resource.within.as_ref().is_none_or(|uid| ancestors.contains(uid))
    }

    /// Returns whether the scope can match an entity of this kind below a resource. `ancestors` is that resource and its
    /// ancestors.
    pub(super) fn matches_below(&self, kind: &EntityTypeName, ancestors: &[EntityUid]) -> bool {
        let in_reach = |uid: &EntityUid| uid.type_name() == kind || ancestors.contains(uid);
        self.resource.kind.as_ref().is_none_or(|wanted| wanted == kind)
            && self.resource.within.as_ref().is_none_or(in_reach)
    }

    /// Returns whether the scope matches the caller. `ancestors` holds the caller and its groups.
    pub(super) fn matches_principal(&self, ancestors: &[EntityUid]) -> bool {
        self.principal.as_ref().is_none_or(|uid| ancestors.contains(uid))
    }
}

fn bit(action: ActionName) -> u32 {
    1 << (action as u32)
}

fn actions(constraint: &ActionConstraint, schema_names: &SchemaNames) -> u32 {
    let matches = |action: ActionName, wanted: &EntityUid, reflexive_only: bool| {
        let group = action.group().filter(|_| !reflexive_only);
        schema_names.action(action) == Some(wanted)
            || group.and_then(|group| schema_names.action(group)) == Some(wanted)
    };
    let all = schema_names.actions().map(|(action, _)| action);
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
