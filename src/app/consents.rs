//! Who began a consent is looked at again when a person gave it.

use std::sync::Arc;

use crate::{
    access::{Access, Authorized, On, Resource},
    broker::{AskAgain, NoLonger, StillPermitted},
    domain::{ApplicationId, Consent, TenantName},
};

/// Asks policy as it is then.
pub(super) fn ask_again(access: Arc<Access>) -> AskAgain {
    Box::new(move |consent, tenant| {
        let enrol = consent.enroll_system_user.then(|| decide(&access, consent, tenant));
        Ok(StillPermitted {
            grants: decide(&access, consent, tenant)?,
            tenants: enrol.transpose()?,
        })
    })
}

/// Decides on what the consent was begun for, the application where it named no tenant, and on the tenant that was
/// given.
fn decide<A: On<ApplicationId> + On<TenantName>>(
    access: &Access,
    consent: &Consent,
    tenant: &TenantName,
) -> Result<Authorized<A, TenantName>, NoLonger> {
    if consent.tenant.is_none() {
        decide_on::<A, _>(access, consent, consent.application.clone())?;
    }
    decide_on(access, consent, tenant.clone())
}

fn decide_on<A: On<R>, R: Clone + Into<Resource>>(
    access: &Access,
    consent: &Consent,
    resource: R,
) -> Result<Authorized<A, R>, NoLonger> {
    let decided = access.authorize_absent(&consent.caller, resource.clone());
    decided.map_err(|policy_ids| NoLonger {
        action: A::NAME,
        resource: resource.into().to_string().into(),
        policy_ids,
    })
}
