//! One connection of a client, as the server of its protocol sees it.

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
    cancelled::charge,
    connection_limiter::ConnectionSlot,
    intake_budget::Reservation,
    tls::{ClientTrust, ShownChain},
};
use crate::ports::ShownCertificate;

/// With these bytes every client of HTTP/2 begins (RFC 9113, 3.4).
const PREFACE: [u8; 24] = *b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// GOAWAY comes with a PING. A peer that has sent nothing at all this long after it is not there any more.
const FAREWELL: Duration = Duration::from_secs(3);

/// What a client speaks, by its first words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Anything that is not HTTP/2.
    Http1,
    /// HTTP/2.
    Http2,
}

/// The bytes of a connection, in the clear.
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// The chain of certificates that the client has shown, if it has.
    pub(super) fn shown_chain(&self, trust: Arc<ClientTrust>) -> Option<Arc<ShownChain>> {
        let Self::Tls(tls) = self else { return None };
        let (_, session) = tls.get_ref();
        ShownChain::new(session.peer_certificates()?, trust).map(Arc::new)
    }
}

/// A connection whose peer has begun to speak, with what its server wants to know of it beside it.
pub struct Connection<A = ()> {
    stream: Stream,
    address: SocketAddr,
    protocol: Protocol,
    words: Words,
    farewell: Farewell,
    slot: Slot,
    shown: Option<Arc<ShownChain>>,
    about: A,
}

/// The first words, which were read already and which the server is still to see.
struct Words {
    bytes: [u8; PREFACE.len()],
    read: usize,
    replayed: usize,
}

/// The slot of a connection, and its eviction.
struct Slot {
    held: Arc<ConnectionSlot>,
    evicted: Pin<Box<WaitForCancellationFutureOwned>>,
}

/// The slot of a client's connection: what its requests hold is charged here, and the first permitted one frees it for
/// another client.
#[derive(Clone)]
pub struct ClientSlot(Arc<ConnectionSlot>);

/// Once we have begun to stop, a peer that gives no sign of life is not waited for (hyper#4170).
enum Farewell {
    Serving(Pin<Box<WaitForCancellationFutureOwned>>),
    Waiting(Pin<Box<Sleep>>),
    Answered,
}

impl Connection {
    /// Waits for the client's first words.
    pub(super) async fn begin(
        mut stream: Stream,
        address: SocketAddr,
        slot: Arc<ConnectionSlot>,
        stop: CancellationToken,
    ) -> io::Result<Self> {
        let mut words = Words { bytes: [0; PREFACE.len()], read: 0, replayed: 0 };
        let mut protocol = Protocol::Http2;
        while let Some(room) = words.bytes.get_mut(words.read..).filter(|room| !room.is_empty()) {
            let more = stream.read(room).await?;
            if more == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            words.read += more;
            if !words
                .bytes
                .iter()
                .zip(&PREFACE)
                .take(words.read)
                .all(|(word, wanted)| word == wanted)
            {
                protocol = Protocol::Http1;
                break;
            }
        }
        let farewell = match protocol {
            Protocol::Http2 => Farewell::Serving(Box::pin(stop.cancelled_owned())),
            // A client that waits for its answer says nothing, and there is no PING that it would answer.
            Protocol::Http1 => Farewell::Answered,
        };
        let slot = Slot::new(slot);
        Ok(Self { stream, address, protocol, words, farewell, slot, shown: None, about: () })
    }

    /// The same, with the chain that its client has shown.
    pub(super) fn showing(self, shown: Option<Arc<ShownChain>>) -> Self {
        Self { shown, ..self }
    }
}

impl<A> Connection<A> {
    /// Where it comes from.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What its client speaks.
    #[must_use]
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// The certificate that the client has shown. It was verified against `client_ca_file`.
    #[must_use]
    pub fn client_certificate(&self) -> Option<Arc<dyn ShownCertificate>> {
        self.shown.clone().map(|shown| shown as _)
    }

    /// The slot of its client.
    #[must_use]
    pub fn slot(&self) -> ClientSlot {
        ClientSlot(Arc::clone(&self.slot.held))
    }

    /// What its server wanted to know of it.
    pub fn about(&self) -> &A {
        &self.about
    }

    /// The same, with this beside it for as long as it is open.
    #[must_use]
    pub fn with<B>(self, about: B) -> Connection<B> {
        let Self { stream, address, protocol, words, farewell, slot, shown, .. } = self;
        Connection { stream, address, protocol, words, farewell, slot, shown, about }
    }

    /// Hands the socket from the runtime that opened it to the one that runs now, which will wait for its bytes.
    ///
    /// # Errors
    /// If the socket is gone.
    pub fn settle(mut self) -> io::Result<Self> {
        let tcp = match &mut self.stream {
            Stream::Plain(tcp) => tcp,
            Stream::Tls(tls) => tls.get_mut().0,
        };
        // A second descriptor of the same socket; the first, which the other runtime waits for, closes.
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

impl Slot {
    fn new(held: Arc<ConnectionSlot>) -> Self {
        let evicted = Box::pin(held.evicted().clone().cancelled_owned());
        Self { held, evicted }
    }

    /// Ready when the connection has to give up its slot. A permitted one never has to.
    fn poll_evicted(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.held.is_permitted() { Poll::Pending } else { self.evicted.as_mut().poll(context) }
    }
}

impl ClientSlot {
    /// Notes that a policy permitted a request of the connection.
    pub fn permit(&self) {
        self.0.permit();
    }

    /// Returns an empty reservation for what the connection itself holds.
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

impl Words {
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

impl Farewell {
    fn heard(&mut self) {
        if matches!(self, Self::Waiting(_)) {
            *self = Self::Answered;
        }
    }

    /// Ready when the peer is given up.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if let Self::Serving(stop) = self {
            ready!(stop.as_mut().poll(context));
            *self = Self::Waiting(Box::pin(tokio::time::sleep(FAREWELL)));
        }
        match self {
            Self::Waiting(patience) => patience.as_mut().poll(context),
            Self::Serving(_) | Self::Answered => Poll::Pending,
        }
    }
}

impl<A: Unpin> AsyncRead for Connection<A> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.words.replay(buffer) {
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        match Pin::new(&mut this.stream).poll_read(context, buffer) {
            Poll::Ready(read) => {
                this.farewell.heard();
                if this.protocol == Protocol::Http2 {
                    charge(buffer.filled().len() - before, context);
                }
                Poll::Ready(read)
            }
            Poll::Pending => {
                if this.slot.poll_evicted(context).is_ready() {
                    return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
                }
                ready!(this.farewell.poll(context));
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }
}

impl<A: Unpin> AsyncWrite for Connection<A> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// The same call on whichever it is.
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
