//! Listeners and connections, down to how a connection ends.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
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

use crate::faults::{Aborted, Ending};

/// Thousands of clients may connect at once. The kernel lowers it to its own limit.
const BACKLOG: u32 = 16_384;

/// Out of file descriptors, accepting fails at once: waiting keeps the loop from spinning.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// Answers the calls that arrive at one host.
pub(crate) trait Host: Clone + Send + Sync + 'static {
    fn answer(
        &self,
        request: Request<Incoming>,
        ending: &Ending,
    ) -> impl Future<Output = Result<Response<Body>, Aborted>> + Send;

    /// The time that answers bear as `Date`.
    fn date(&self) -> Option<HeaderValue>;
}

/// The owner of all accept loops and connections.
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

    /// Runs until it ends or the sandbox stops.
    pub(crate) fn run(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tracker.spawn(async move {
            let _ = stop.run_until_cancelled(task).await;
        });
    }

    pub(crate) fn serve(&self, listener: TcpListener, host: impl Host) {
        let tasks = self.clone();
        self.tracker.spawn(async move {
            let accepting = accept(&tasks, listener, host);
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

async fn accept(tasks: &Tasks, listener: TcpListener, host: impl Host) -> Infallible {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        // Answers are small and a client waits for each: no reason to collect them.
        let _ = stream.set_nodelay(true);
        let connection = connection(stream, host.clone());
        let stop = tasks.stop.clone();
        tasks.tracker.spawn(async move { stop.run_until_cancelled(connection).await });
    }
}

async fn connection(stream: TcpStream, host: impl Host) {
    let ending = Ending::default();
    let wire = Wire { stream, ending: ending.clone() };
    let service = service_fn(async |request| {
        let mut response = host.answer(request, &ending).await?;
        // Else the server would put in real time, which a shifted clock is not.
        if let Some(date) = host.date() {
            response.headers_mut().insert(DATE, date);
        }
        Ok::<_, Aborted>(response)
    });
    // Errors here are what faults ask for, or clients that left.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(wire), service).await;
}

/// A stream that can end with a reset.
struct Wire {
    stream: TcpStream,
    ending: Ending,
}

impl Drop for Wire {
    fn drop(&mut self) {
        if self.ending.is_reset() {
            // Closing with a linger of zero is what makes the kernel send RST.
            let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Wire {
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
            return Poll::Ready(Ok(())); // a FIN would come before the RST
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
