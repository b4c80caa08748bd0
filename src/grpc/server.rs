//! The gRPC listener: which services stand on it, and its limits.

mod connection;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use prost::Message as _;
use tokio::{net::TcpListener, sync::mpsc};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{codec::CompressionEncoding, service::Routes, transport::Server};
use tonic_health::{ServingStatus, server::HealthReporter};

pub use self::connection::Peer;
use self::connection::called;

use super::{
    Services, access, application, associate, audit, envoy,
    envoy_pb::{self, authorization_server::AuthorizationServer},
    impersonation,
    layer::{Around, Surroundings},
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
        RequestIds, ServerTls, Speaks, WorkerEnded, Workers,
    },
    ports::{Clock, Meter, Random},
};

/// The largest message either way. Requests are small; a page of a thousand tenants is not.
pub(super) const MAX_MESSAGE_BYTES: usize = 4 * 1024 * 1024;

/// The largest request to a service that needs no credential. Without it, 4 KiB of gzip from an unauthenticated client
/// would expand to 4 MiB.
pub(super) const MAX_OPEN_MESSAGE_BYTES: usize = 16 * 1024;

/// The encodings of requests that every service accepts. Answers are never compressed: they are small, and the length
/// of a compressed answer that holds a secret beside text of the caller's choice tells of the secret (the BREACH
/// attack).
pub(super) const ACCEPTED_ENCODINGS: &str = "identity,gzip";

/// Calls at one time on one connection; more wait in the client.
const MAX_CONCURRENT_STREAMS: u32 = 1024;

/// The bytes of a request that a client may send before the gateway has read them, on one stream …
pub(super) const STREAM_WINDOW: u32 = 64 * 1024;
/// … and on all streams of a connection.
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// The number of connections without a permitted request. With TLS, buffers and a half-sent header block of
/// [`MAX_HEADER_LIST_BYTES`] each takes about 100 KiB.
const STRANGERS: usize = 128;

/// Metadata of one call, workload tokens included. A token that is too large gets a status that says so as long as it
/// is below this; beyond, HTTP/2 refuses the call (431, or the end of the connection).
const MAX_HEADER_LIST_BYTES: u32 = 64 * 1024;

/// A silent peer is asked after this whether it is still there …
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// … and has this long to answer.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Opened connections on their way from the accept loop to the workers, who take them at once.
const OPENED_CONNECTIONS: usize = 16;

const HEALTH: &str = "grpc.health.v1.Health";

/// What always stands on the listener, besides reflection.
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

/// When every call is answered, what was answered has this long to arrive. Then connections are not waited for:
/// streams that callers hold open and that are not ours to end (reflection) would keep them for ever.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The configurable part.
#[derive(Debug, Clone)]
pub struct GrpcOptions {
    /// Whether callers can ask for the contract itself.
    pub reflection: bool,
    /// Whether Envoy may ask whether requests may go on.
    pub envoy: bool,
    /// For calls that bring no deadline.
    pub default_deadline: Duration,
    /// The same for calls of the Web API.
    pub web_api_timeout: Duration,
    /// Connections are ended after this, so that callers spread over new replicas.
    pub max_connection_age: Duration,
    /// Ends TLS on the listener; `None` is plain text.
    pub tls: Option<Arc<ServerTls>>,
    /// The proxies in front.
    pub proxies: FrontProxies,
    /// The memory of calls that nothing was permitted to yet, which all listeners share.
    pub intake: Arc<IntakeBudget>,
}

/// Why the listener ended, or never began.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The contract compiled into the program cannot be read.
    #[error("the compiled contract cannot be read: {0}")]
    Contract(#[from] prost::DecodeError),
    /// Reflection cannot be set up.
    #[error("reflection cannot be set up: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The listener failed.
    #[error("the gRPC listener failed: {0}")]
    Transport(#[from] tonic::transport::Error),
    /// There are no threads to be had.
    #[error("the threads of the gRPC listener cannot be started: {0}")]
    Threads(#[from] io::Error),
    /// A thread ended that should not.
    #[error("gRPC: {0}")]
    WorkerEnded(#[from] WorkerEnded),
}

/// What stands around every call.
type HttpServer = Server<tower::layer::util::Stack<Around, tower::layer::util::Identity>>;

/// Limits the messages of a service, and accepts gzip. A limit holds before and after decompression, which stops there.
macro_rules! limited {
    ($server:expr, $largest:expr) => {
        $server
            .accept_compressed(CompressionEncoding::Gzip)
            .max_decoding_message_size($largest)
            .max_encoding_message_size(MAX_MESSAGE_BYTES.max($largest))
    };
}

/// The services on a bound socket, not yet accepting.
pub struct GrpcServer {
    listener: TcpListener,
    tls: Option<Arc<ServerTls>>,
    proxies: FrontProxies,
    intake: Arc<IntakeBudget>,
    server: HttpServer,
    routes: Routes,
    health: Health,
    access: Arc<Access>,
    calls: TaskTracker,
    cut_off: CancellationToken,
}

impl GrpcServer {
    /// Puts the services on the socket. They are `NOT_SERVING` until [`Self::health`] says otherwise.
    ///
    /// # Errors
    /// If the compiled contract is damaged.
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
        let surroundings = Surroundings {
            access: Arc::clone(&access),
            audit: Arc::clone(&services.audit),
            ids: RequestIds::new(clock, &*random),
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
            .add_service(limited!(TokenServiceServer::new(token::Tokens(of())), MAX_MESSAGE_BYTES))
            .add_service(limited!(
                ImpersonationServiceServer::new(impersonation::Impersonations(of())),
                MAX_MESSAGE_BYTES
            ))
            .add_service(limited!(
                TenantServiceServer::new(tenant::Tenants(of())),
                MAX_MESSAGE_BYTES
            ))
            .add_service(limited!(
                AssociateServiceServer::new(associate::Associates(of())),
                MAX_MESSAGE_BYTES
            ))
            .add_service(limited!(
                AccessServiceServer::new(access::Accesses(of())),
                MAX_MESSAGE_BYTES
            ))
            .add_service(limited!(AuditServiceServer::new(audit::Audits(of())), MAX_MESSAGE_BYTES))
            .add_service(limited!(
                ApplicationServiceServer::new(application::Applications(of())),
                MAX_MESSAGE_BYTES
            ))
            .add_service(limited!(
                WebApiServiceServer::new(web_api::WebApis(of())),
                web_api::MAX_CALL_BYTES
            ));
        if options.envoy {
            routes.add_service(limited!(
                AuthorizationServer::new(envoy::Authorizations(services)),
                MAX_MESSAGE_BYTES
            ));
        }
        if options.reflection {
            // With the messages of error details, so that grpcurl can print them.
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
            .layer(Around::new(surroundings));
        let routes = routes.routes();
        let GrpcOptions { tls, proxies, intake, .. } = options;
        Ok(Self { listener, tls, proxies, intake, server, routes, health, access, calls, cut_off })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// If the socket is gone.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Tells callers whether to come.
    #[must_use]
    pub fn health(&self) -> Health {
        self.health.clone()
    }

    /// Ends calls of the Web API that have no answer yet, each with a status, when it is cancelled.
    #[must_use]
    pub fn cut_off(&self) -> CancellationToken {
        self.cut_off.clone()
    }

    /// Serves until `stop`, then sends GOAWAY and returns when the calls under way have ended. What is not open yet
    /// is dropped, and a peer that answers nothing is not waited for.
    ///
    /// # Errors
    /// If the listener fails.
    pub async fn serve(self, stop: CancellationToken) -> Result<(), ServeError> {
        let (opened, incoming) = mpsc::channel(OPENED_CONNECTIONS);
        let tls = self.tls;
        let acceptor = Acceptor {
            name: "grpc",
            speaks: Speaks::Http2,
            listener: self.listener,
            tls: tls.clone(),
            proxies: self.proxies,
            strangers: STRANGERS,
            intake: self.intake,
            stop: stop.clone(),
        };
        let (http, routes, access, end) = (self.server, self.routes, self.access, stop.clone());
        let serve = move |incoming: Incoming| {
            let services = http.clone().add_routes(routes.clone());
            let access = Arc::clone(&access);
            let incoming =
                incoming.map(move |connection| Ok::<_, io::Error>(called(connection, &access)));
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
            tokio::time::sleep(LAST_WORDS).await;
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
        workers.end().await;
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
    /// Serving.
    pub async fn serving(&self) {
        self.set(ServingStatus::Serving).await;
    }

    /// Not serving: do not come.
    pub async fn not_serving(&self) {
        self.set(ServingStatus::NotServing).await;
    }

    /// Ends the streams of those who watch it, which would keep their connections open for ever.
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

/// `service/method` of all RPCs of the contract, of Envoy's question, and of those that every gRPC server has.
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
