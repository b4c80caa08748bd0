//! Inbound gRPC. Each RPC is: read the request, ask [`access`](crate::access), ask the [`broker`](crate::broker),
//! write the answer. Protobuf types do not leave this room.

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
pub(crate) use self::envoy::read_question;
pub use self::{
    server::{GrpcOptions, GrpcServer, Health, Peer, ServeError},
    trail::Audit,
};
use crate::{
    access::{Access, Authorized, On, Refused, Resource},
    broker::{
        Applications, Associates, AuditLog, Consents, Egress, Explanations, Impersonation,
        Statuses, TenantSearch, Tenants, Tickets, choose_enrolled,
    },
    domain::{ContextIdentifier, TenantName, TenantSelector},
    grpc::{failure::Failure, layer::Context},
    ports::PageTokens,
};

/// The generated contract.
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

    /// The descriptor set of the contract, for reflection.
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

    /// The descriptor set of it, for reflection.
    pub const DESCRIPTORS: &[u8] =
        include_bytes!(concat!(env!("OUT_DIR"), "/envoy_descriptors.bin"));
}

/// What the services share.
pub struct Services {
    /// Who may do what.
    pub access: Arc<Access>,
    /// The configured applications.
    pub applications: Arc<Applications>,
    /// Use cases of tenants.
    pub tenants: Arc<Tenants>,
    /// Lists of tenants by a filter.
    pub tenant_search: TenantSearch,
    /// What the audit trail holds.
    pub audit_log: AuditLog,
    /// Use cases of tenant status.
    pub statuses: Arc<Statuses>,
    /// Use cases of tickets.
    pub tickets: Arc<Tickets>,
    /// Use cases of consent.
    pub consents: Arc<Consents>,
    /// Use cases of grants and their access tokens.
    pub impersonation: Arc<Impersonation>,
    /// Use cases of associates.
    pub associates: Arc<Associates>,
    /// Calls of the Web API that are made for callers.
    pub egress: Arc<Egress>,
    /// Says who can act as whom.
    pub explanations: Explanations,
    /// Writes down what is decided.
    pub audit: Arc<Audit>,
    /// Cancelled when watches must end.
    pub stopping: CancellationToken,
    /// Seals page tokens.
    pub page_tokens: Arc<dyn PageTokens>,
}

impl Services {
    /// Decides whether the caller may do `A` to `resource`, counts its call in the tenant, and notes what was decided.
    fn authorize<A: On<R>, R: Clone + Into<Resource>>(
        &self,
        context: &Context,
        resource: R,
    ) -> Result<Authorized<A, R>, Failure> {
        let name = resource.clone().into();
        let tenant = name.tenant().filter(|tenant| context.concerns(tenant));
        match self.access.authorize(&context.caller, resource) {
            Ok(authorized) => {
                // Only now: what is denied has a quota of its own, and names that are made up take no room.
                if let Some(tenant) = tenant {
                    self.access.admit_to(&context.caller, tenant).map_err(Refused::from)?;
                }
                context.notes.allowed(A::NAME, &name, Arc::clone(authorized.policy_ids()));
                self.audit.check(A::NAME)?;
                Ok(authorized)
            }
            Err(refused) => Err(refuse(context, A::NAME.as_str(), &name.to_string(), refused)),
        }
    }

    /// The same for a call of the Web API, in a tenant where the caller's call is counted already.
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

    /// Notes which tenant a call is about, and counts it there the first time.
    fn concerns(&self, context: &Context, tenant: &TenantName) -> Result<(), Failure> {
        if context.concerns(tenant) {
            self.access.admit_to(&context.caller, tenant).map_err(Refused::from)?;
        }
        Ok(())
    }

    /// Decides on a tenant whose application may be left open (`applications/-`).
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
        let permitted = permitted
            .map_err(|refused| refuse(context, A::NAME.as_str(), &open_name(tenant), refused))?;
        let chosen =
            choose_enrolled(&self.tenants, field, tenant, permitted, Authorized::resource).await;
        // Permitted, and came to nothing.
        let chosen = chosen.inspect_err(|_| {
            context.notes.allowed(A::NAME, &open_name(tenant), Arc::new([]));
        })?;
        self.concerns(context, chosen.resource())?;
        let name: Resource = chosen.resource().clone().into();
        context.notes.allowed(A::NAME, &name, Arc::clone(chosen.policy_ids()));
        self.audit.check(A::NAME)?;
        Ok(chosen)
    }

    /// The tenant under each configured application.
    fn candidates(&self, selector: &TenantSelector) -> impl Iterator<Item = TenantName> {
        let tenant = selector.tenant;
        let of = move |application| TenantName { application, tenant };
        self.applications.ids().cloned().map(of)
    }
}

/// Notes a denial. `action` may also be a question that is no action of the policy.
fn refuse(context: &Context, action: &'static str, resource: &str, refused: Refused) -> Failure {
    if let Refused::Denied(policy_ids) | Refused::PathNotAllowed(policy_ids) = &refused {
        context.notes.denied(action, resource.to_owned(), Arc::clone(policy_ids));
    }
    refused.into()
}

/// A tenant whose application was left open.
fn open_name(tenant: ContextIdentifier) -> String {
    format!("applications/-/tenants/{tenant}")
}
