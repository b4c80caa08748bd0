//! Inbound gRPC. Each RPC is: read the request, ask [`access`](crate::access), ask the [`broker`](crate::broker),
//! write the answer. Protobuf types do not leave this room.

mod access;
mod application;
mod audit;
mod convert;
mod failure;
mod layer;
mod normalize;
mod request;
mod server;
mod tenant;
mod tls;
mod token;
mod watch;
mod watch_status;
mod watch_ticket;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

pub use self::{
    server::{GrpcOptions, GrpcServer, Health, Peer, ServeError},
    tls::{ServerTls, TlsFiles, TlsProblem},
};
use crate::{
    access::{Access, ActionName, Authorized, On, Refused, Resource, Rights},
    broker::{
        Applications, AuditLog, Explanations, Statuses, TenantSearch, Tenants, Tickets,
        choose_enrolled,
    },
    domain::{TenantName, TenantSelector},
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
    /// Says who can act as whom.
    pub explanations: Explanations,
    /// Cancelled when watches must end.
    pub stopping: CancellationToken,
    /// Seals page tokens.
    pub page_tokens: Arc<dyn PageTokens>,
}

impl Services {
    /// Decides whether the caller may do `A` to `resource`, and counts its call in the tenant.
    fn authorize<A: On<R>, R: Clone + Into<Resource>>(
        &self,
        context: &Context,
        resource: R,
    ) -> Result<Authorized<A, R>, Failure> {
        if let Some(tenant) = resource.clone().into().tenant() {
            self.concerns(context, tenant)?;
        }
        Ok(self.access.authorize(&context.caller, resource)?)
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
        let permitted = self.access.authorize_any(&context.caller, names)?;
        let chosen =
            choose_enrolled(&self.tenants, field, tenant, permitted, Authorized::resource).await?;
        self.concerns(context, chosen.resource())?;
        Ok(chosen)
    }

    /// What the caller may do on a tenant, at least one thing.
    async fn rights_selected(
        &self,
        context: &Context,
        field: &'static str,
        selector: TenantSelector,
    ) -> Result<Rights<TenantName>, Failure> {
        let tenant = selector.tenant;
        let rights = |name| self.access.rights(&context.caller, name, ActionName::ALL);
        let chosen = if let Some(application) = &selector.application {
            rights(TenantName { application: application.clone(), tenant })?
        } else {
            let permitted: Vec<_> =
                self.candidates(&selector).filter_map(|name| rights(name).ok()).collect();
            if permitted.is_empty() {
                return Err(Refused::Denied.into());
            }
            choose_enrolled(&self.tenants, field, tenant, permitted, Rights::resource).await?
        };
        self.concerns(context, chosen.resource())?;
        Ok(chosen)
    }

    /// The tenant under each configured application.
    fn candidates(&self, selector: &TenantSelector) -> impl Iterator<Item = TenantName> {
        let tenant = selector.tenant;
        let of = move |application| TenantName { application, tenant };
        self.applications.ids().cloned().map(of)
    }
}
