//! Names of the schema, created once: types, actions and constant entities.

use std::{collections::HashSet, str::FromStr as _};

use cedar_policy::{Entity, EntityId, EntityTypeName, EntityUid, Schema};

use super::super::{ActionName, Resource, ResourceKind};

/// The schema of policies (entity types, actions and their context) in Cedar's schema language.
pub const POLICY_SCHEMA: &str = include_str!("schema.cedarschema");

/// The names of types and actions, as Cedar types.
pub(super) struct SchemaNames {
    pub(super) caller: EntityTypeName,
    pub(super) caller_group: EntityTypeName,
    pub(super) tenant_group: EntityTypeName,
    gateway: EntityTypeName,
    application: EntityTypeName,
    tenant: EntityTypeName,
    grant: EntityTypeName,
    /// The actions, indexed by `ActionName as usize`.
    actions: Vec<EntityUid>,
    /// The gateway, the root of all resources.
    pub(super) the_gateway: EntityUid,
}

impl SchemaNames {
    /// # Errors
    /// Never fails with the built-in schema, which a test checks. The text is for people.
    pub(super) fn new() -> Result<Self, String> {
        let name = |text: &str| EntityTypeName::from_str(text).map_err(|error| error.to_string());
        let action = name("Action")?;
        let action = |name: &ActionName| uid(&action, name.as_str());
        let gateway = name(ResourceKind::Gateway.as_str())?;
        Ok(Self {
            caller: name("Caller")?,
            caller_group: name("CallerGroup")?,
            tenant_group: name("TenantGroup")?,
            the_gateway: uid(&gateway, "gateway"),
            gateway,
            application: name(ResourceKind::Application.as_str())?,
            tenant: name(ResourceKind::Tenant.as_str())?,
            grant: name(ResourceKind::Grant.as_str())?,
            actions: ActionName::ALL.iter().map(action).collect(),
        })
    }

    pub(super) fn kind(&self, kind: ResourceKind) -> &EntityTypeName {
        match kind {
            ResourceKind::Gateway => &self.gateway,
            ResourceKind::Application => &self.application,
            ResourceKind::Tenant => &self.tenant,
            ResourceKind::Grant => &self.grant,
        }
    }

    pub(super) fn action(&self, action: ActionName) -> Option<&EntityUid> {
        self.actions.get(action as usize)
    }

    pub(super) fn actions(&self) -> impl Iterator<Item = (ActionName, &EntityUid)> {
        ActionName::ALL.iter().copied().zip(&self.actions)
    }

    /// Returns the action as an entity, if it belongs to a group.
    pub(super) fn grouped_action(&self, action: ActionName) -> Option<Entity> {
        let group = self.action(action.group()?)?.clone();
        Some(Entity::new_no_attrs(self.action(action)?.clone(), HashSet::from([group])))
    }

    pub(super) fn resource(&self, resource: &Resource) -> EntityUid {
        match resource {
            Resource::Gateway => self.the_gateway.clone(),
            other => uid(self.kind(other.kind()), &other.to_string()),
        }
    }
}

pub(super) fn uid(kind: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(id))
}

/// Returns the schema, for validation.
///
/// # Errors
/// Never fails with the built-in schema, which a test checks. The text is for people.
pub(super) fn schema() -> Result<Schema, String> {
    match Schema::from_cedarschema_str(POLICY_SCHEMA) {
        Ok((schema, _)) => Ok(schema),
        Err(error) => Err(error.to_string()),
    }
}
