//! A client's connection, in the form that the HTTP server uses.

use std::{
    io::{self, IoSlice},
    net::{IpAddr, SocketAddr},
    os::fd::AsFd as _,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::Sleep,
};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::{
    cancelled::{UNAUTHORIZED_READ_BYTES, charge_read, end_read_turn, poll_read_turn},
    connection_limiter::ConnectionSlot,
    delegate::delegate_writes,
    intake_budget::Reservation,
    tls::{ClientChain, ClientTrust},
};
use crate::ports::PresentedCertificate;

/// The first bytes of every HTTP/2 client (RFC 9113, 3.4).
const HTTP2_PREFACE: [u8; 24] = *b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The time limit for a sign of life during shutdown. GOAWAY is sent with a PING, which a live peer answers.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(3);

/// The HTTP version of a client, by the first bytes that it sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HttpVersion {
    /// Anything that is not HTTP/2.
    Http1,
    /// HTTP/2.
    Http2,
}

/// The decrypted byte stream of a connection.
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// Returns the certificate chain of the client, if it sent one.
    pub(super) fn client_chain(&self, trust: Arc<ClientTrust>) -> Option<Arc<ClientChain>> {
        let Self::Tls(tls) = self else { return None };
        let (_, session) = tls.get_ref();
        ClientChain::new(session.peer_certificates()?, trust).map(Arc::new)
    }
}

/// A connection whose client has sent its first bytes. `A` is data that the server attaches to it.
pub struct Connection<A = ()> {
    stream: Stream,
    address: SocketAddr,
    version: HttpVersion,
    peeked: PeekedBytes,
    shutdown_wait: ShutdownWait,
    slot: EvictableSlot,
    chain: Option<Arc<ClientChain>>,
    attachment: A,
}

/// The first bytes, which were read to detect the version. The server reads them again.
struct PeekedBytes {
    bytes: [u8; HTTP2_PREFACE.len()],
    read: usize,
    replayed: usize,
}

/// The slot of a connection, and its eviction.
struct EvictableSlot {
    held: Arc<ConnectionSlot>,
    evicted: Pin<Box<WaitForCancellationFutureOwned>>,
}

/// A handle to the slot of a connection. Requests charge their memory to the slot. The first permitted request frees
/// the slot for another client.
#[derive(Clone)]
pub struct ClientSlot(Arc<ConnectionSlot>);

/// The wait for the peer during shutdown. A peer that sends nothing is disconnected (hyper#4170).
enum ShutdownWait {
    Serving(Pin<Box<WaitForCancellationFutureOwned>>),
    AwaitingPeer(Pin<Box<Sleep>>),
    /// The peer has sent a sign of life, or its version of HTTP has none.
    NoLimit,
}

impl Connection {
    /// Reads the client's first bytes and detects the HTTP version.
    pub(super) async fn detect_version(
        mut stream: Stream,
        address: SocketAddr,
        slot: Arc<ConnectionSlot>,
        stop: CancellationToken,
    ) -> io::Result<Self> {
        let mut peeked = PeekedBytes { bytes: [0; HTTP2_PREFACE.len()], read: 0, replayed: 0 };
        let mut version = HttpVersion::Http2;
        while let Some(room) = peeked.bytes.get_mut(peeked.read..).filter(|room| !room.is_empty()) {
            let more = stream.read(room).await?;
            if more == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            peeked.read += more;
            if !peeked
                .bytes
                .iter()
                .zip(&HTTP2_PREFACE)
                .take(peeked.read)
                .all(|(byte, wanted)| byte == wanted)
            {
                version = HttpVersion::Http1;
                break;
            }
        }
        let shutdown_wait = match version {
            HttpVersion::Http2 => ShutdownWait::Serving(Box::pin(stop.cancelled_owned())),
            // An HTTP/1.1 client sends nothing while it waits for a response, and there is no PING to probe it with.
            HttpVersion::Http1 => ShutdownWait::NoLimit,
        };
        let slot = EvictableSlot::new(slot);
        let (chain, attachment) = (None, ());
        Ok(Self { stream, address, version, peeked, shutdown_wait, slot, chain, attachment })
    }

    /// Sets the certificate chain of the client.
    pub(super) fn with_client_chain(self, chain: Option<Arc<ClientChain>>) -> Self {
        Self { chain, ..self }
    }
}

impl<A> Connection<A> {
    /// Returns the address of the client.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the HTTP version of the client.
    #[must_use]
    pub fn version(&self) -> HttpVersion {
        self.version
    }

    /// Returns the client's certificate, which was verified against `client_ca_file`.
    #[must_use]
    pub fn client_certificate(&self) -> Option<Arc<dyn PresentedCertificate>> {
        self.chain.clone().map(|chain| chain as _)
    }

    /// Returns the slot of the connection.
    #[must_use]
    pub fn slot(&self) -> ClientSlot {
        ClientSlot(Arc::clone(&self.slot.held))
    }

    /// Returns the data that the server attached.
    pub fn attachment(&self) -> &A {
        &self.attachment
    }

    /// Attaches data for the life of the connection.
    #[must_use]
    pub fn with_attachment<B>(self, attachment: B) -> Connection<B> {
        let Self { stream, address, version, peeked, shutdown_wait, slot, chain, .. } = self;
        Connection { stream, address, version, peeked, shutdown_wait, slot, chain, attachment }
    }

    /// Registers the socket with the current runtime instead of the one that accepted it.
    ///
    /// # Errors
    /// If the socket cannot be duplicated or registered.
    pub fn move_to_current_runtime(mut self) -> io::Result<Self> {
        let tcp = match &mut self.stream {
            Stream::Plain(tcp) => tcp,
            Stream::Tls(tls) => tls.get_mut().0,
        };
        // Duplicates the descriptor. The old one, which is registered with the other runtime, closes.
        let socket = tcp.as_fd().try_clone_to_owned()?;
        *tcp = TcpStream::from_std(socket.into())?;
        Ok(self)
    }
}

impl std::fmt::Debug for ClientSlot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientSlot").finish_non_exhaustive()
    }
}

impl EvictableSlot {
    fn new(held: Arc<ConnectionSlot>) -> Self {
        let evicted = Box::pin(held.evicted().clone().cancelled_owned());
        Self { held, evicted }
    }

    /// Ready when the slot is evicted. A permitted connection is never evicted.
    fn poll_evicted(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.held.is_permitted() { Poll::Pending } else { self.evicted.as_mut().poll(context) }
    }
}

impl ClientSlot {
    /// Records that a policy permitted a request of the connection.
    pub fn permit(&self) {
        self.0.permit();
    }

    /// Returns an empty reservation for the memory of the connection itself.
    #[must_use]
    pub fn reservation(&self) -> Reservation {
        self.0.reservation()
    }

    /// Returns an empty reservation for a request of a client, which may be behind a trusted proxy.
    #[must_use]
    pub fn reservation_of(&self, client: IpAddr) -> Reservation {
        self.0.reservation_of(client)
    }
}

impl PeekedBytes {
    fn replay(&mut self, buffer: &mut ReadBuf<'_>) -> bool {
        let rest = self.bytes.get(self.replayed..self.read).unwrap_or_default();
        if rest.is_empty() {
            return false;
        }
        let fits = rest.len().min(buffer.remaining());
        buffer.put_slice(rest.get(..fits).unwrap_or_default());
        self.replayed += fits;
        true
    }
}

impl ShutdownWait {
    fn peer_sent_bytes(&mut self) {
        if matches!(self, Self::AwaitingPeer(_)) {
            *self = Self::NoLimit;
        }
    }

    /// Ready when the time limit has passed.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if let Self::Serving(stop) = self {
            ready!(stop.as_mut().poll(context));
            *self = Self::AwaitingPeer(Box::pin(tokio::time::sleep(SHUTDOWN_TIMEOUT)));
        }
        match self {
            Self::AwaitingPeer(timer) => timer.as_mut().poll(context),
            Self::Serving(_) | Self::NoLimit => Poll::Pending,
        }
    }
}

impl<A: Unpin> Connection<A> {
    /// Reads as many bytes as the turn of the task allows. A connection of HTTP/1.1 carries one request at a time, and
    /// needs no limit.
    fn poll_stream(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let stream = Pin::new(&mut self.stream);
        if self.version == HttpVersion::Http1 {
            return stream.poll_read(context, buffer);
        }
        if self.slot.held.has_recent_permit() {
            let before = buffer.filled().len();
            ready!(stream.poll_read(context, buffer))?;
            charge_read(buffer.filled().len() - before);
            return Poll::Ready(Ok(()));
        }
        let room = buffer.remaining().min(UNAUTHORIZED_READ_BYTES);
        let mut part = ReadBuf::new(buffer.initialize_unfilled_to(room));
        ready!(stream.poll_read(context, &mut part))?;
        let read = part.filled().len();
        buffer.advance(read);
        end_read_turn();
        Poll::Ready(Ok(()))
    }
}

impl<A: Unpin> AsyncRead for Connection<A> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.peeked.replay(buffer) {
            return Poll::Ready(Ok(()));
        }
        // Checked before the read, so that a client that never stops sending is evicted, too.
        if this.slot.poll_evicted(context).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        if this.version == HttpVersion::Http2 {
            ready!(poll_read_turn(context));
        }
        match this.poll_stream(context, buffer) {
            Poll::Ready(read) => {
                this.shutdown_wait.peer_sent_bytes();
                Poll::Ready(read)
            }
            Poll::Pending => {
                ready!(this.shutdown_wait.poll(context));
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }
}

impl<A: Unpin> AsyncWrite for Connection<A> {
    delegate_writes!();

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Calls the same method on either kind of stream.
macro_rules! either {
    ($self:expr, $stream:ident => $call:expr) => {
        match $self {
            Stream::Plain($stream) => $call,
            Stream::Tls($stream) => $call,
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        either!(&mut *self, stream => Pin::new(stream).poll_read(context, buffer))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        either!(&mut *self, stream => Pin::new(stream).poll_write(context, bytes))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(&mut *self, stream => Pin::new(stream).poll_flush(context))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(&mut *self, stream => Pin::new(stream).poll_shutdown(context))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(&mut *self, stream => Pin::new(stream).poll_write_vectored(context, slices))
    }

    fn is_write_vectored(&self) -> bool {
        either!(self, stream => stream.is_write_vectored())
    }
}

#[cfg(test)]
mod tests {
    use tokio::{io::AsyncWriteExt as _, net::TcpListener};

    use super::*;
    use crate::listen::{connection_limiter::ConnectionLimiter, intake_budget::IntakeBudget};

    /// More than a turn may read of an unauthorized connection.
    const SENT: usize = 8 * UNAUTHORIZED_READ_BYTES;

    /// Returns a connection whose client has sent [`SENT`] bytes after the preface, and the client.
    async fn busy_connection(limiter: &ConnectionLimiter) -> (Connection, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        client.write_all(&HTTP2_PREFACE).await.unwrap();
        client.write_all(&[0; SENT]).await.unwrap();
        let (stream, address) = listener.accept().await.unwrap();
        let slot = limiter.take(address.ip()).unwrap();
        let stop = CancellationToken::new();
        let detected = Connection::detect_version(Stream::Plain(stream), address, slot, stop);
        let mut connection = detected.await.unwrap();
        connection.read_exact(&mut [0; HTTP2_PREFACE.len()]).await.unwrap();
        (connection, client)
    }

    #[tokio::test]
    async fn a_client_that_never_stops_sending_is_evicted() {
        let limiter = ConnectionLimiter::new(1, Arc::default());
        let (mut connection, _client) = busy_connection(&limiter).await;
        assert!(connection.read(&mut [0; 16]).await.is_ok());
        connection.slot.held.evicted().cancel();
        let ended = connection.read(&mut [0; 16]).await.unwrap_err();
        assert_eq!(ended.kind(), io::ErrorKind::ConnectionAborted);
    }

    #[tokio::test]
    async fn only_a_connection_of_a_known_address_is_read_in_large_parts() {
        let limiter = ConnectionLimiter::new(2, Arc::<IntakeBudget>::default());
        let (mut unknown, _client) = busy_connection(&limiter).await;
        let read = unknown.read(&mut [0; SENT]).await.unwrap();
        assert!((1..=UNAUTHORIZED_READ_BYTES).contains(&read), "{read}");
        unknown.slot().permit();
        let (mut known, _client) = busy_connection(&limiter).await;
        assert_eq!(known.read(&mut [0; SENT]).await.unwrap(), SENT);
    }
}
