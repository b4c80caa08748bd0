//! Checks the policy for the caller of a consent again when a person has approved it.

use std::sync::Arc;

use crate::{
    access::{Access, Authorized, On, Resource},
    broker::{PermissionLost, Reauthorize, StillPermitted},
    domain::{ApplicationId, Consent, TenantName},
};

/// Returns a function that evaluates the policy that is in force when it is called.
pub(super) fn policy_recheck(access: Arc<Access>) -> Reauthorize {
    Box::new(move |consent, tenant| {
        let enrol = consent.enroll_system_user.then(|| decide(&access, consent, tenant));
        Ok(StillPermitted {
            grants: decide(&access, consent, tenant)?,
            tenants: enrol.transpose()?,
        })
    })
}

/// Decides on the tenant that the person chose and, if the consent named no tenant, also on the application.
fn decide<A: On<ApplicationId> + On<TenantName>>(
    access: &Access,
    consent: &Consent,
    tenant: &TenantName,
) -> Result<Authorized<A, TenantName>, PermissionLost> {
    if consent.tenant.is_none() {
        decide_on::<A, _>(access, consent, consent.application.clone())?;
    }
    decide_on(access, consent, tenant.clone())
}

fn decide_on<A: On<R>, R: Clone + Into<Resource>>(
    access: &Access,
    consent: &Consent,
    resource: R,
) -> Result<Authorized<A, R>, PermissionLost> {
    let decided = access.authorize_recorded_caller(&consent.caller, resource.clone());
    decided.map_err(|policy_ids| PermissionLost {
        action: A::NAME,
        resource: resource.into().to_string().into(),
        policy_ids,
    })
}
