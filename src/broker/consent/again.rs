//! What began a consent is decided once more when it is known which tenant a person gave: they may have chosen it, and
//! policy may have changed since.

use std::sync::Arc;

use crate::{
    access::{ActionName, Authorized, ManageGrants, ManageTenants, PolicyIds},
    domain::{Consent, TenantName},
};

/// Asks policy for the caller that began, on the tenant that a person gave.
pub type AskAgain =
    Box<dyn Fn(&Consent, &TenantName) -> Result<StillPermitted, NoLonger> + Send + Sync>;

/// What is given may be stored there.
pub struct StillPermitted {
    /// The grant.
    pub grants: Authorized<ManageGrants, TenantName>,
    /// The tenant and its system user, where the consent enrols them.
    pub tenants: Option<Authorized<ManageTenants, TenantName>>,
}

/// It may not: the caller that began is not permitted this.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoLonger {
    /// What.
    pub action: ActionName,
    /// To the application or to the tenant.
    pub resource: Arc<str>,
    /// The policies that forbid it; none if none permits it.
    pub policy_ids: PolicyIds,
}
