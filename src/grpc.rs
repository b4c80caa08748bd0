//! Inbound gRPC. Each RPC reads the request, checks it with [`access`](crate::access), calls the
//! [`broker`](crate::broker) and writes the answer. Protobuf types are used only in this module.

mod access;
mod acting;
mod application;
mod associate;
mod audit;

mod consent;
mod convert;
mod deadline;
mod envoy;
mod failure;
mod impersonation;
mod intake;
mod layer;
mod normalize;
mod outcome;
mod person;
mod public_stream;
mod record;
mod request;
mod server;
mod tenant;
mod token;
mod trail;
mod watch;
mod watch_access_token;
mod watch_grants;
mod watch_status;
mod watch_ticket;
mod web_api;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

#[cfg(fuzzing)]
pub(crate) use self::envoy::read_check_request;
pub use self::{
    server::{GrpcOptions, GrpcServer, Health, Peer, ServeError},
    trail::AuditRecorder,
};
use crate::{
    access::{Access, AccessError, Authorized, On, Resource},
    broker::{
        Applications, Associates, AuditLog, Consents, Egress, Explanations, Impersonation,
        Statuses, TenantSearch, Tenants, Tickets, resolve_application,
    },
    domain::{ContextIdentifier, TenantName, TenantSelector},
    grpc::{failure::Failure, layer::Context},
    ports::PageTokens,
};

/// The generated code of the gateway's own API (`proto/`).
#[allow(
    clippy::allow_attributes,
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    reason = "generated; an expectation per lint would break with every release of the generator"
)]
pub mod pb {
    tonic::include_proto!("tenantgateway.v1");

    /// The descriptor set of the API, for reflection.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
}

/// The generated part of Envoy's API (`vendor/envoy-api/`).
#[allow(
    clippy::allow_attributes,
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    reason = "generated; an expectation per lint would break with every release of the generator"
)]
pub mod envoy_pb {
    include!(concat!(env!("OUT_DIR"), "/envoy.rs"));
    pub use self::{
        envoy::{config::core::v3 as core, service::auth::v3::*, r#type::v3 as http},
        google::rpc as google_rpc,
    };

    /// The descriptor set of Envoy's API, for reflection.
    pub const DESCRIPTORS: &[u8] =
        include_bytes!(concat!(env!("OUT_DIR"), "/envoy_descriptors.bin"));
}

/// The dependencies that the services share.
pub struct Services {
    /// Authenticates callers and checks policy.
    pub access: Arc<Access>,
    /// The configured applications.
    pub applications: Arc<Applications>,
    /// The use cases of tenants.
    pub tenants: Arc<Tenants>,
    /// Lists tenants that match a filter.
    pub tenant_search: TenantSearch,
    /// Reads and verifies the audit trail.
    pub audit_log: AuditLog,
    /// The use cases of tenant status.
    pub statuses: Arc<Statuses>,
    /// The use cases of tickets.
    pub tickets: Arc<Tickets>,
    /// The use cases of consent.
    pub consents: Arc<Consents>,
    /// The use cases of grants and their access tokens.
    pub impersonation: Arc<Impersonation>,
    /// The use cases of associates.
    pub associates: Arc<Associates>,
    /// Makes Web API calls for callers.
    pub egress: Arc<Egress>,
    /// Explains which users a caller may act as.
    pub explanations: Explanations,
    /// Writes audit events.
    pub audit: Arc<AuditRecorder>,
    /// Cancelled at shutdown, when watches must end.
    pub stopping: CancellationToken,
    /// Seals page tokens.
    pub page_tokens: Arc<dyn PageTokens>,
}

impl Services {
    /// Checks that policy permits action `A` on `resource`, counts the call in its tenant, and notes the decision.
    fn authorize<A: On<R>, R: Clone + Into<Resource>>(
        &self,
        context: &Context,
        resource: R,
    ) -> Result<Authorized<A, R>, Failure> {
        let name = resource.clone().into();
        let tenant = name.tenant().filter(|tenant| context.set_tenant(tenant));
        match self.access.authorize(&context.caller, resource) {
            Ok(authorized) => {
                // Counted only after permission: denied calls have their own quota, and made-up names use no memory.
                if let Some(tenant) = tenant {
                    self.access
                        .count_tenant_call(&context.caller, tenant)
                        .map_err(AccessError::from)?;
                }
                context.notes.allowed(A::NAME, &name, Arc::clone(authorized.policy_ids()));
                self.audit.check(A::NAME)?;
                Ok(authorized)
            }
            Err(refused) => Err(refuse(context, A::NAME.as_str(), &name.to_string(), refused)),
        }
    }

    /// Checks that policy permits a Web API call. The call must already be counted in its tenant.
    fn authorize_call<A: On<R>, R: Clone + Into<Resource>>(
        &self,
        context: &Context,
        resource: R,
        method: &str,
        path: &str,
    ) -> Result<Authorized<A, R>, Failure> {
        let name: Resource = resource.clone().into();
        match self.access.authorize_call(&context.caller, resource, method, path) {
            Ok(authorized) => {
                context.notes.allowed(A::NAME, &name, Arc::clone(authorized.policy_ids()));
                self.audit.check(A::NAME)?;
                Ok(authorized)
            }
            Err(refused) => Err(refuse(context, A::NAME.as_str(), &name.to_string(), refused)),
        }
    }

    /// Sets the tenant of a call. The first time, counts the call in that tenant.
    fn admit_to_tenant(&self, context: &Context, tenant: &TenantName) -> Result<(), Failure> {
        if context.set_tenant(tenant) {
            self.access.count_tenant_call(&context.caller, tenant).map_err(AccessError::from)?;
        }
        Ok(())
    }

    /// Checks action `A` on a tenant whose application may be a wildcard (`applications/-`).
    async fn authorize_selected<A: On<TenantName>>(
        &self,
        context: &Context,
        field: &'static str,
        selector: TenantSelector,
    ) -> Result<Authorized<A, TenantName>, Failure> {
        let tenant = selector.tenant;
        if let Some(application) = selector.application {
            return self.authorize(context, TenantName { application, tenant });
        }
        let names = self.candidates(&selector);
        let permitted = self.access.authorize_any(&context.caller, names);
        let permitted = permitted.map_err(|refused| {
            refuse(context, A::NAME.as_str(), &wildcard_tenant_name(tenant), refused)
        })?;
        let chosen =
            resolve_application(&self.tenants, field, tenant, permitted, Authorized::resource)
                .await;
        // Policy permitted the action, but the tenant is in no application, or in several.
        let chosen = chosen.inspect_err(|_| {
            context.notes.allowed(A::NAME, &wildcard_tenant_name(tenant), Arc::new([]));
        })?;
        self.admit_to_tenant(context, chosen.resource())?;
        let name: Resource = chosen.resource().clone().into();
        context.notes.allowed(A::NAME, &name, Arc::clone(chosen.policy_ids()));
        self.audit.check(A::NAME)?;
        Ok(chosen)
    }

    /// Returns the tenant's name under each configured application.
    fn candidates(&self, selector: &TenantSelector) -> impl Iterator<Item = TenantName> {
        let tenant = selector.tenant;
        let of = move |application| TenantName { application, tenant };
        self.applications.ids().cloned().map(of)
    }
}

/// Notes a denial. `action` may also be the name of a query that is not a policy action.
fn refuse(
    context: &Context,
    action: &'static str,
    resource: &str,
    refused: AccessError,
) -> Failure {
    if let AccessError::Denied(policy_ids) | AccessError::PathNotAllowed(policy_ids) = &refused {
        context.notes.denied(action, resource.to_owned(), Arc::clone(policy_ids));
    }
    refused.into()
}

/// Returns the name of a tenant with a wildcard application.
fn wildcard_tenant_name(tenant: ContextIdentifier) -> String {
    format!("applications/-/tenants/{tenant}")
}
