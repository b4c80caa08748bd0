//! One connection of a caller, as the HTTP/2 server sees it.

use std::{
    io::{self, IoSlice},
    net::SocketAddr,
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
use tonic::transport::server::Connected;

use crate::access::{CertificateProblem, PeerCertificate};

/// With these bytes every client of HTTP/2 begins (RFC 9113, 3.4).
const PREFACE: [u8; 24] = *b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// GOAWAY comes with a PING. A peer that has sent nothing at all this long after it is not there any more.
const FAREWELL: Duration = Duration::from_secs(3);

/// Who is at the other end; in the extensions of each request.
#[derive(Debug, Clone)]
pub struct Peer {
    /// The address that the connection comes from.
    pub address: SocketAddr,
    /// Its host as text, for every event of the connection.
    pub ip: Arc<str>,
    /// Of a client that has shown a certificate, which was verified against `client_ca_file`: whom it names.
    pub certificate: Option<Arc<Result<PeerCertificate, CertificateProblem>>>,
}

/// The bytes of a connection, in the clear.
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// A connection whose peer has begun to speak HTTP/2.
pub(super) struct Connection {
    stream: Stream,
    peer: Peer,
    /// How much of the preface, which was read already, the server has seen.
    replayed: usize,
    farewell: Farewell,
    /// Counts it among those of its worker.
    _count: Option<Arc<()>>,
}

/// Once we have begun to stop, a peer that gives no sign of life is not waited for (hyper#4170).
enum Farewell {
    Serving(Pin<Box<WaitForCancellationFutureOwned>>),
    Waiting(Pin<Box<Sleep>>),
    Answered,
}

impl Connection {
    /// Waits for the client's first words. `None` if it is no client of HTTP/2.
    pub(super) async fn begin(
        mut stream: Stream,
        peer: Peer,
        stop: CancellationToken,
    ) -> io::Result<Option<Self>> {
        let mut words = [0; PREFACE.len()];
        let mut read = 0;
        while let Some(room) = words.get_mut(read..).filter(|room| !room.is_empty()) {
            let more = stream.read(room).await?;
            if more == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            read += more;
            if !words.iter().zip(&PREFACE).take(read).all(|(word, wanted)| word == wanted) {
                return Ok(None);
            }
        }
        let farewell = Farewell::Serving(Box::pin(stop.cancelled_owned()));
        Ok(Some(Self { stream, peer, replayed: 0, farewell, _count: None }))
    }

    /// The same, holding this for as long as it is open.
    pub(super) fn counted(self, count: Arc<()>) -> Self {
        Self { _count: Some(count), ..self }
    }

    /// Hands the socket from the runtime that opened it to the one that runs now, which will wait for its bytes.
    pub(super) fn settle(mut self) -> io::Result<Self> {
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

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
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

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if let Some(rest) = PREFACE.get(this.replayed..).filter(|rest| !rest.is_empty()) {
            let fits = rest.len().min(buffer.remaining());
            buffer.put_slice(rest.get(..fits).unwrap_or_default());
            this.replayed += fits;
            return Poll::Ready(Ok(()));
        }
        match Pin::new(&mut this.stream).poll_read(context, buffer) {
            Poll::Ready(read) => {
                this.farewell.heard();
                Poll::Ready(read)
            }
            Poll::Pending => {
                ready!(this.farewell.poll(context));
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }
}

impl AsyncWrite for Connection {
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
