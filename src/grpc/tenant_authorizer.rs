//! Policy checks on tenants whose application may be a wildcard (`applications/-`).

use std::sync::Arc;

use super::{
    context::CallContext, failure::Failure, handler_dependencies::HandlerDependencies,
    notes::NotedResource,
};
use crate::{
    access::{Authorized, On, Resource},
    broker::{Applications, Tenants, resolve_application},
    domain::{ContextIdentifier, TenantName, TenantSelector},
};

/// Checks policy on tenants whose application may be a wildcard.
pub struct TenantAuthorizer {
    /// The dependencies that all handlers share.
    pub common: Arc<HandlerDependencies>,
    /// The configured applications, which a wildcard stands for.
    pub applications: Arc<Applications>,
    /// The tenants, to find the application under which one is enrolled.
    pub tenants: Arc<Tenants>,
}

impl TenantAuthorizer {
    /// Checks action `A` on the tenant. `field` is the request field with its name, for error messages.
    pub(super) async fn authorize<A: On<TenantName>>(
        &self,
        context: &CallContext,
        field: &'static str,
        selector: TenantSelector,
    ) -> Result<Authorized<A, TenantName>, Failure> {
        let TenantSelector { application, tenant } = selector;
        if let Some(application) = application {
            return self.common.authorize(context, TenantName { application, tenant });
        }
        let names = self.candidates(tenant);
        // Boxed, so that the future of a call that names its application is small.
        Box::pin(self.authorize_one(context, field, tenant, names, |name| name)).await
    }

    /// Checks action `A` on one resource per application. Returns the one whose application has the tenant.
    pub(super) async fn authorize_one<A: On<R>, R: Clone + Into<Resource>>(
        &self,
        context: &CallContext,
        field: &'static str,
        tenant: ContextIdentifier,
        candidates: Vec<R>,
        tenant_of: fn(&R) -> &TenantName,
    ) -> Result<Authorized<A, R>, Failure> {
        let common = &*self.common;
        let wildcard = wildcard_tenant_name(tenant);
        let wildcard = NotedResource::Name(&wildcard);
        let permitted = common
            .access
            .authorize_any(context.caller(), candidates)
            .map_err(|refused| context.refuse(A::NAME.as_str(), wildcard, refused))?;
        let chosen = resolve_application(&self.tenants, field, tenant, permitted, |authorized| {
            tenant_of(authorized.resource())
        })
        .await;
        // Policy permitted the action, but the tenant is in no application, or in several.
        let authorized = chosen.inspect_err(|_| context.permit(A::NAME, wildcard, Arc::new([])))?;
        common.count_in_tenant_once(context, tenant_of(authorized.resource()))?;
        let name: Resource = authorized.resource().clone().into();
        common.note_decision(context, &name, Ok(authorized))
    }

    /// Returns the tenant's name under each configured application.
    pub(super) fn candidates(&self, tenant: ContextIdentifier) -> Vec<TenantName> {
        let applications = self.applications.ids().cloned();
        applications.map(|application| TenantName { application, tenant }).collect()
    }
}

/// Returns the name of a tenant with a wildcard application.
pub(super) fn wildcard_tenant_name(tenant: ContextIdentifier) -> String {
    format!("applications/-/tenants/{tenant}")
}
