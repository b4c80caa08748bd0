//! `[egress]`: the listener through which services call SuperOffice without a SuperOffice credential.
//!
//! The gateway forwards `{method} /{application}/{tenant}/api/…` to the tenant's Web API and adds the credential.
//! `request` validates the request, `proxy_handler` authorizes and forwards it, `answer` returns the answer, and
//! `call_record` writes the audit events and the log line.

mod answer;
mod call_record;
mod failure;
mod peer;
mod proxy_handler;
mod request;
mod stalled_clients;

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::{body::Body, response::Response};
use hyper::{HeaderMap, Request};
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::proxy_handler::EgressRules;
use self::{
    call_record::CallRecorder, peer::Peer, proxy_handler::ProxyHandler,
    stalled_clients::StalledClientTimeout,
};
use super::http_server::{
    ConnectionLimits, HttpServer, RequestBody, RequestHandler, ThreadsFailed,
};
use crate::{
    access::Access,
    audit::{Trail, UnauthenticatedAttempts},
    broker::Egress,
    listen::{
        Connection, FrontProxies, IntakeBudget, RequestIdGenerator, ServerTls, client_address,
    },
    ports::{Clock, CopyBudget, Meter, Random},
};

/// The maximum number of concurrent requests on an HTTP/2 connection, and the bytes that each may send before a read.
const STREAMS: u32 = 128;
const STREAM_WINDOW: u32 = 64 * 1024;

/// The limits of the listener. Services keep connections open between calls and transfer documents.
const LIMITS: ConnectionLimits = ConnectionLimits {
    connections: 8192,
    unauthorized_connections: 128,
    max_streams: STREAMS,
    stream_window: STREAM_WINDOW,
    // Enough for all streams, so that a waiting upload does not block others. A connection uses up to 8 MiB if all
    // uploads wait, but only for permitted calls: bodies of refused requests are not kept.
    connection_window: STREAMS * STREAM_WINDOW,
    head_timeout: Duration::from_mins(1),
    write_timeout: Duration::from_secs(30),
    max_age: Duration::from_mins(30),
    // A document may take this long to transfer.
    shutdown_timeout: Duration::from_hours(1),
};

/// The memory budget for copies of request bodies of unknown length, of up to 64 KiB each.
const COPIES_BYTES: usize = 32 * 1024 * 1024;

/// The dependencies of the listener.
pub struct EgressPorts {
    /// Authenticates callers and checks policy.
    pub access: Arc<Access>,
    /// Calls SuperOffice.
    pub egress: Arc<Egress>,
    /// The audit trail.
    pub trail: Arc<Trail>,
    /// Counts failed authentications by client address.
    pub attempts: Arc<UnauthenticatedAttempts>,
    /// The clock for request ids.
    pub clock: Arc<dyn Clock>,
    /// The random source for request ids.
    pub random: Arc<dyn Random>,
    /// Counts requests.
    pub meter: Arc<dyn Meter>,
    /// The memory budget of unauthorized requests.
    pub intake: Arc<IntakeBudget>,
}

/// The egress proxy on a bound socket, before it accepts connections.
pub struct EgressServer {
    listener: TcpListener,
    tls: Option<Arc<ServerTls>>,
    proxies: FrontProxies,
    intake: Arc<IntakeBudget>,
    handler: Arc<ProxyHandler>,
    requests: TaskTracker,
}

impl EgressServer {
    /// Creates the server.
    #[must_use]
    pub fn new(
        listener: TcpListener,
        tls: Option<Arc<ServerTls>>,
        proxies: FrontProxies,
        rules: EgressRules,
        ports: EgressPorts,
    ) -> Self {
        let requests = TaskTracker::new();
        let EgressPorts { access, egress, trail, attempts, clock, random, meter, intake } = ports;
        let ids = RequestIdGenerator::new(clock, &*random);
        let handler = ProxyHandler {
            access,
            egress,
            recorder: Arc::new(CallRecorder { trail, meter, calls: requests.clone() }),
            attempts,
            ids,
            rules,
            trusted: proxies.trusted.clone(),
            stalled_clients: StalledClientTimeout::default(),
            copies: CopyBudget::new(COPIES_BYTES),
            cut_off: CancellationToken::new(),
        };
        Self { listener, tls, proxies, intake, handler: Arc::new(handler), requests }
    }

    /// Returns the local address.
    ///
    /// # Errors
    /// If the operating system does not return it.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Returns the tracker of running calls, each of which writes an audit event when it ends.
    #[must_use]
    pub fn requests(&self) -> TaskTracker {
        self.requests.clone()
    }

    /// Returns a token. Cancelling it ends calls without an answer, each with a problem document.
    #[must_use]
    pub fn cut_off(&self) -> CancellationToken {
        self.handler.cut_off.clone()
    }

    /// Serves until `stop`, then shuts connections down gracefully and returns when the running requests are answered.
    ///
    /// # Errors
    /// If its threads cannot be started, or end unexpectedly.
    pub async fn serve(self, stop: CancellationToken) -> Result<(), ThreadsFailed> {
        let Self { listener, tls, proxies, intake, handler, requests } = self;
        let (name, limits, handler_for_checks) = ("egress", LIMITS, Arc::clone(&handler));
        let server = HttpServer { name, listener, tls, proxies, intake, limits, handler, requests };
        tokio::select! {
            ended = server.serve_on_threads(stop) => ended,
            () = handler_for_checks.stalled_clients.run() => Ok(()),
        }
    }
}

impl RequestHandler for Arc<ProxyHandler> {
    type Peer = Peer;

    fn peer<A>(&self, connection: &Connection<A>) -> Peer {
        let address = connection.address().ip().to_canonical();
        let certificate = connection.client_certificate();
        Peer {
            address,
            text: address.to_string().into(),
            certificate: certificate.map(|shown| Arc::new(self.access.read_certificate(shown))),
        }
    }

    fn client_address(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        client_address(&self.trusted, peer, headers).unwrap_or(peer)
    }

    async fn answer(self, peer: Peer, request: Request<RequestBody>) -> Response<Body> {
        self.proxy(peer, request).await
    }
}
