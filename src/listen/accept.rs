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
    ALPN_HTTP_2, FrontProxies, ServerTls, Speaks,
    connection::{Connection, Protocol, Stream},
    places::{Place, Places},
    proxy_protocol::{ProxyHeaderRefused, read_client, refuse_header},
};

/// From the first packet to the first words. Who takes longer is no client of ours.
const OPENING_TIME: Duration = Duration::from_secs(10);

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
    #[error("its address has as many connections as one address may have")]
    Crowded,
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
    /// Connections that one address may have; more are closed.
    pub of_one_address: usize,
    /// Ends it.
    pub stop: CancellationToken,
}

/// How each connection is opened.
#[derive(Clone)]
struct Opening {
    speaks: Speaks,
    tls: Option<Arc<ServerConfig>>,
    /// Whether the peer has to be asked for a header of the PROXY protocol, or must not send one.
    header: Header,
    places: Places,
    stop: CancellationToken,
}

/// How a connection begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Header {
    /// As its protocol says: the listener does not expect the PROXY protocol.
    Unexpected,
    /// With a header of the PROXY protocol, because the peer is a trusted proxy.
    Required,
    /// Without one, because the peer is not trusted.
    Forbidden,
}

impl Acceptor {
    /// Hands over each connection that was opened, until it is stopped or nobody takes them any more.
    pub async fn run(self, opened: mpsc::Sender<Connection>) {
        // Dropped at the end, and with it whatever is not open yet.
        let mut openings = JoinSet::new();
        let mut complaints = Complaints::of(self.name);
        let places = Places::of_each(self.of_one_address);
        loop {
            tokio::select! {
                () = self.stop.cancelled() => break,
                () = opened.closed() => break,
                Some(ended) = openings.join_next() => {
                    if let Ok(Some((peer, refused))) = ended {
                        complaints.refused(peer, &refused);
                    }
                }
                accepted = self.listener.accept(), if openings.len() < MAX_OPENINGS => {
                    match accepted {
                        Ok((tcp, peer)) => {
                            let header = self.header_of(peer);
                            // Behind a proxy the client is not known yet, whose address has the place.
                            let place = (header != Header::Required).then(|| places.take(peer.ip()));
                            if let Some(None) = place {
                                complaints.refused(peer, &Refused::Crowded);
                                continue;
                            }
                            let tls = self.tls.as_ref().map(|tls| tls.in_force());
                            let (stop, places) = (self.stop.clone(), places.clone());
                            let opening = Opening { speaks: self.speaks, tls, header, places, stop };
                            let place = place.flatten();
                            openings.spawn(hand_over((tcp, place), peer, opening, opened.clone()));
                        }
                        Err(error) if is_of_one_connection(&error) => {}
                        Err(error) => {
                            complaints.cannot_accept(&error);
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

impl Acceptor {
    fn header_of(&self, peer: SocketAddr) -> Header {
        let FrontProxies { trusted, protocol } = &self.proxies;
        match (*protocol, trusted.contains(peer.ip())) {
            (false, _) => Header::Unexpected,
            (true, true) => Header::Required,
            (true, false) => Header::Forbidden,
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

async fn hand_over(
    (mut tcp, place): (TcpStream, Option<Place>),
    peer: SocketAddr,
    opening: Opening,
    opened: mpsc::Sender<Connection>,
) -> Option<(SocketAddr, Refused)> {
    let (address, place) = match place {
        Some(place) => (peer, place),
        None => match read_client(&mut tcp, peer).await {
            Ok(client) => match opening.places.take(client.ip()) {
                Some(place) => (client, place),
                None => return Some((client, Refused::Crowded)),
            },
            Err(refused) => return Some((peer, refused.into())),
        },
    };
    let tcp = (tcp, place);
    match timeout(OPENING_TIME, open(tcp, address, opening)).await {
        Ok(Ok(connection)) => {
            // Nobody takes it: we are stopping.
            let _ = opened.send(connection).await;
            None
        }
        Ok(Err(refused)) => Some((address, refused)),
        Err(_) => Some((address, Refused::Gone)),
    }
}

impl From<ProxyHeaderRefused> for Refused {
    fn from(refused: ProxyHeaderRefused) -> Self {
        match refused {
            ProxyHeaderRefused::Gone(_) => Self::Gone,
            refused => Self::ProxyHeader(refused),
        }
    }
}

async fn open(
    (tcp, place): (TcpStream, Place),
    address: SocketAddr,
    opening: Opening,
) -> Result<Connection, Refused> {
    let Opening { speaks, tls, header, stop, .. } = opening;
    if header == Header::Forbidden {
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
    let begun = Connection::begin(stream, address, place, stop).await.map_err(handshake_failed)?;
    if speaks == Speaks::Http2 && begun.protocol() != Protocol::Http2 {
        return Err(Refused::NotHttp2);
    }
    Ok(begun)
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
