//! The actions of the policy (CONTRACT section 5) and what each is done to.

use super::{Gateway, GrantResource, ResourceKind};
use crate::domain::{ApplicationId, TenantName};

macro_rules! action_names {
    ($($(#[$doc:meta])* $variant:ident = $name:literal),+ $(,)?) => {
        /// Every action of the policy by name, also those whose part is not built yet.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ActionName { $($(#[$doc])* $variant),+ }

        impl ActionName {
            /// Every action there is.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Its name in policies and in the audit trail.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }

            /// The action of this name.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|action| action.as_str() == name)
            }
        }
    };
}

action_names! {
    /// Be given the tenant's system user ticket.
    IssueSystemTicket = "issueSystemTicket",
    /// Be given the client secret with it.
    RevealApplicationToken = "revealApplicationToken",
    /// See the tenant's users.
    ReadAssociates = "readAssociates",
    /// See tenants and their status.
    ReadTenants = "readTenants",
    /// Add, stop, change and remove tenants.
    ManageTenants = "manageTenants",
    /// See whose consent is stored.
    ReadGrants = "readGrants",
    /// Ask for consent, store it, revoke it.
    ManageGrants = "manageGrants",
    /// Be given a person's access token.
    IssueAccessToken = "issueAccessToken",
    /// The group of both kinds of calls below; never decided on itself.
    CallWebApi = "callWebApi",
    /// Have calls sent on as the system user.
    CallWebApiAsSystemUser = "callWebApiAsSystemUser",
    /// Have calls sent on as a person.
    CallWebApiAsUser = "callWebApiAsUser",
    /// Read the audit trail.
    ReadAudit = "readAudit",
    /// Ask on behalf of others, as a proxy does.
    CheckExternally = "checkExternally",
}

impl ActionName {
    /// The kinds of resource that it can be done to. It is denied on every other, whatever a policy says.
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

    /// Whether policies also see the method and path of a call. Where one of them reads these, the decision is never
    /// remembered.
    #[must_use]
    pub const fn has_context(self) -> bool {
        matches!(self, Self::CallWebApiAsSystemUser | Self::CallWebApiAsUser)
    }

    /// The group of actions that it belongs to.
    #[must_use]
    pub const fn group(self) -> Option<Self> {
        if self.has_context() { Some(Self::CallWebApi) } else { None }
    }
}

/// Something that policy permits or denies.
pub trait Action {
    /// Which one.
    const NAME: ActionName;
}

/// Says that an action can be done to a resource of type `R`.
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

        /// What the types above say, for comparing it with the schema.
        #[cfg(test)]
        pub(super) const TYPED: &[(ActionName, &[&str])] =
            &[$((ActionName::$action, &[$(stringify!($resource)),+])),+];
    };
}

actions! {
    /// Be given the tenant's system user ticket.
    IssueSystemTicket on TenantName;
    /// Be given the client secret with it.
    RevealApplicationToken on TenantName;
    /// See the tenant's users.
    ReadAssociates on TenantName;
    /// See tenants and their status.
    ReadTenants on Gateway, ApplicationId, TenantName;
    /// Add, stop, change and remove tenants.
    ManageTenants on ApplicationId, TenantName;
    /// See whose consent is stored.
    ReadGrants on ApplicationId, TenantName;
    /// Ask for consent, store it, revoke it.
    ManageGrants on ApplicationId, TenantName;
    /// Be given a person's access token.
    IssueAccessToken on GrantResource;
    /// Have calls sent on as the system user.
    CallWebApiAsSystemUser on TenantName;
    /// Have calls sent on as a person.
    CallWebApiAsUser on GrantResource;
    /// Read the audit trail.
    ReadAudit on Gateway, ApplicationId;
    /// Ask on behalf of others, as a proxy does.
    CheckExternally on Gateway;
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Rows that begin with the name of an action: the name, and what stands under "on".
    fn documented() -> BTreeMap<&'static str, Vec<&'static str>> {
        let page = include_str!("../../docs/POLICY.md");
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
    fn the_table_in_policy_md_has_every_action_and_what_it_is_done_to() {
        let kinds = |action: &ActionName| {
            action.resource_kinds().iter().map(|kind| kind.as_str()).collect()
        };
        let all = ActionName::ALL.iter().map(|action| (action.as_str(), kinds(action)));
        assert_eq!(documented(), all.collect::<BTreeMap<_, Vec<_>>>());
    }
}
