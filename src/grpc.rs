//! Inbound gRPC. Each RPC reads the request, checks it with [`access`](crate::access), calls the
//! [`broker`](crate::broker) and writes the answer. Protobuf types are used only in this module.

mod access;
mod answer;
mod application;
mod associate;
mod audit;
mod audit_guard;
mod audit_recorder;
mod call_record;
mod consent;
mod context;
mod convert;
mod deadline;
mod envoy;
mod failure;
mod handler_dependencies;
mod handlers;
mod health;
mod impersonation;
mod intake;
mod layer;
mod limits;
mod normalize;
mod notes;
mod peer;
mod person;
mod public_stream;
mod reflection;
mod request;
mod server;
mod tenant;
mod tenant_authorizer;
mod token;
mod watch;
mod watch_access_token;
mod watch_grants;
mod watch_status;
mod watch_ticket;
mod web_api;
mod web_api_authorization;

#[cfg(fuzzing)]
pub(crate) use self::envoy::read_check_request;
pub use self::{
    access::AccessHandler,
    application::ApplicationHandler,
    associate::AssociateHandler,
    audit::AuditHandler,
    audit_recorder::AuditRecorder,
    envoy::ExtAuthzHandler,
    handler_dependencies::HandlerDependencies,
    handlers::Handlers,
    health::Health,
    impersonation::ImpersonationHandler,
    peer::Peer,
    server::{GrpcOptions, GrpcServer, ServeError},
    tenant::TenantHandler,
    tenant_authorizer::TenantAuthorizer,
    token::TokenHandler,
    web_api::WebApiHandler,
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
