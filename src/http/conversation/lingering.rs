//! Connections that end before their client has sent all of a request.
//!
//! A socket that is closed with unread bytes in it resets the connection, and a reset may destroy the answer that was
//! sent before it. So the sending half is closed first, and what still comes is read and thrown away until the client
//! closes its half, within limits (RFC 9112 section 9.6).

use std::{
    future::Future,
    io::{self, IoSlice},
    mem::MaybeUninit,
    net::IpAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    body::Body,
    http::{HeaderValue, Request, Response, Version, header},
};
use hyper::body::Incoming;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, Sleep, sleep},
};

use super::request_body::RequestBody;
use crate::{
    http::heads::HeadProblem,
    listen::{Place, Places},
};

/// From the end of the answer until the connection is closed in any case.
const LINGERING_TIME: Duration = Duration::from_secs(30);

/// A client that sends nothing for so long has sent all that it wants to.
const SILENCE: Duration = Duration::from_secs(5);

/// The bytes that are read of one connection. Documents for the Web API are smaller.
const MAX_UNREAD_BYTES: usize = 64 * 1024 * 1024;

/// The bytes that are read at once, on the stack.
const READ_BYTES: usize = 8 * 1024;

/// The bytes after which other connections of the thread have their turn.
const TURN_BYTES: usize = 256 * 1024;

/// The connections of a listener that may linger at one time. Others are closed at once.
///
/// They use no memory but that of a connection, but each keeps a connection from another client.
#[derive(Debug, Clone)]
pub(super) struct Lingerers {
    all: Arc<Semaphore>,
    addresses: Places,
}

/// One of them. Dropping it frees its place.
type Lingerer = (OwnedSemaphorePermit, Place);

impl Lingerers {
    /// A quarter of all connections, of which one address may have half.
    pub(super) fn among(connections: usize) -> Self {
        let most = (connections / 4).max(1);
        let addresses = Places::of_each(most.div_ceil(2));
        Self { all: Arc::new(Semaphore::new(most)), addresses }
    }

    fn take(&self, address: IpAddr) -> Option<Lingerer> {
        let one = Arc::clone(&self.all).try_acquire_owned().ok()?;
        Some((one, self.addresses.take(address)?))
    }
}

/// The state of a connection's requests, shared by its stream and its handlers.
#[derive(Debug, Default)]
pub(super) struct Requests {
    /// The client may have sent, or be sending, bytes that belong to no answered request.
    unread: AtomicBool,
}

impl Requests {
    /// Has a request answered. If its body was not read to the end, or its head was refused, the answer says that the
    /// connection ends.
    pub(super) async fn answer<F>(
        self: Arc<Self>,
        request: Request<Incoming>,
        handler: impl FnOnce(Request<RequestBody>) -> F,
    ) -> Response<Body>
    where
        F: Future<Output = Response<Body>>,
    {
        let version = request.version();
        // The bytes behind such a head are not read as a request.
        let problem = request.extensions().get::<HeadProblem>().copied();
        let is_refused = problem.is_some_and(HeadProblem::may_hide_caller);
        let (parts, incoming) = request.into_parts();
        let (body, rest) = RequestBody::new(incoming, &parts.headers);
        let mut answer = handler(Request::from_parts(parts, body)).await;
        let ended = rest.has_ended(version).await;
        if version >= Version::HTTP_2 {
            if !ended {
                self.unread.store(true, Ordering::Relaxed);
            }
            return answer;
        }
        let closes = !ended || is_refused;
        self.unread.store(closes, Ordering::Relaxed);
        if closes {
            answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        answer
    }
}

/// The stream of a connection, which lingers when it is shut down with a request unread.
pub(super) struct Lingering<S> {
    stream: S,
    address: IpAddr,
    lingerers: Lingerers,
    requests: Arc<Requests>,
    is_http1: bool,
    phase: Phase,
}

enum Phase {
    Open,
    Drains(Box<Drain>),
    Closed,
}

/// The end of a connection whose sending half is closed.
struct Drain {
    end: Pin<Box<Sleep>>,
    silence: Pin<Box<Sleep>>,
    left: usize,
    _place: Lingerer,
}

impl<S> Lingering<S> {
    /// Watches the requests of a connection of HTTP/1.1, or of HTTP/2.
    pub(super) fn new(
        stream: S,
        address: IpAddr,
        is_http1: bool,
        lingerers: Lingerers,
    ) -> (Self, Arc<Requests>) {
        let requests = Arc::<Requests>::default();
        let shared = Arc::clone(&requests);
        (
            Self { stream, address, lingerers, requests: shared, is_http1, phase: Phase::Open },
            requests,
        )
    }

    /// Records that bytes of the client were read.
    fn see(&self, read: usize) {
        if self.is_http1 && read > 0 {
            self.requests.unread.store(true, Ordering::Relaxed);
        }
    }
}

impl Drain {
    /// Ready when there is nothing more to wait for.
    fn poll<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        context: &mut Context<'_>,
    ) -> Poll<()> {
        if self.end.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        let mut turn = TURN_BYTES;
        loop {
            let mut bytes = [const { MaybeUninit::uninit() }; READ_BYTES];
            let mut buffer = ReadBuf::uninit(&mut bytes);
            match Pin::new(&mut *stream).poll_read(context, &mut buffer) {
                Poll::Pending => return self.silence.as_mut().poll(context),
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(())) => {}
            }
            let read = buffer.filled().len();
            if read == 0 || read > self.left {
                return Poll::Ready(());
            }
            self.left -= read;
            self.silence.as_mut().reset(Instant::now() + SILENCE);
            turn = turn.saturating_sub(read);
            if turn == 0 {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Lingering<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = ready!(Pin::new(&mut self.stream).poll_read(context, buffer));
        self.see(buffer.filled().len() - before);
        Poll::Ready(read)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Lingering<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    /// Ends the sending half, and lingers if the client may still be sending.
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            match &mut this.phase {
                Phase::Open => {
                    ready!(Pin::new(&mut this.stream).poll_shutdown(context))?;
                    let unread = this.requests.unread.load(Ordering::Relaxed);
                    let place = unread.then(|| this.lingerers.take(this.address)).flatten();
                    this.phase = place.map_or(Phase::Closed, |place| {
                        Phase::Drains(Box::new(Drain {
                            end: Box::pin(sleep(LINGERING_TIME)),
                            silence: Box::pin(sleep(SILENCE)),
                            left: MAX_UNREAD_BYTES,
                            _place: place,
                        }))
                    });
                }
                Phase::Drains(drain) => {
                    ready!(drain.poll(&mut this.stream, context));
                    this.phase = Phase::Closed;
                }
                Phase::Closed => return Poll::Ready(Ok(())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream},
        time::timeout,
    };

    use super::*;

    const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    /// A connection with an unread request, and the end of its client.
    fn unread(lingerers: &Lingerers) -> (Lingering<DuplexStream>, DuplexStream) {
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let (stream, requests) = Lingering::new(ours, ADDRESS, true, lingerers.clone());
        requests.unread.store(true, Ordering::Relaxed);
        (stream, theirs)
    }

    /// Returns the time that a connection takes to end while its client does this.
    async fn time_to_end(client: impl AsyncFnOnce(DuplexStream)) -> Duration {
        let (mut stream, theirs) = unread(&Lingerers::among(4));
        let begin = Instant::now();
        tokio::select! {
            ended = stream.shutdown() => ended.unwrap(),
            () = async { client(theirs).await; std::future::pending().await } => {}
        }
        begin.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn the_sending_half_is_closed_before_what_comes_is_read() {
        let time = time_to_end(async |mut theirs| {
            assert_eq!(theirs.read(&mut [0]).await.unwrap(), 0);
            theirs.write_all(&vec![b'x'; 1 << 20]).await.unwrap();
        });
        // The client closes, too.
        assert_eq!(time.await, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_sends_nothing_more_is_not_waited_for() {
        let time = time_to_end(async |theirs| {
            let _open = theirs;
            std::future::pending::<()>().await;
        });
        assert_eq!(time.await, SILENCE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_trickles_is_not_waited_for() {
        let time = time_to_end(async |mut theirs| {
            while theirs.write_all(b"x").await.is_ok() {
                sleep(SILENCE / 2).await;
            }
        });
        assert_eq!(time.await, LINGERING_TIME);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_sends_without_end_is_not_read_to_its_end() {
        let (mut stream, mut theirs) = unread(&Lingerers::among(4));
        let sending = async {
            let mut sent = 0;
            while theirs.write_all(&[b'x'; READ_BYTES]).await.is_ok() {
                sent += READ_BYTES;
            }
            sent
        };
        let shutting = async {
            stream.shutdown().await.unwrap();
            drop(stream);
        };
        let (sent, ()) = tokio::join!(sending, shutting);
        assert!((MAX_UNREAD_BYTES..MAX_UNREAD_BYTES + (1 << 20)).contains(&sent), "{sent}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_whose_requests_were_read_ends_at_once() {
        let (mut stream, _theirs) = unread(&Lingerers::among(4));
        stream.requests.unread.store(false, Ordering::Relaxed);
        timeout(Duration::ZERO, stream.shutdown()).await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn only_so_many_connections_linger_and_one_address_has_half_of_them() {
        let lingerers = Lingerers::among(16);
        let mut lingering = Vec::new();
        let mut linger = async |last: u8| {
            let (mut stream, theirs) = unread(&lingerers);
            stream.address = [192, 0, 2, last].into();
            let lingers = timeout(Duration::ZERO, stream.shutdown()).await.is_err();
            lingering.push((stream, theirs));
            lingers
        };
        for (address, lingers) in
            [(1, true), (1, true), (1, false), (2, true), (2, true), (2, false), (3, false)]
        {
            assert_eq!(linger(address).await, lingers, "{address}");
        }
        drop(lingering);
        let (mut stream, _theirs) = unread(&lingerers);
        assert!(timeout(Duration::ZERO, stream.shutdown()).await.is_err());
    }
}
