//! Letting clients in: from a TCP connection to one that speaks, through TLS where it is configured.

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
    ALPN_HTTP_2, FrontProxies, IntakeBudget, ServerTls, Speaks,
    connection::{Connection, Protocol, Stream},
    connection_limiter::{ConnectionLimiter, ConnectionSlot, TooManyConnections},
    proxy_protocol::{ProxyHeaderRefused, read_client, refuse_header},
    tls::ClientTrust,
    waiting_room::WaitingRoom,
};

/// From the first packet to the first words. Who takes longer is no client of ours.
pub(super) const OPENING_TIME: Duration = Duration::from_secs(10);

/// Connections that are being opened at one time; others wait in the listener's queue.
const MAX_OPENINGS: usize = 1024;

/// When the system has no more sockets to give, asking at once again only heats the processor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Who knocks with the wrong key can do so often: this often it is worth a line.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(1);

/// Why a connection was not let in.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("the peer left, or was silent too long")]
    Gone,
    #[error("{0}")]
    Handshake(io::Error),
    #[error("the client did not agree on HTTP/2 (ALPN h2)")]
    NoHttp2,
    #[error("the client does not speak HTTP/2")]
    NotHttp2,
    #[error(transparent)]
    TooMany(#[from] TooManyConnections),
    #[error("it had not finished opening when another address needed its slot")]
    Evicted,
    #[error(transparent)]
    ProxyHeader(ProxyHeaderRefused),
}

/// The accept loop. Everything that it starts ends with it.
pub struct Acceptor {
    /// The section of the configuration that it stands in.
    pub name: &'static str,
    /// What is spoken.
    pub speaks: Speaks,
    /// Where clients come.
    pub listener: TcpListener,
    /// Ends TLS; `None` is plain text.
    pub tls: Option<Arc<ServerTls>>,
    /// The proxies in front.
    pub proxies: FrontProxies,
    /// The number of connections without a permitted request.
    pub strangers: usize,
    /// The memory of their requests.
    pub intake: Arc<IntakeBudget>,
    /// Ends it.
    pub stop: CancellationToken,
}

/// How each connection is opened.
#[derive(Clone)]
struct Opening {
    speaks: Speaks,
    tls: Option<Arc<ServerConfig>>,
    client_trust: Option<Arc<ClientTrust>>,
    /// Whether the listener expects the PROXY protocol.
    protocol: bool,
    stop: CancellationToken,
}

/// Connections on their way to a slot, and from there to their server.
struct Arrivals {
    limiter: ConnectionLimiter,
    waiting: WaitingRoom,
    openings: JoinSet<Option<(SocketAddr, Refused)>>,
    complaints: Complaints,
    opened: mpsc::Sender<Connection>,
}

impl Arrivals {
    /// Opens a connection, or lets it wait for a slot. `client` is where its client is.
    fn admit(&mut self, tcp: TcpStream, client: SocketAddr, opening: Opening) {
        match self.limiter.take(client.ip()) {
            Ok(slot) => self.open((tcp, slot), client, opening),
            Err(_) => {
                if let Err(too_many) = self.waiting.enter(tcp, client) {
                    self.complaints.refused(client, &too_many.into());
                }
            }
        }
    }

    fn open(
        &mut self,
        tcp: (TcpStream, Arc<ConnectionSlot>),
        client: SocketAddr,
        opening: Opening,
    ) {
        self.openings.spawn(hand_over(tcp, client, opening, self.opened.clone()));
    }
}

impl Acceptor {
    fn opening(&self) -> Opening {
        let tls = self.tls.as_ref().map(|tls| tls.in_force());
        let client_trust = self.tls.as_ref().and_then(|tls| tls.client_trust());
        let protocol = self.proxies.protocol;
        Opening { speaks: self.speaks, tls, client_trust, protocol, stop: self.stop.clone() }
    }

    /// Takes a connection. On a listener for both families an IPv4 client has an IPv4-mapped address.
    async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (tcp, peer) = self.listener.accept().await?;
        Ok((tcp, SocketAddr::new(peer.ip().to_canonical(), peer.port())))
    }

    /// Whether a connection begins with a header of the PROXY protocol, which says where its client is.
    fn expects_header(&self, peer: SocketAddr) -> bool {
        self.proxies.protocol && self.proxies.trusted.contains(peer.ip())
    }

    /// Hands over each connection that was opened, until it is stopped or nobody takes them any more.
    pub async fn run(self, opened: mpsc::Sender<Connection>) {
        // Dropped at the end, and with it whatever is not open yet.
        let mut arrivals = Arrivals {
            limiter: ConnectionLimiter::new(self.strangers, Arc::clone(&self.intake)),
            waiting: WaitingRoom::default(),
            openings: JoinSet::new(),
            complaints: Complaints::of(self.name),
            opened: opened.clone(),
        };
        // Connections of trusted proxies whose client is not known yet. They have no slot, which is the client's.
        let mut headers = JoinSet::new();
        loop {
            tokio::select! {
                () = self.stop.cancelled() => break,
                () = opened.closed() => break,
                () = arrivals.waiting.pause() => {
                    for (tcp, client, slot) in arrivals.waiting.admitted(&arrivals.limiter) {
                        arrivals.open((tcp, slot), client, self.opening());
                    }
                }
                Some(ended) = arrivals.openings.join_next() => {
                    if let Ok(Some((client, refused))) = ended {
                        arrivals.complaints.refused(client, &refused);
                    }
                }
                Some(read) = headers.join_next() => {
                    match read {
                        Ok(Ok((tcp, client))) => arrivals.admit(tcp, client, self.opening()),
                        Ok(Err((peer, refused))) => arrivals.complaints.refused(peer, &refused),
                        Err(_) => {}
                    }
                }
                accepted = self.accept(),
                    if arrivals.openings.len() + headers.len() < MAX_OPENINGS =>
                {
                    match accepted {
                        Ok((tcp, peer)) if self.expects_header(peer) => {
                            headers.spawn(client_of(tcp, peer));
                        }
                        Ok((tcp, peer)) => arrivals.admit(tcp, peer, self.opening()),
                        Err(error) if is_of_one_connection(&error) => {}
                        Err(error) => {
                            arrivals.complaints.cannot_accept(&error);
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

/// What went wrong with one that was in the queue; the next may be fine (accept(2)).
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

/// Reads where the client of a trusted proxy is.
async fn client_of(
    mut tcp: TcpStream,
    proxy: SocketAddr,
) -> Result<(TcpStream, SocketAddr), (SocketAddr, Refused)> {
    let client = read_client(&mut tcp, proxy).await;
    client.map(|client| (tcp, client)).map_err(|refused| (proxy, refused.into()))
}

impl From<ProxyHeaderRefused> for Refused {
    fn from(refused: ProxyHeaderRefused) -> Self {
        match refused {
            ProxyHeaderRefused::Gone(_) => Self::Gone,
            refused => Self::ProxyHeader(refused),
        }
    }
}

async fn hand_over(
    tcp: (TcpStream, Arc<ConnectionSlot>),
    address: SocketAddr,
    opening: Opening,
    opened: mpsc::Sender<Connection>,
) -> Option<(SocketAddr, Refused)> {
    let evicted = tcp.1.evicted().clone();
    let opening = timeout(OPENING_TIME, open(tcp, address, opening));
    let Some(opening) = evicted.run_until_cancelled(opening).await else {
        return Some((address, Refused::Evicted));
    };
    match opening {
        Ok(Ok(connection)) => {
            // Nobody takes it: we are stopping.
            let _ = opened.send(connection).await;
            None
        }
        Ok(Err(refused)) => Some((address, refused)),
        Err(_) => Some((address, Refused::Gone)),
    }
}

async fn open(
    (tcp, slot): (TcpStream, Arc<ConnectionSlot>),
    address: SocketAddr,
    opening: Opening,
) -> Result<Connection, Refused> {
    let Opening { speaks, tls, client_trust, protocol, stop } = opening;
    if protocol {
        // The header of a trusted proxy has been read. Any other is forged.
        refuse_header(&tcp).await?;
    }
    // Answers are small, and somebody waits for each.
    tcp.set_nodelay(true).map_err(|_| Refused::Gone)?;
    let stream = match tls {
        None => Stream::Plain(tcp),
        Some(config) => {
            let tls = TlsAcceptor::from(config).accept(tcp).await.map_err(handshake_failed)?;
            let (_, session) = tls.get_ref();
            if speaks == Speaks::Http2 && session.alpn_protocol() != Some(ALPN_HTTP_2) {
                return Err(Refused::NoHttp2);
            }
            Stream::Tls(Box::new(tls))
        }
    };
    let shown = client_trust.and_then(|trust| stream.shown_chain(trust));
    let begun = Connection::begin(stream, address, slot, stop).await.map_err(handshake_failed)?;
    if speaks == Speaks::Http2 && begun.protocol() != Protocol::Http2 {
        return Err(Refused::NotHttp2);
    }
    Ok(begun.showing(shown))
}

/// Probes that only look whether the port is open come every few seconds.
fn handshake_failed(error: io::Error) -> Refused {
    match error.kind() {
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::BrokenPipe => Refused::Gone,
        _ => Refused::Handshake(error),
    }
}

/// One line a second at most.
struct Complaints {
    listener: &'static str,
    next: Option<Instant>,
    left_out: u64,
}

impl Complaints {
    fn of(listener: &'static str) -> Self {
        Self { listener, next: None, left_out: 0 }
    }

    fn refused(&mut self, peer: SocketAddr, refused: &Refused) {
        let listener = self.listener;
        if matches!(refused, Refused::Gone) {
            tracing::debug!(listener, %peer, why = %refused, "connection not opened");
        } else if let Some(left_out) = self.due() {
            tracing::info!(listener, %peer, why = %refused, left_out, "connection refused");
        }
    }

    fn cannot_accept(&mut self, error: &io::Error) {
        if let Some(left_out) = self.due() {
            let listener = self.listener;
            tracing::error!(listener, %error, left_out, "cannot accept connections; trying again");
        }
    }

    /// How many lines were left out since the last, if it is time for one.
    fn due(&mut self) -> Option<u64> {
        let now = Instant::now();
        if self.next.is_some_and(|next| now < next) {
            self.left_out += 1;
            return None;
        }
        self.next = Some(now + COMPLAINT_INTERVAL);
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests;
