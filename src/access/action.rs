//! The actions of the policy and the resources that each applies to.

use std::sync::Arc;

use super::{Gateway, GrantResource, Resource, ResourceKind};
use crate::domain::{ApplicationId, AuditedActor, TenantName};

macro_rules! action_names {
    ($($(#[$doc:meta])* $variant:ident = $name:literal),+ $(,)?) => {
        /// The name of an action of the policy.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ActionName { $($(#[$doc])* $variant),+ }

        impl ActionName {
            /// All actions.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Returns the name in policies and in the audit trail.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }

            /// Returns the action with this name.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|action| action.as_str() == name)
            }
        }
    };
}

action_names! {
    /// Receive the tenant's system user ticket.
    IssueSystemTicket = "issueSystemTicket",
    /// Receive the application's client secret with the ticket.
    RevealApplicationToken = "revealApplicationToken",
    /// Read the tenant's users.
    ReadAssociates = "readAssociates",
    /// Read tenants and their status.
    ReadTenants = "readTenants",
    /// Create, disable, change and delete tenants.
    ManageTenants = "manageTenants",
    /// Read grants.
    ReadGrants = "readGrants",
    /// Start a consent, import a grant, revoke a grant.
    ManageGrants = "manageGrants",
    /// Receive a person's access token.
    IssueAccessToken = "issueAccessToken",
    /// The group of the two call actions below. It is never decided on itself.
    CallWebApi = "callWebApi",
    /// Send Web API calls as the system user.
    CallWebApiAsSystemUser = "callWebApiAsSystemUser",
    /// Send Web API calls as a person.
    CallWebApiAsUser = "callWebApiAsUser",
    /// Read the audit trail.
    ReadAudit = "readAudit",
    /// Ask for decisions on calls of other callers, as a proxy does.
    CheckExternally = "checkExternally",
}

impl ActionName {
    /// Returns the kinds of resource that the action applies to. On other kinds it is always denied.
    #[must_use]
    pub const fn resource_kinds(self) -> &'static [ResourceKind] {
        use ResourceKind::{Application, Gateway, Grant, Tenant};
        match self {
            Self::IssueSystemTicket
            | Self::RevealApplicationToken
            | Self::ReadAssociates
            | Self::CallWebApiAsSystemUser => &[Tenant],
            Self::ReadTenants => &[Gateway, Application, Tenant],
            Self::ManageTenants | Self::ReadGrants | Self::ManageGrants => &[Application, Tenant],
            Self::IssueAccessToken | Self::CallWebApiAsUser => &[Grant],
            Self::CallWebApi => &[],
            Self::ReadAudit => &[Gateway, Application],
            Self::CheckExternally => &[Gateway],
        }
    }

    /// Returns whether policies also see the method and path of the call. If a policy reads them, decisions are not
    /// cached.
    #[must_use]
    pub const fn has_context(self) -> bool {
        matches!(self, Self::CallWebApiAsSystemUser | Self::CallWebApiAsUser)
    }

    /// Returns whether attributes that policies may read are not known: the path of a call, or the person of a grant.
    pub(super) fn has_open_attributes(self, resource: &Resource) -> bool {
        self.has_context() || matches!(resource, Resource::Grant(grant) if grant.is_any_grant())
    }

    /// Returns the user that the action acts as, for audit events. `resource` is `None` if it has no exact name, such
    /// as a tenant under the wildcard application.
    #[must_use]
    pub fn actor(self, resource: Option<&Resource>) -> Option<AuditedActor> {
        match (self, resource) {
            (
                Self::IssueSystemTicket
                | Self::RevealApplicationToken
                | Self::ReadAssociates
                | Self::CallWebApiAsSystemUser,
                _,
            ) => Some(AuditedActor::SystemUser),
            (Self::IssueAccessToken | Self::CallWebApiAsUser, Some(Resource::Grant(grant))) => {
                Some(AuditedActor::Grant(Arc::clone(&grant.grant)))
            }
            _ => None,
        }
    }

    /// Returns the group that the action belongs to.
    #[must_use]
    pub const fn group(self) -> Option<Self> {
        if self.has_context() { Some(Self::CallWebApi) } else { None }
    }
}

/// An action that policy permits or denies.
pub trait Action {
    /// The name of the action.
    const NAME: ActionName;
}

/// States that the action applies to resources of type `R`.
pub trait On<R>: Action {}

macro_rules! actions {
    ($($(#[$doc:meta])* $action:ident on $($resource:ty),+;)+) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, Copy, PartialEq, Eq)]
            pub struct $action;
            impl Action for $action { const NAME: ActionName = ActionName::$action; }
            $(impl On<$resource> for $action {})+
        )+

        /// The actions and resource types above, to compare them with the schema.
        #[cfg(test)]
        pub(super) const TYPED: &[(ActionName, &[&str])] =
            &[$((ActionName::$action, &[$(stringify!($resource)),+])),+];
    };
}

actions! {
    /// Receive the tenant's system user ticket.
    IssueSystemTicket on TenantName;
    /// Receive the application's client secret with the ticket.
    RevealApplicationToken on TenantName;
    /// Read the tenant's users.
    ReadAssociates on TenantName;
    /// Read tenants and their status.
    ReadTenants on Gateway, ApplicationId, TenantName;
    /// Create, disable, change and delete tenants.
    ManageTenants on ApplicationId, TenantName;
    /// Read grants.
    ReadGrants on ApplicationId, TenantName;
    /// Start a consent, import a grant, revoke a grant.
    ManageGrants on ApplicationId, TenantName;
    /// Receive a person's access token.
    IssueAccessToken on GrantResource;
    /// Send Web API calls as the system user.
    CallWebApiAsSystemUser on TenantName;
    /// Send Web API calls as a person.
    CallWebApiAsUser on GrantResource;
    /// Read the audit trail.
    ReadAudit on Gateway, ApplicationId;
    /// Ask for decisions on calls of other callers, as a proxy does.
    CheckExternally on Gateway;
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::domain::AuditText;

    /// Reads the rows of the table in POLICY.md: the action's name and the cell under "on".
    fn documented() -> BTreeMap<&'static str, Vec<&'static str>> {
        let page = include_str!("../../docs/guides/policy.md");
        let after = page.split_once("| action | on |").expect("a table of actions").1;
        let rows = after.lines().skip(2).take_while(|line| line.starts_with('|'));
        let cells = rows.map(|row| row.split('|').map(str::trim).collect::<Vec<_>>());
        let read = |cells: Vec<&'static str>| {
            let on = cells[2].split(", ").filter(|kind| !kind.is_empty()).collect();
            (cells[1].trim_matches('`'), on)
        };
        cells.map(read).collect()
    }

    #[test]
    fn the_actor_comes_from_the_typed_resource() {
        let grant: Resource = "applications/crm-grants/tenants/Cust1/grants/g1".parse().unwrap();
        let tenant: Resource = "applications/crm-grants/tenants/Cust1".parse().unwrap();
        for (action, resource, wanted) in [
            (ActionName::CallWebApiAsUser, Some(&grant), "grants/g1"),
            (ActionName::IssueAccessToken, Some(&grant), "grants/g1"),
            (ActionName::IssueAccessToken, Some(&tenant), ""),
            (ActionName::IssueAccessToken, None, ""),
            (ActionName::ReadAssociates, Some(&tenant), "system"),
            (ActionName::IssueSystemTicket, None, "system"),
            (ActionName::ManageGrants, Some(&grant), ""),
        ] {
            let actor = action.actor(resource).map(AuditText::from).unwrap_or_default();
            assert_eq!(&*actor, wanted, "{action:?} on {resource:?}");
        }
    }

    #[test]
    fn the_table_in_policy_md_lists_every_action_with_its_resources() {
        let kinds = |action: &ActionName| {
            action.resource_kinds().iter().map(|kind| kind.as_str()).collect()
        };
        let all = ActionName::ALL.iter().map(|action| (action.as_str(), kinds(action)));
        assert_eq!(documented(), all.collect::<BTreeMap<_, Vec<_>>>());
    }
}
