//! Listeners and connections, including connection resets.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use hyper::body::Incoming;
use hyper::header::{DATE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Allows thousands of clients to connect at once. The kernel may lower it to its own limit.
const BACKLOG: u32 = 16_384;

/// The pause after a failed accept. Without file descriptors `accept` fails at once, and the loop
/// would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// A host that answers HTTP requests.
pub(crate) trait Host: Clone + Send + Sync + 'static {
    fn answer(
        &self,
        request: Request<Incoming>,
        ending: &ConnectionEnd,
    ) -> impl Future<Output = Result<Response<Body>, Aborted>> + Send;

    /// The value of the `Date` header; `None` leaves it to hyper.
    fn date(&self) -> Option<HeaderValue>;
}

/// The error that closes a connection without a response.
#[derive(Debug, thiserror::Error)]
#[error("the connection was ended on purpose")]
pub(crate) struct Aborted;

/// The way in which a connection ends; shared by its handler and its socket.
#[derive(Clone, Debug, Default)]
pub(crate) struct ConnectionEnd {
    reset: Arc<AtomicBool>,
}

impl ConnectionEnd {
    pub(crate) fn is_reset(&self) -> bool {
        self.reset.load(Ordering::Relaxed)
    }

    pub(crate) fn reset(&self) {
        self.reset.store(true, Ordering::Relaxed);
    }
}

/// Owns all accept loops and connections.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Tasks {
    pub(crate) fn stop(&self) {
        self.tracker.close();
        self.stop.cancel();
    }

    pub(crate) async fn stopped(&self) {
        self.tracker.wait().await;
    }

    /// Runs a task until it ends or the sandbox stops.
    pub(crate) fn run(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tracker.spawn(async move {
            let _ = stop.run_until_cancelled(task).await;
        });
    }

    pub(crate) fn serve(&self, listener: TcpListener, host: impl Host) {
        let tasks = self.clone();
        self.tracker.spawn(async move {
            let accepting = accept_connections(&tasks, listener, host);
            let _ = tasks.stop.run_until_cancelled(accepting).await;
        });
    }
}

pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

async fn accept_connections(tasks: &Tasks, listener: TcpListener, host: impl Host) -> Infallible {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        // Responses are small and clients wait for them: send them without delay.
        let _ = stream.set_nodelay(true);
        let connection = serve_connection(stream, host.clone());
        let stop = tasks.stop.clone();
        tasks.tracker.spawn(async move { stop.run_until_cancelled(connection).await });
    }
}

async fn serve_connection(stream: TcpStream, host: impl Host) {
    let ending = ConnectionEnd::default();
    let wire = ResettableStream { stream, ending: ending.clone() };
    let service = service_fn(async |request| {
        let mut response = host.answer(request, &ending).await?;
        // Without this, hyper would add the real time, not that of the shifted clock.
        if let Some(date) = host.date() {
            response.headers_mut().insert(DATE, date);
        }
        Ok::<_, Aborted>(response)
    });
    // Errors here come from injected faults and disconnected clients.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(wire), service).await;
}

/// A stream that can end with a reset.
struct ResettableStream {
    stream: TcpStream,
    ending: ConnectionEnd,
}

impl Drop for ResettableStream {
    fn drop(&mut self) {
        if self.ending.is_reset() {
            // With a linger time of zero, the kernel sends RST at close.
            let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
        }
    }
}

impl AsyncRead for ResettableStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for ResettableStream {
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
        if self.ending.is_reset() {
            return Poll::Ready(Ok(())); // a shutdown would send FIN before the RST
        }
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
