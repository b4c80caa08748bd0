//! The gRPC listener: its services and limits.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use tokio::{net::TcpListener, sync::mpsc};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{service::Routes, transport::Server};

use super::{
    handlers::Handlers,
    health::Health,
    layer::{CallLayer, LayerDependencies},
    limits::{MAX_PUBLIC_MESSAGE_BYTES, STREAM_WINDOW, with_limits},
    peer::with_peer,
    reflection::{add_reflection, methods},
};
use crate::{
    access::Access,
    audit::ThreadWaker,
    listen::{
        Acceptor, FrontProxies, Incoming, IntakeBudget, MAX_CANCELLED_STREAMS, MAX_STREAM_ERRORS,
        Protocol, RequestIdGenerator, ServerTls, WorkerEnded, Workers,
    },
    ports::{Clock, Meter, Random},
};

/// The maximum number of concurrent calls on a connection; more wait in the client.
const MAX_CONCURRENT_STREAMS: u32 = 1024;

/// The bytes that a client may send before the gateway has read them, on all streams of a connection together.
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// The maximum number of connections without a permitted request. With TLS, buffers and a half-sent header block of
/// [`MAX_HEADER_LIST_BYTES`] each takes about 100 KiB.
const MAX_UNAUTHORIZED_CONNECTIONS: usize = 128;

/// The maximum size of a call's metadata, including the token. A token that is too large gets a clear status up to this
/// limit; above it, HTTP/2 refuses the call (431, or the connection ends).
const MAX_HEADER_LIST_BYTES: u32 = 64 * 1024;

/// The time without traffic after which the gateway sends a keep-alive ping.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// The time for the answer to a keep-alive ping.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// The capacity of the queue of opened connections between the accept loop and the workers.
const CONNECTION_QUEUE: usize = 16;

/// The time to send the last answers at shutdown. Then connections are closed, because callers could keep streams open
/// that the gateway does not end (reflection).
const FLUSH_TIME: Duration = Duration::from_secs(1);

/// The configuration of the listener.
#[derive(Debug, Clone)]
pub struct GrpcOptions {
    /// Whether to serve reflection.
    pub reflection: bool,
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
    /// The memory budget of unauthorized calls, which all listeners share.
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
        handlers: Handlers,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        meter: Arc<dyn Meter>,
        options: GrpcOptions,
    ) -> Result<Self, ServeError> {
        let (reporter, health_service) = tonic_health::server::health_reporter();
        let services = handlers.service_names();
        let health = Health::new(reporter, Arc::clone(&services));
        health.set_not_serving().await;
        let common = Arc::clone(&handlers.common);
        let access = Arc::clone(&common.access);
        let (calls, cut_off) = (TaskTracker::new(), CancellationToken::new());
        let layer = CallLayer::new(LayerDependencies {
            access: Arc::clone(&access),
            audit: Arc::clone(&common.audit),
            ids: RequestIdGenerator::new(clock, &*random),
            meter,
            default_deadline: options.default_deadline,
            web_api_timeout: options.web_api_timeout,
            cut_off: cut_off.clone(),
            calls: calls.clone(),
            trusted: options.proxies.trusted.clone(),
            stopping: common.stopping.clone(),
            max_connection_age: options.max_connection_age,
            methods: methods()?,
        });
        let mut routes = Routes::builder();
        routes.add_service(with_limits!(health_service, MAX_PUBLIC_MESSAGE_BYTES));
        handlers.add_to(&mut routes);
        if options.reflection {
            add_reflection(&mut routes, &services)?;
        }
        let (routes, server) = (routes.routes(), tonic_server(options.max_connection_age, layer));
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
            unauthorized_connections: MAX_UNAUTHORIZED_CONNECTIONS,
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
                    () = ThreadWaker::serve() => Ok(()),
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

/// Returns the server with its limits and the layer of every call.
fn tonic_server(max_connection_age: Duration, layer: CallLayer) -> TonicServer {
    Server::builder()
        .http2_keepalive_interval(Some(KEEP_ALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEP_ALIVE_TIMEOUT))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .http2_max_header_list_size(Some(MAX_HEADER_LIST_BYTES))
        .max_concurrent_streams(Some(MAX_CONCURRENT_STREAMS))
        .http2_max_pending_accept_reset_streams(Some(MAX_CANCELLED_STREAMS))
        .http2_max_local_error_reset_streams(Some(MAX_STREAM_ERRORS))
        .max_connection_age(max_connection_age)
        .layer(layer)
}
