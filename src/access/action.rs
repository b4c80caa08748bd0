//! The actions of the policy (CONTRACT section 5) and what each is done to.

use std::fmt;

use crate::domain::{ApplicationId, TenantName};

/// The gateway as a whole: the resource above all applications.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gateway;

/// What policy decides on. Its text is the resource name, and the id of its entity in policies; the gateway's is
/// `gateway`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Resource {
    /// The one gateway.
    Gateway,
    /// `applications/{application}`.
    Application(ApplicationId),
    /// `applications/{application}/tenants/{tenant}`.
    Tenant(TenantName),
}

impl Resource {
    /// The tenant that it is or belongs to.
    #[must_use]
    pub fn tenant(&self) -> Option<&TenantName> {
        match self {
            Self::Tenant(name) => Some(name),
            Self::Gateway | Self::Application(_) => None,
        }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gateway => f.write_str("gateway"),
            Self::Application(id) => write!(f, "applications/{id}"),
            Self::Tenant(name) => name.fmt(f),
        }
    }
}

impl From<Gateway> for Resource {
    fn from(_: Gateway) -> Self {
        Self::Gateway
    }
}

impl From<ApplicationId> for Resource {
    fn from(id: ApplicationId) -> Self {
        Self::Application(id)
    }
}

impl From<TenantName> for Resource {
    fn from(name: TenantName) -> Self {
        Self::Tenant(name)
    }
}

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
    };
}

actions! {
    /// Be given the tenant's system user ticket.
    IssueSystemTicket on TenantName;
    /// Be given the client secret with it.
    RevealApplicationToken on TenantName;
    /// See tenants and their status.
    ReadTenants on Gateway, ApplicationId, TenantName;
    /// Add, stop, change and remove tenants.
    ManageTenants on ApplicationId, TenantName;
}
