//! Builds the servers of all listeners.

use std::{collections::HashMap, net::SocketAddr, sync::Arc};

use super::{
    grpc_handlers::grpc_handlers,
    listeners::{Listener, Listeners},
    start_error::StartError,
    storage::Storage,
    use_cases::UseCases,
};
use crate::{
    broker::Runtime,
    config::{Config, Secrets},
    crypto::WebhookKey,
    domain::ApplicationId,
    grpc::{GrpcOptions, GrpcServer, ServeError},
    http::{
        AdminServer, ConsentPages, EgressPorts, EgressRules, EgressServer, PublicEndpoints,
        PublicPorts, PublicServer, Readiness, StateChanges, Webhooks,
    },
    listen::IntakeBudget,
    ports::WebhookVerifier,
    telemetry::Metrics,
};

/// The servers of all listeners.
pub(super) struct Servers {
    pub(super) grpc: GrpcServer,
    pub(super) http: Option<PublicServer>,
    pub(super) egress: Option<EgressServer>,
    pub(super) admin: AdminServer,
}

/// The addresses on which the listeners accept connections.
#[derive(Clone, Copy)]
pub(super) struct ListenAddresses {
    pub(super) grpc: SocketAddr,
    pub(super) http: Option<SocketAddr>,
    pub(super) egress: Option<SocketAddr>,
    pub(super) admin: SocketAddr,
}

impl Servers {
    /// Returns the addresses. A configured port 0 is replaced by the port of the socket.
    ///
    /// # Errors
    /// With the key of the listener whose address cannot be read.
    pub(super) fn addresses(&self, config: &Config) -> Result<ListenAddresses, StartError> {
        let http = self.http.as_ref().zip(config.http.as_ref()).map(|(server, section)| {
            server.address().map_err(|e| StartError::listen("http.listen", section.listen, e))
        });
        let egress = self.egress.as_ref().zip(config.egress.as_ref()).map(|(server, section)| {
            server.address().map_err(|e| StartError::listen("egress.listen", section.listen, e))
        });
        let grpc = self.grpc.address();
        let admin = self.admin.address();
        Ok(ListenAddresses {
            grpc: grpc.map_err(|e| StartError::listen("grpc.listen", config.grpc.listen, e))?,
            http: http.transpose()?,
            egress: egress.transpose()?,
            admin: admin.map_err(|e| StartError::listen("admin.listen", config.admin.listen, e))?,
        })
    }
}

/// The dependencies of the servers.
pub(super) struct ServerBuilder<'a> {
    pub(super) config: &'a Config,
    pub(super) secrets: &'a Secrets,
    pub(super) storage: &'a Storage,
    pub(super) use_cases: &'a UseCases,
    pub(super) runtime: &'a Runtime,
    pub(super) metrics: Arc<Metrics>,
    /// The memory budget of unauthorized requests, which all listeners share.
    pub(super) intake: Arc<IntakeBudget>,
}

impl ServerBuilder<'_> {
    /// Creates the servers of these listeners.
    ///
    /// # Errors
    /// If the gRPC services cannot be set up.
    pub(super) async fn build(
        &self,
        listeners: Listeners,
        readiness: &Arc<Readiness>,
    ) -> Result<Servers, ServeError> {
        let Listeners { grpc, http, egress, admin } = listeners;
        let metrics = self.metrics.clone();
        let page = move || metrics.page();
        Ok(Servers {
            admin: AdminServer::new(admin, readiness.clone(), page, self.intake.clone()),
            http: http.map(|listener| self.http(listener)),
            egress: egress.map(|listener| self.egress(listener)),
            grpc: self.grpc(grpc).await?,
        })
    }

    async fn grpc(
        &self,
        Listener { socket, tls, proxies }: Listener,
    ) -> Result<GrpcServer, ServeError> {
        let config = self.config;
        let options = GrpcOptions {
            reflection: config.grpc.reflection,
            default_deadline: config.grpc.default_deadline,
            web_api_timeout: config.web_api.timeout,
            max_connection_age: config.grpc.max_connection_age,
            tls,
            proxies,
            intake: self.intake.clone(),
        };
        let handlers = grpc_handlers(config, self.storage, self.use_cases, self.runtime);
        let Runtime { clock, random, .. } = self.runtime.clone();
        GrpcServer::new(socket, handlers, clock, random, self.metrics.clone(), options).await
    }

    fn http(&self, Listener { socket, tls, proxies }: Listener) -> PublicServer {
        let UseCases { audit, associate_notifications, tenant_notifications, consents, .. } =
            self.use_cases;
        let webhooks = Webhooks {
            verifiers: self.webhook_verifiers(),
            hints: associate_notifications.clone(),
            attempts: audit.attempts.clone(),
        };
        let state_changes =
            StateChanges { hints: tenant_notifications.clone(), attempts: audit.attempts.clone() };
        let consents = ConsentPages {
            consents: consents.clone(),
            attempts: audit.attempts.clone(),
            public_uri: self.config.http.as_ref().and_then(|http| http.public_uri.clone()),
        };
        let endpoints = PublicEndpoints {
            webhooks,
            state_changes: Some(state_changes),
            consents: Some(consents),
        };
        let Runtime { clock, random, .. } = self.runtime.clone();
        let (meter, intake) = (self.metrics.clone(), self.intake.clone());
        let ports = PublicPorts { clock, random, meter, intake };
        PublicServer::new(socket, tls, proxies, endpoints, ports)
    }

    fn egress(&self, Listener { socket, tls, proxies }: Listener) -> EgressServer {
        let section = self.config.egress.as_ref();
        let rules = EgressRules {
            public_uri: section.and_then(|egress| egress.public_uri.clone()),
            max_body_bytes: section.map(|egress| egress.max_body_bytes).filter(|most| *most > 0),
            timeout: self.config.web_api.timeout,
        };
        let UseCases { access, egress, audit, .. } = self.use_cases;
        let Runtime { clock, random, .. } = self.runtime.clone();
        let ports = EgressPorts {
            access: access.clone(),
            egress: egress.clone(),
            trail: audit.trail.clone(),
            attempts: audit.attempts.clone(),
            clock,
            random,
            meter: self.metrics.clone(),
            intake: self.intake.clone(),
        };
        EgressServer::new(socket, tls, proxies, rules, ports)
    }

    fn webhook_verifiers(&self) -> HashMap<ApplicationId, Arc<dyn WebhookVerifier>> {
        let with_secrets = self.config.applications.iter().zip(&self.secrets.applications);
        let of_one = with_secrets.filter_map(|(application, secrets)| {
            let key = WebhookKey::new(secrets.webhook_secret.as_ref()?);
            Some((application.id.clone(), Arc::new(key) as _))
        });
        of_one.collect()
    }
}
