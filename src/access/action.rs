//! The actions of the policy (CONTRACT section 5) and what each is done to.

use crate::domain::{ApplicationId, TenantName};

/// The gateway as a whole: the resource above all applications.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gateway;

/// Something that policy permits or denies.
pub trait Action {
    /// Its name in policies and in the audit trail.
    const NAME: &'static str;
}

/// Says that an action can be done to a resource of type `R`.
pub trait On<R>: Action {}

macro_rules! actions {
    ($($(#[$doc:meta])* $action:ident = $name:literal on $($resource:ty),+;)+) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, Copy, PartialEq, Eq)]
            pub struct $action;
            impl Action for $action { const NAME: &'static str = $name; }
            $(impl On<$resource> for $action {})+
        )+
    };
}

actions! {
    /// Be given the tenant's system user ticket.
    IssueSystemTicket = "issueSystemTicket" on TenantName;
    /// Be given the client secret with it.
    RevealApplicationToken = "revealApplicationToken" on TenantName;
    /// See tenants and their status.
    ReadTenants = "readTenants" on Gateway, ApplicationId, TenantName;
    /// Add, stop, change and remove tenants.
    ManageTenants = "manageTenants" on ApplicationId, TenantName;
}
