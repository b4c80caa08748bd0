//! The handlers of all services, and their routes.

use std::sync::Arc;

use tonic::service::RoutesBuilder;

use super::{
    access::{self, AccessHandler},
    application::{self, ApplicationHandler},
    associate::{self, AssociateHandler},
    audit::{self, AuditHandler},
    envoy::{self, ExtAuthzHandler},
    envoy_pb::authorization_server::AuthorizationServer,
    handler_dependencies::HandlerDependencies,
    health,
    impersonation::{self, ImpersonationHandler},
    limits::{MAX_CALL_BYTES, MAX_MESSAGE_BYTES, with_limits},
    pb::{
        access_service_server::AccessServiceServer,
        application_service_server::ApplicationServiceServer,
        associate_service_server::AssociateServiceServer, audit_service_server::AuditServiceServer,
        impersonation_service_server::ImpersonationServiceServer,
        tenant_service_server::TenantServiceServer, token_service_server::TokenServiceServer,
        web_api_service_server::WebApiServiceServer,
    },
    tenant::{self, TenantHandler},
    token::{self, TokenHandler},
    web_api::{self, WebApiHandler},
};

/// The services that are always served, besides reflection.
const SERVED: [&str; 9] = [
    token::NAME,
    impersonation::NAME,
    tenant::NAME,
    associate::NAME,
    application::NAME,
    access::NAME,
    audit::NAME,
    web_api::NAME,
    health::NAME,
];

/// The handlers of all services.
pub struct Handlers {
    /// The dependencies that all handlers share.
    pub common: Arc<HandlerDependencies>,
    /// System user tickets.
    pub token: TokenHandler,
    /// Grants and access tokens of persons.
    pub impersonation: ImpersonationHandler,
    /// Tenants and their status.
    pub tenant: TenantHandler,
    /// The users of a tenant.
    pub associate: AssociateHandler,
    /// The caller's own permissions.
    pub access: AccessHandler,
    /// The audit trail.
    pub audit: AuditHandler,
    /// The configured applications.
    pub application: ApplicationHandler,
    /// Web API calls.
    pub web_api: WebApiHandler,
    /// Envoy's external authorization, if it is enabled.
    pub envoy: Option<ExtAuthzHandler>,
}

impl Handlers {
    /// Returns the full names of the served services, besides reflection.
    pub(super) fn service_names(&self) -> Arc<[&'static str]> {
        SERVED.into_iter().chain(self.envoy.as_ref().map(|_| envoy::NAME)).collect()
    }

    /// Adds the services to the routes of the listener.
    pub(super) fn add_to(self, routes: &mut RoutesBuilder) {
        routes
            .add_service(with_limits!(TokenServiceServer::new(self.token), MAX_MESSAGE_BYTES))
            .add_service(with_limits!(
                ImpersonationServiceServer::new(self.impersonation),
                MAX_MESSAGE_BYTES
            ))
            .add_service(with_limits!(TenantServiceServer::new(self.tenant), MAX_MESSAGE_BYTES))
            .add_service(with_limits!(
                AssociateServiceServer::new(self.associate),
                MAX_MESSAGE_BYTES
            ))
            .add_service(with_limits!(AccessServiceServer::new(self.access), MAX_MESSAGE_BYTES))
            .add_service(with_limits!(AuditServiceServer::new(self.audit), MAX_MESSAGE_BYTES))
            .add_service(with_limits!(
                ApplicationServiceServer::new(self.application),
                MAX_MESSAGE_BYTES
            ))
            .add_service(with_limits!(WebApiServiceServer::new(self.web_api), MAX_CALL_BYTES));
        if let Some(handler) = self.envoy {
            let server = AuthorizationServer::new(handler);
            routes.add_service(with_limits!(server, MAX_MESSAGE_BYTES));
        }
    }
}
