//! Lingering close: connections that end before their client has sent the whole request.
//!
//! Closing a socket with unread bytes resets the connection, and the client may then lose the answer. So the sending
//! half is closed first, and further bytes are read and discarded until the client closes its half, within limits
//! (RFC 9112 section 9.6).

use std::{
    future::Future,
    io,
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
    time::{Instant, Sleep, sleep},
};

use super::request_body::RequestBody;
use crate::{
    domain::{NetworkCounter, NetworkSlot},
    http::heads::HeadProblem,
    listen::delegate_writes,
};

/// The maximum time from the end of the answer until the connection is closed.
const LINGER_TIMEOUT: Duration = Duration::from_secs(30);

/// The time without new bytes after which the connection is closed.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(5);

/// The maximum number of bytes to discard per connection. Documents for the Web API are smaller.
const MAX_UNREAD_BYTES: usize = 64 * 1024 * 1024;

/// The size of the read buffer on the stack.
const READ_BYTES: usize = 8 * 1024;

/// The number of bytes after which the task yields to other connections of the thread.
const YIELD_BYTES: usize = 256 * 1024;

/// Limits the connections of a listener that linger at the same time. Others are closed immediately.
///
/// A lingering connection uses no extra memory, but its connection slot is not available to other clients.
#[derive(Debug, Clone)]
pub(super) struct LingerSlots {
    limit: usize,
    lingering: NetworkCounter,
}

impl LingerSlots {
    /// Allows a quarter of all connections to linger, half of them from one address.
    pub(super) fn for_connections(connections: usize) -> Self {
        Self { limit: (connections / 4).max(1), lingering: NetworkCounter::default() }
    }

    fn take(&self, address: IpAddr) -> Option<NetworkSlot> {
        let most = self.limit.div_ceil(2);
        self.lingering.take(address, |own, all| own < most && all < self.limit)
    }
}

/// The state of a connection's requests, which its stream and its handlers share.
#[derive(Debug, Default)]
pub(super) struct RequestState {
    /// Whether the client may have sent, or may be sending, bytes that do not belong to an answered request.
    unread: AtomicBool,
}

impl RequestState {
    /// Answers a request with its handler. Adds `Connection: close` if the body was not read to its end, or the head
    /// was refused.
    pub(super) async fn answer<F>(
        self: Arc<Self>,
        request: Request<Incoming>,
        handler: impl FnOnce(Request<RequestBody>) -> F,
    ) -> Response<Body>
    where
        F: Future<Output = Response<Body>>,
    {
        let version = request.version();
        // After a refused head, the following bytes are not parsed as a request.
        let problem = request.extensions().get::<HeadProblem>().copied();
        let is_refused = problem.is_some_and(HeadProblem::may_hide_credential);
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

/// The stream of a connection, which lingers at shutdown if a request is not read completely.
pub(super) struct LingeringStream<S> {
    stream: S,
    address: IpAddr,
    linger_slots: LingerSlots,
    requests: Arc<RequestState>,
    is_http1: bool,
    phase: Phase,
}

enum Phase {
    Open,
    Draining(Box<Drain>),
    Closed,
}

/// A connection whose sending half is closed and whose input is discarded.
struct Drain {
    end: Pin<Box<Sleep>>,
    silence: Pin<Box<Sleep>>,
    left: usize,
    _slot: NetworkSlot,
}

impl<S> LingeringStream<S> {
    /// Wraps the stream of an HTTP/1.1 or HTTP/2 connection.
    pub(super) fn new(
        stream: S,
        address: IpAddr,
        is_http1: bool,
        linger_slots: LingerSlots,
    ) -> (Self, Arc<RequestState>) {
        let requests = Arc::<RequestState>::default();
        let shared = Arc::clone(&requests);
        (
            Self { stream, address, linger_slots, requests: shared, is_http1, phase: Phase::Open },
            requests,
        )
    }

    /// Notes that bytes of the client were read.
    fn note_read(&self, read: usize) {
        if self.is_http1 && read > 0 {
            self.requests.unread.store(true, Ordering::Relaxed);
        }
    }
}

impl Drain {
    /// Returns ready when lingering is complete or a limit is reached.
    fn poll<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        context: &mut Context<'_>,
    ) -> Poll<()> {
        if self.end.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        let mut turn = YIELD_BYTES;
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
            self.silence.as_mut().reset(Instant::now() + SILENCE_TIMEOUT);
            turn = turn.saturating_sub(read);
            if turn == 0 {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for LingeringStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = ready!(Pin::new(&mut self.stream).poll_read(context, buffer));
        self.note_read(buffer.filled().len() - before);
        Poll::Ready(read)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for LingeringStream<S> {
    delegate_writes!();

    /// Closes the sending half, and lingers if the client may still be sending.
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            match &mut this.phase {
                Phase::Open => {
                    ready!(Pin::new(&mut this.stream).poll_shutdown(context))?;
                    let unread = this.requests.unread.load(Ordering::Relaxed);
                    let slot = unread.then(|| this.linger_slots.take(this.address)).flatten();
                    this.phase = slot.map_or(Phase::Closed, |slot| {
                        Phase::Draining(Box::new(Drain {
                            end: Box::pin(sleep(LINGER_TIMEOUT)),
                            silence: Box::pin(sleep(SILENCE_TIMEOUT)),
                            left: MAX_UNREAD_BYTES,
                            _slot: slot,
                        }))
                    });
                }
                Phase::Draining(drain) => {
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

    /// Returns a connection with an unread request, and the client's end of it.
    fn unread(linger_slots: &LingerSlots) -> (LingeringStream<DuplexStream>, DuplexStream) {
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let (stream, requests) = LingeringStream::new(ours, ADDRESS, true, linger_slots.clone());
        requests.unread.store(true, Ordering::Relaxed);
        (stream, theirs)
    }

    /// Returns the time that a connection takes to close while its client runs `client`.
    async fn time_to_end(client: impl AsyncFnOnce(DuplexStream)) -> Duration {
        let (mut stream, theirs) = unread(&LingerSlots::for_connections(4));
        let begin = Instant::now();
        tokio::select! {
            ended = stream.shutdown() => ended.unwrap(),
            () = async { client(theirs).await; std::future::pending().await } => {}
        }
        begin.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn closes_the_sending_half_before_reading_the_rest() {
        let time = time_to_end(async |mut theirs| {
            assert_eq!(theirs.read(&mut [0]).await.unwrap(), 0);
            theirs.write_all(&vec![b'x'; 1 << 20]).await.unwrap();
        });
        // The client then closes its half.
        assert_eq!(time.await, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn stops_lingering_when_the_client_is_silent() {
        let time = time_to_end(async |theirs| {
            let _open = theirs;
            std::future::pending::<()>().await;
        });
        assert_eq!(time.await, SILENCE_TIMEOUT);
    }

    #[tokio::test(start_paused = true)]
    async fn stops_lingering_after_the_timeout_when_the_client_trickles() {
        let time = time_to_end(async |mut theirs| {
            while theirs.write_all(b"x").await.is_ok() {
                sleep(SILENCE_TIMEOUT / 2).await;
            }
        });
        assert_eq!(time.await, LINGER_TIMEOUT);
    }

    #[tokio::test(start_paused = true)]
    async fn stops_lingering_after_the_byte_limit() {
        let (mut stream, mut theirs) = unread(&LingerSlots::for_connections(4));
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
    async fn a_connection_without_unread_requests_closes_at_once() {
        let (mut stream, _theirs) = unread(&LingerSlots::for_connections(4));
        stream.requests.unread.store(false, Ordering::Relaxed);
        timeout(Duration::ZERO, stream.shutdown()).await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn limits_lingering_connections_in_total_and_per_address() {
        let linger_slots = LingerSlots::for_connections(16);
        let mut lingering = Vec::new();
        let mut linger = async |last: u8| {
            let (mut stream, theirs) = unread(&linger_slots);
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
        let (mut stream, _theirs) = unread(&linger_slots);
        assert!(timeout(Duration::ZERO, stream.shutdown()).await.is_err());
    }
}
