//! The accept loop: accepts TCP connections, performs the TLS handshake, and detects the HTTP version.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::{
    ALPN_HTTP_2, FrontProxies, IntakeBudget, OPENING_TIME, Protocol, ServerTls,
    connection::{Connection, HttpVersion, Stream},
    connection_limiter::{ConnectionLimiter, ConnectionSlot},
    proxy_protocol::{ProxyHeaderError, read_client, reject_header},
    tls::ClientTrust,
    waiting_room::{QueueFull, WaitingConnections},
};

/// The maximum number of connections in handshake; others wait in the listen queue of the system.
const MAX_OPENINGS: usize = 1024;

/// The wait after the system has no more sockets; without it, the loop would only use processor time.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The minimum time between two log lines about rejected connections.
const LOG_INTERVAL: Duration = Duration::from_secs(1);

/// The reason why a connection was rejected.
#[derive(Debug, thiserror::Error)]
enum RejectReason {
    #[error("the client disconnected, or was silent for too long")]
    Disconnected,
    #[error("{0}")]
    Handshake(io::Error),
    #[error("the client did not negotiate HTTP/2 (ALPN h2)")]
    AlpnWithoutHttp2,
    #[error("the client did not send HTTP/2")]
    NotHttp2,
    #[error(transparent)]
    QueueFull(#[from] QueueFull),
    #[error("the handshake was not complete when another address needed the connection slot")]
    Evicted,
    #[error(transparent)]
    ProxyHeader(ProxyHeaderError),
}

/// The accept loop of one listener. Everything that it starts ends with it.
pub struct Acceptor {
    /// The configuration section of the listener, used in logs.
    pub name: &'static str,
    /// The accepted HTTP versions.
    pub protocol: Protocol,
    /// The listening socket.
    pub listener: TcpListener,
    /// The TLS settings; `None` is plain text.
    pub tls: Option<Arc<ServerTls>>,
    /// The proxies in front of the listener.
    pub proxies: FrontProxies,
    /// The limit of connections without a permitted request.
    pub unauthorized_connections: usize,
    /// The memory budget of unauthorized requests.
    pub intake: Arc<IntakeBudget>,
    /// Stops the accept loop.
    pub stop: CancellationToken,
}

/// The settings for opening a connection.
#[derive(Clone)]
struct OpeningSettings {
    protocol: Protocol,
    tls: Option<Arc<ServerConfig>>,
    client_trust: Option<Arc<ClientTrust>>,
    /// Whether the listener expects the PROXY protocol.
    proxy_protocol: bool,
    stop: CancellationToken,
}

/// Connections that wait for a slot or are being opened.
struct Admission {
    limiter: ConnectionLimiter,
    waiting: WaitingConnections,
    openings: JoinSet<Option<(SocketAddr, RejectReason)>>,
    reject_log: RejectLog,
    opened: mpsc::Sender<Connection>,
}

impl Admission {
    /// Opens a connection, or queues it until a slot is free. `client` is the address of the client.
    fn admit(&mut self, tcp: TcpStream, client: SocketAddr, opening: OpeningSettings) {
        match self.limiter.take(client.ip()) {
            Ok(slot) => self.open((tcp, slot), client, opening),
            Err(_) => {
                if let Err(full) = self.waiting.push(tcp, client) {
                    self.reject_log.log_rejection(client, &full.into());
                }
            }
        }
    }

    fn open(
        &mut self,
        tcp: (TcpStream, Arc<ConnectionSlot>),
        client: SocketAddr,
        opening: OpeningSettings,
    ) {
        self.openings.spawn(open_and_send(tcp, client, opening, self.opened.clone()));
    }
}

impl Acceptor {
    fn opening_settings(&self) -> OpeningSettings {
        let tls = self.tls.as_ref().map(|tls| tls.current_config());
        let client_trust = self.tls.as_ref().and_then(|tls| tls.client_trust());
        let (protocol, proxy_protocol) = (self.protocol, self.proxies.proxy_protocol);
        OpeningSettings { protocol, tls, client_trust, proxy_protocol, stop: self.stop.clone() }
    }

    /// Accepts a connection. Turns the IPv4-mapped address of an IPv4 client on an IPv6 listener into its IPv4 address.
    async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (tcp, peer) = self.listener.accept().await?;
        Ok((tcp, SocketAddr::new(peer.ip().to_canonical(), peer.port())))
    }

    /// Returns whether a connection must begin with a PROXY protocol header.
    fn expects_proxy_header(&self, peer: SocketAddr) -> bool {
        self.proxies.proxy_protocol && self.proxies.trusted.contains(peer.ip())
    }

    /// Sends each opened connection to `opened`, until the loop is stopped or the receiver is dropped.
    pub async fn run(self, opened: mpsc::Sender<Connection>) {
        // Dropped at the end, with all connections that are not open yet.
        let mut admission = Admission {
            limiter: ConnectionLimiter::new(
                self.unauthorized_connections,
                Arc::clone(&self.intake),
            ),
            waiting: WaitingConnections::default(),
            openings: JoinSet::new(),
            reject_log: RejectLog::new(self.name),
            opened: opened.clone(),
        };
        // Connections of trusted proxies whose header is not read yet. They take no slot: slots belong to clients.
        let mut headers = JoinSet::new();
        loop {
            tokio::select! {
                () = self.stop.cancelled() => break,
                () = opened.closed() => break,
                () = admission.waiting.wait_for_next_check() => {
                    for (tcp, client, slot) in admission.waiting.take_admitted(&admission.limiter) {
                        admission.open((tcp, slot), client, self.opening_settings());
                    }
                }
                Some(ended) = admission.openings.join_next() => {
                    if let Ok(Some((client, reason))) = ended {
                        admission.reject_log.log_rejection(client, &reason);
                    }
                }
                Some(read) = headers.join_next() => {
                    match read {
                        Ok(Ok((tcp, client))) => admission.admit(tcp, client, self.opening_settings()),
                        Ok(Err((peer, reason))) => admission.reject_log.log_rejection(peer, &reason),
                        Err(_) => {}
                    }
                }
                accepted = self.accept(),
                    if admission.openings.len() + headers.len() < MAX_OPENINGS =>
                {
                    match accepted {
                        Ok((tcp, peer)) if self.expects_proxy_header(peer) => {
                            headers.spawn(read_proxy_header(tcp, peer));
                        }
                        Ok((tcp, peer)) => admission.admit(tcp, peer, self.opening_settings()),
                        Err(error) if concerns_one_connection(&error) => {}
                        Err(error) => {
                            admission.reject_log.log_accept_error(&error);
                            tokio::select! {
                                () = self.stop.cancelled() => break,
                                () = sleep(ACCEPT_PAUSE) => {}
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Returns whether an error of accept(2) concerns only the one connection; the next accept may succeed.
fn concerns_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

/// Reads the client's address from the header of a trusted proxy.
async fn read_proxy_header(
    mut tcp: TcpStream,
    proxy: SocketAddr,
) -> Result<(TcpStream, SocketAddr), (SocketAddr, RejectReason)> {
    let client = read_client(&mut tcp, proxy).await;
    client.map(|client| (tcp, client)).map_err(|reason| (proxy, reason.into()))
}

impl From<ProxyHeaderError> for RejectReason {
    fn from(reason: ProxyHeaderError) -> Self {
        match reason {
            ProxyHeaderError::Gone(_) => Self::Disconnected,
            reason => Self::ProxyHeader(reason),
        }
    }
}

async fn open_and_send(
    tcp: (TcpStream, Arc<ConnectionSlot>),
    address: SocketAddr,
    opening: OpeningSettings,
    opened: mpsc::Sender<Connection>,
) -> Option<(SocketAddr, RejectReason)> {
    let evicted = tcp.1.evicted().clone();
    let opening = timeout(OPENING_TIME, open(tcp, address, opening));
    let Some(opening) = evicted.run_until_cancelled(opening).await else {
        return Some((address, RejectReason::Evicted));
    };
    match opening {
        Ok(Ok(connection)) => {
            // Fails only while the server stops.
            let _ = opened.send(connection).await;
            None
        }
        Ok(Err(reason)) => Some((address, reason)),
        Err(_) => Some((address, RejectReason::Disconnected)),
    }
}

async fn open(
    (tcp, slot): (TcpStream, Arc<ConnectionSlot>),
    address: SocketAddr,
    opening: OpeningSettings,
) -> Result<Connection, RejectReason> {
    let OpeningSettings { protocol, tls, client_trust, proxy_protocol, stop } = opening;
    if proxy_protocol {
        // The header of a trusted proxy has been read. Any further header is forged.
        reject_header(&tcp).await?;
    }
    // Responses are small and must not be delayed.
    tcp.set_nodelay(true).map_err(|_| RejectReason::Disconnected)?;
    let stream = match tls {
        None => Stream::Plain(tcp),
        Some(config) => {
            let tls = TlsAcceptor::from(config).accept(tcp).await.map_err(handshake_failed)?;
            let (_, session) = tls.get_ref();
            if protocol == Protocol::Http2 && session.alpn_protocol() != Some(ALPN_HTTP_2) {
                return Err(RejectReason::AlpnWithoutHttp2);
            }
            Stream::Tls(Box::new(tls))
        }
    };
    let chain = client_trust.and_then(|trust| stream.client_chain(trust));
    let connection =
        Connection::detect_version(stream, address, slot, stop).await.map_err(handshake_failed)?;
    if protocol == Protocol::Http2 && connection.version() != HttpVersion::Http2 {
        return Err(RejectReason::NotHttp2);
    }
    Ok(connection.with_client_chain(chain))
}

/// Port probes connect and disconnect every few seconds, so a disconnect is not logged as a failed handshake.
fn handshake_failed(error: io::Error) -> RejectReason {
    match error.kind() {
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::BrokenPipe => RejectReason::Disconnected,
        _ => RejectReason::Handshake(error),
    }
}

/// Logs rejected connections, at most one line each `LOG_INTERVAL`.
struct RejectLog {
    listener: &'static str,
    next: Option<Instant>,
    left_out: u64,
}

impl RejectLog {
    fn new(listener: &'static str) -> Self {
        Self { listener, next: None, left_out: 0 }
    }

    fn log_rejection(&mut self, peer: SocketAddr, reason: &RejectReason) {
        let listener = self.listener;
        if matches!(reason, RejectReason::Disconnected) {
            tracing::debug!(listener, %peer, why = %reason, "connection not opened");
        } else if let Some(left_out) = self.suppressed_if_due() {
            tracing::info!(listener, %peer, why = %reason, left_out, "connection refused");
        }
    }

    fn log_accept_error(&mut self, error: &io::Error) {
        if let Some(left_out) = self.suppressed_if_due() {
            let listener = self.listener;
            tracing::error!(listener, %error, left_out, "cannot accept connections; retrying");
        }
    }

    /// Returns the number of suppressed lines, if the next line is due.
    fn suppressed_if_due(&mut self) -> Option<u64> {
        let now = Instant::now();
        if self.next.is_some_and(|next| now < next) {
            self.left_out += 1;
            return None;
        }
        self.next = Some(now + LOG_INTERVAL);
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests;
