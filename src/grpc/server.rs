//! The gRPC listener: its services and limits.

mod connection;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use prost::Message as _;
use tokio::{net::TcpListener, sync::mpsc};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{codec::CompressionEncoding, service::Routes, transport::Server};
use tonic_health::{ServingStatus, server::HealthReporter};

pub use self::connection::Peer;
use self::connection::with_peer;

use super::{
    Services, access, application, associate, audit, envoy,
    envoy_pb::{self, authorization_server::AuthorizationServer},
    impersonation,
    layer::{CallLayer, LayerContext},
    pb::{
        self, access_service_server::AccessServiceServer,
        application_service_server::ApplicationServiceServer,
        associate_service_server::AssociateServiceServer, audit_service_server::AuditServiceServer,
        impersonation_service_server::ImpersonationServiceServer,
        tenant_service_server::TenantServiceServer, token_service_server::TokenServiceServer,
        web_api_service_server::WebApiServiceServer,
    },
    tenant, token, web_api,
};
use crate::{
    access::Access,
    broker::Bell,
    listen::{
        Acceptor, FrontProxies, Incoming, IntakeBudget, MAX_CANCELLED_STREAMS, MAX_STREAM_ERRORS,
        Protocol, RequestIdGenerator, ServerTls, WorkerEnded, Workers,
    },
    ports::{Clock, Meter, Random},
};

/// The maximum message size, for requests and answers. A page of a thousand tenants is large.
pub(super) const MAX_MESSAGE_BYTES: usize = 4 * 1024 * 1024;

/// The maximum request size of a service that needs no credential. Otherwise, 4 KiB of gzip from an unauthenticated
/// client would expand to 4 MiB.
pub(super) const MAX_OPEN_MESSAGE_BYTES: usize = 16 * 1024;

/// The request encodings that every service accepts. Answers are never compressed: they are small, and the length of a
/// compressed answer with a secret and text of the caller's choice would leak the secret (the BREACH attack).
pub(super) const ACCEPTED_ENCODINGS: &str = "identity,gzip";

/// The maximum number of concurrent calls on a connection; more wait in the client.
const MAX_CONCURRENT_STREAMS: u32 = 1024;

/// The bytes that a client may send before the gateway has read them, on one stream.
pub(super) const STREAM_WINDOW: u32 = 64 * 1024;
/// The same limit for all streams of a connection together.
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// The maximum number of connections without a permitted request. With TLS, buffers and a half-sent header block of
/// [`MAX_HEADER_LIST_BYTES`] each takes about 100 KiB.
const MAX_UNAUTHENTICATED_CONNECTIONS: usize = 128;

/// The maximum size of a call's metadata, including the token. A token that is too large gets a clear status up to this
/// limit; above it, HTTP/2 refuses the call (431, or the connection ends).
const MAX_HEADER_LIST_BYTES: u32 = 64 * 1024;

/// The time without traffic after which the gateway sends a keep-alive ping.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// The time for the answer to a keep-alive ping.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// The capacity of the queue of opened connections between the accept loop and the workers.
const CONNECTION_QUEUE: usize = 16;

const HEALTH: &str = "grpc.health.v1.Health";

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
    HEALTH,
];

/// The time to send the last answers at shutdown. Then connections are closed, because callers could keep streams open
/// that the gateway does not end (reflection).
const FLUSH_TIME: Duration = Duration::from_secs(1);

/// The configuration of the listener.
#[derive(Debug, Clone)]
pub struct GrpcOptions {
    /// Whether to serve reflection.
    pub reflection: bool,
    /// Whether to serve Envoy's external authorization.
    pub envoy: bool,
    /// The deadline of calls without one.
    pub default_deadline: Duration,
    /// The deadline of Web API calls without one.
    pub web_api_timeout: Duration,
    /// The maximum age of connections, so that callers also connect to new replicas.
    pub max_connection_age: Duration,
    /// The TLS configuration; `None` is plain text.
    pub tls: Option<Arc<ServerTls>>,
    /// The proxies in front of the listener.
    pub proxies: FrontProxies,
    /// The memory budget of undecided calls, which all listeners share.
    pub intake: Arc<IntakeBudget>,
}

/// The reason why the listener failed or did not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The compiled protobuf descriptors are damaged.
    #[error("the compiled protobuf descriptors cannot be read: {0}")]
    Contract(#[from] prost::DecodeError),
    /// Reflection cannot be set up.
    #[error("reflection cannot be set up: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The listener failed.
    #[error("the gRPC listener failed: {0}")]
    Transport(#[from] tonic::transport::Error),
    /// The threads cannot be started.
    #[error("the threads of the gRPC listener cannot be started: {0}")]
    Threads(#[from] io::Error),
    /// A worker thread ended unexpectedly.
    #[error("gRPC: {0}")]
    WorkerEnded(#[from] WorkerEnded),
}

/// The tonic server with the layer of every call.
type TonicServer = Server<tower::layer::util::Stack<CallLayer, tower::layer::util::Identity>>;

/// Limits the message sizes of a service and accepts gzip. The limit also stops the decompression.
macro_rules! limited {
    ($server:expr, $largest:expr) => {
        $server
            .accept_compressed(CompressionEncoding::Gzip)
            .max_decoding_message_size($largest)
            .max_encoding_message_size(MAX_MESSAGE_BYTES.max($largest))
    };
}

/// The gRPC server on a bound socket, before it accepts connections.
pub struct GrpcServer {
    listener: TcpListener,
    tls: Option<Arc<ServerTls>>,
    proxies: FrontProxies,
    intake: Arc<IntakeBudget>,
    server: TonicServer,
    routes: Routes,
    health: Health,
    access: Arc<Access>,
    calls: TaskTracker,
    cut_off: CancellationToken,
}

impl GrpcServer {
    /// Creates the server. Its services are `NOT_SERVING` until [`Self::health`] says otherwise.
    ///
    /// # Errors
    /// If the compiled protobuf descriptors are damaged.
    pub async fn new(
        listener: TcpListener,
        services: Arc<Services>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        meter: Arc<dyn Meter>,
        options: GrpcOptions,
    ) -> Result<Self, ServeError> {
        let (reporter, health_service) = tonic_health::server::health_reporter();
        let names = SERVED.into_iter().chain(options.envoy.then_some(envoy::NAME)).collect();
        let health = Health { reporter, served: names };
        health.set(ServingStatus::NotServing).await;
        let calls = TaskTracker::new();
        let cut_off = CancellationToken::new();
        let access = Arc::clone(&services.access);
        let context = LayerContext {
            access: Arc::clone(&access),
            audit: Arc::clone(&services.audit),
            ids: RequestIdGenerator::new(clock, &*random),
            meter,
            default_deadline: options.default_deadline,
            web_api_timeout: options.web_api_timeout,
            cut_off: cut_off.clone(),
            calls: calls.clone(),
            trusted: options.proxies.trusted.clone(),
            stopping: services.stopping.clone(),
            max_connection_age: options.max_connection_age,
            methods: methods()?,
        };
        let mut routes = Routes::builder();
        let of = || Arc::clone(&services);
        routes
            .add_service(limited!(health_service, MAX_OPEN_MESSAGE_BYTES))
            .add_service(limited!(
                TokenServiceServer::new(token::TokenHandler(of())),
                MAX_MESSAGE_BYTES
            ))
            .add_service(limited!(
                ImpersonationServiceServer::new(impersonation::ImpersonationHandler(of())),
                MAX_MESSAGE_BYTES
            ))
            .add_service(limited!(
                TenantServiceServer::new(tenant::TenantHandler(of())),
                MAX_MESSAGE_BYTES
            ))
            .add_service(limited!(
                AssociateServiceServer::new(associate::AssociateHandler(of())),
                MAX_MESSAGE_BYTES
            ))
            .add_service(limited!(
                AccessServiceServer::new(access::AccessHandler(of())),
                MAX_MESSAGE_BYTES
            ))
            .add_service(limited!(
                AuditServiceServer::new(audit::AuditHandler(of())),
                MAX_MESSAGE_BYTES
            ))
            .add_service(limited!(
                ApplicationServiceServer::new(application::ApplicationHandler(of())),
                MAX_MESSAGE_BYTES
            ))
            .add_service(limited!(
                WebApiServiceServer::new(web_api::WebApiHandler(of())),
                web_api::MAX_CALL_BYTES
            ));
        if options.envoy {
            routes.add_service(limited!(
                AuthorizationServer::new(envoy::ExtAuthzHandler(services)),
                MAX_MESSAGE_BYTES
            ));
        }
        if options.reflection {
            // Includes the messages of error details, so that grpcurl can print them.
            let builder = || {
                health.served.iter().fold(
                    tonic_reflection::server::Builder::configure()
                        .register_encoded_file_descriptor_set(pb::DESCRIPTORS)
                        .register_encoded_file_descriptor_set(envoy_pb::DESCRIPTORS)
                        .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
                        .register_encoded_file_descriptor_set(
                            tonic_health::pb::FILE_DESCRIPTOR_SET,
                        ),
                    |builder, service| builder.with_service_name(*service),
                )
            };
            routes
                .add_service(limited!(builder().build_v1()?, MAX_OPEN_MESSAGE_BYTES))
                .add_service(limited!(builder().build_v1alpha()?, MAX_OPEN_MESSAGE_BYTES));
        }
        let server = Server::builder()
            .http2_keepalive_interval(Some(KEEP_ALIVE_INTERVAL))
            .http2_keepalive_timeout(Some(KEEP_ALIVE_TIMEOUT))
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .http2_max_header_list_size(Some(MAX_HEADER_LIST_BYTES))
            .max_concurrent_streams(Some(MAX_CONCURRENT_STREAMS))
            .http2_max_pending_accept_reset_streams(Some(MAX_CANCELLED_STREAMS))
            .http2_max_local_error_reset_streams(Some(MAX_STREAM_ERRORS))
            .max_connection_age(options.max_connection_age)
            .layer(CallLayer::new(context));
        let routes = routes.routes();
        let GrpcOptions { tls, proxies, intake, .. } = options;
        Ok(Self { listener, tls, proxies, intake, server, routes, health, access, calls, cut_off })
    }

    /// Returns the local address.
    ///
    /// # Errors
    /// If the operating system does not return it.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Returns the handle that sets the health status.
    #[must_use]
    pub fn health(&self) -> Health {
        self.health.clone()
    }

    /// Returns a token. Cancelling it ends the Web API calls without an answer, each with a status.
    #[must_use]
    pub fn cut_off(&self) -> CancellationToken {
        self.cut_off.clone()
    }

    /// Serves until `stop`, then sends GOAWAY and returns when the running calls have ended. Drops connections whose
    /// handshake is not complete, and does not wait for peers that do not respond.
    ///
    /// # Errors
    /// If the listener fails.
    pub async fn serve(self, stop: CancellationToken) -> Result<(), ServeError> {
        let (opened, incoming) = mpsc::channel(CONNECTION_QUEUE);
        let tls = self.tls;
        let acceptor = Acceptor {
            name: "grpc",
            protocol: Protocol::Http2,
            listener: self.listener,
            tls: tls.clone(),
            proxies: self.proxies,
            strangers: MAX_UNAUTHENTICATED_CONNECTIONS,
            intake: self.intake,
            stop: stop.clone(),
        };
        let (http, routes, access, end) = (self.server, self.routes, self.access, stop.clone());
        let serve = move |incoming: Incoming| {
            let services = http.clone().add_routes(routes.clone());
            let access = Arc::clone(&access);
            let incoming =
                incoming.map(move |connection| Ok::<_, io::Error>(with_peer(connection, &access)));
            let stop = end.clone().cancelled_owned();
            let serving = services.serve_with_incoming_shutdown(incoming, stop);
            async {
                tokio::select! {
                    end = serving => Ok(end?),
                    () = Bell::serve() => Ok(()),
                }
            }
        };
        let mut workers = Workers::<ServeError>::start("grpc", serve)?;
        let serving = workers.serve(incoming, &stop);
        let serving = async { tokio::join!(serving, acceptor.run(opened)).0 };
        let calls = self.calls;
        let answered = async {
            stop.cancelled().await;
            calls.close();
            calls.wait().await;
            tokio::time::sleep(FLUSH_TIME).await;
        };
        let reload = async {
            match tls {
                Some(tls) => match tls.watch().await {},
                None => std::future::pending().await,
            }
        };
        let ended = tokio::select! {
            ended = serving => ended,
            () = answered => Ok(()),
            () = reload => Ok(()),
        };
        workers.shut_down().await;
        ended
    }
}

/// Sets the state that `grpc.health.v1.Health` reports, of the server and of each service.
#[derive(Clone)]
pub struct Health {
    reporter: HealthReporter,
    served: Arc<[&'static str]>,
}

impl Health {
    /// Sets the status to serving.
    pub async fn set_serving(&self) {
        self.set(ServingStatus::Serving).await;
    }

    /// Sets the status to not serving.
    pub async fn set_not_serving(&self) {
        self.set(ServingStatus::NotServing).await;
    }

    /// Ends all `Health/Watch` streams, which would otherwise keep their connections open.
    pub async fn end_watches(&self) {
        let mut reporter = self.reporter.clone();
        for service in self.served.iter().chain(&[""]) {
            reporter.clear_service_status(service).await;
        }
    }

    async fn set(&self, status: ServingStatus) {
        self.reporter.set_service_status("", status).await;
        for service in self.served.iter().filter(|service| **service != HEALTH) {
            self.reporter.set_service_status(*service, status).await;
        }
    }
}

/// Returns `service/method` of all RPCs: of our own API, of Envoy's, and of health and reflection.
fn methods() -> Result<Vec<String>, prost::DecodeError> {
    let mut methods = Vec::new();
    let sets = [pb::DESCRIPTORS, envoy_pb::DESCRIPTORS, tonic_health::pb::FILE_DESCRIPTOR_SET];
    for descriptors in sets {
        let set = prost_types::FileDescriptorSet::decode(descriptors)?;
        for file in &set.file {
            for service in &file.service {
                let name = |m: &prost_types::MethodDescriptorProto| {
                    format!("{}.{}/{}", file.package(), service.name(), m.name())
                };
                methods.extend(service.method.iter().map(name));
            }
        }
    }
    methods.push("grpc.reflection.v1.ServerReflection/ServerReflectionInfo".to_owned());
    methods.push("grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo".to_owned());
    Ok(methods)
}
