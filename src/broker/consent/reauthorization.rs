//! The second policy decision for a consent, when the tenant is known: the person may have chosen it, and the policy
//! may have changed since the consent began.

use std::sync::Arc;

use crate::{
    access::{ActionName, Authorized, ManageGrants, ManageTenants, PolicyIds},
    domain::{Consent, TenantName},
};

/// Authorizes the caller that began the consent again, for the tenant that the person gave.
pub type Reauthorize =
    Box<dyn Fn(&Consent, &TenantName) -> Result<StillPermitted, PermissionLost> + Send + Sync>;

/// The permission to store what the person gave.
pub struct StillPermitted {
    /// The permission to store the grant.
    pub grants: Authorized<ManageGrants, TenantName>,
    /// The permission to enrol the tenant and its system user, if the consent asks for that.
    pub tenants: Option<Authorized<ManageTenants, TenantName>>,
}

/// The denied permission of the caller that began the consent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PermissionLost {
    /// The denied action.
    pub action: ActionName,
    /// The name of the application or tenant.
    pub resource: Arc<str>,
    /// The policies that forbid the action; empty if no policy permits it.
    pub policy_ids: PolicyIds,
}
