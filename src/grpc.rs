//! Inbound gRPC. Each RPC is: read the request, ask [`access`](crate::access), ask the [`broker`](crate::broker),
//! write the answer. Protobuf types do not leave this room.

mod application;
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
    access::{Access, Authorized, Caller, On},
    broker::{Applications, Statuses, Tenants, Tickets, choose_enrolled},
    domain::{TenantName, TenantSelector},
    grpc::failure::Failure,
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
    /// Use cases of tenant status.
    pub statuses: Arc<Statuses>,
    /// Use cases of tickets.
    pub tickets: Arc<Tickets>,
    /// Cancelled when watches must end.
    pub stopping: CancellationToken,
    /// Seals page tokens.
    pub page_tokens: Arc<dyn PageTokens>,
}

impl Services {
    /// Decides on a tenant whose application may be left open (`applications/-`).
    async fn authorize_selected<A: On<TenantName>>(
        &self,
        caller: &Caller,
        field: &'static str,
        selector: TenantSelector,
    ) -> Result<Authorized<A, TenantName>, Failure> {
        let tenant = selector.tenant;
        if let Some(application) = selector.application {
            return Ok(self.access.authorize(caller, TenantName { application, tenant })?);
        }
        let names = self
            .applications
            .ids()
            .map(|application| TenantName { application: application.clone(), tenant });
        let permitted = self.access.authorize_any(caller, names)?;
        Ok(choose_enrolled(&self.tenants, field, tenant, permitted).await?)
    }
}
