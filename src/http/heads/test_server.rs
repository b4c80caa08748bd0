//! An in-memory test server that records what hyper receives from a connection, with and without [`HeadFilter`].

use std::{
    convert::Infallible,
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use axum::body::{Body, to_bytes};
use hyper::{Request, Response, body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    runtime::Builder,
    task::{JoinSet, yield_now},
};

use super::{HeadFilter, HeadProblem, MAX_HEAD_BYTES, find_problem};
use crate::listen::{HttpVersion, Reservation};

/// The number of runtime turns without progress after which a connection is considered idle.
const QUIET_TURNS: usize = 40;

/// The requests that a server received, and its answers.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    /// The requests that reached the service.
    pub(super) requests: Vec<SeenRequest>,
    /// All bytes that the client received.
    pub(super) answers: Vec<u8>,
}

/// A request that reached the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SeenRequest {
    /// Method, version and headers.
    pub(super) head: String,
    pub(super) target: String,
    /// The body, if it was complete.
    pub(super) body: Option<Vec<u8>>,
    /// The problem, if the request is refused.
    pub(super) problem: Option<&'static str>,
}

impl Seen {
    /// Returns all requests in an order that does not depend on when their bodies ended.
    fn sorted(&self) -> Vec<(&str, String, Option<&[u8]>)> {
        let mut requests: Vec<_> = self.requests.iter().map(SeenRequest::parts).collect();
        requests.sort();
        requests
    }
}

impl SeenRequest {
    /// Returns the parts that must not change. A quotation mark is encoded, although hyper accepts it in a path.
    fn parts(&self) -> (&str, String, Option<&[u8]>) {
        (&self.head, self.target.replace('"', "%22"), self.body.as_deref())
    }

    fn is_like(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

/// Serves these bytes, which arrive in parts of `at_once` bytes. The client then stays connected and is silent.
pub(super) fn serve(bytes: &[u8], at_once: usize, protocol: HttpVersion, acceptable: bool) -> Seen {
    let client = Client { bytes: bytes.into(), read: 0, at_once, seen: Arc::default() };
    let seen = Arc::clone(&client.seen);
    let Ok(runtime) = Builder::new_current_thread().build() else { return Seen::default() };
    runtime.block_on(async move {
        let mut tasks = JoinSet::new();
        if acceptable {
            let client = HeadFilter::new(client, protocol, Reservation::default());
            tasks.spawn(connection(client, protocol, Arc::clone(&seen)));
        } else {
            tasks.spawn(connection(client, protocol, Arc::clone(&seen)));
        }
        let (mut quiet, mut progress) = (0, (0, 0, 0));
        while quiet < QUIET_TURNS && tasks.try_join_next().is_none() {
            yield_now().await;
            let now = lock(&seen).progress();
            quiet = if now == progress { quiet + 1 } else { 0 };
            progress = now;
        }
        lock(&seen).seen.clone()
    })
}

/// Compares the requests that a server receives with and without [`HeadFilter`].
///
/// # Errors
/// If a request differs although it needed no change, or hyper answers an HTTP/1.1 request by itself.
pub(crate) fn compare(bytes: &[u8], at_once: usize, protocol: HttpVersion) -> Result<(), String> {
    let with = serve(bytes, at_once, protocol, true);
    let without = serve(bytes, bytes.len(), protocol, false);
    let differ = || Err(format!("with: {with:?}\nwithout: {without:?}"));
    match protocol {
        HttpVersion::Http1 => {
            let answers = String::from_utf8_lossy(&with.answers);
            if answers.matches("HTTP/1.").count() != answers.matches("answered: ").count() {
                return differ();
            }
            // After a refused request, only one of the two connections may continue.
            let accepted = with.requests.iter().take_while(|request| request.problem.is_none());
            let all_accepted = accepted.clone().count() == with.requests.len();
            let same = accepted.zip(&without.requests).all(|(with, without)| with.is_like(without));
            if !same || all_accepted && with.requests.len() < without.requests.len() {
                return differ();
            }
        }
        HttpVersion::Http2 => {
            let all_accepted = with.requests.iter().all(|request| request.problem.is_none());
            // h2 may refuse a frame before it has read it completely.
            let resets = resets(&with) || resets(&without);
            if all_accepted && !resets && with.sorted() != without.sorted() {
                return differ();
            }
        }
    }
    Ok(())
}

/// Returns whether h2 has reset a stream or closed the connection.
fn resets(seen: &Seen) -> bool {
    const RST_STREAM: u8 = 3;
    const GO_AWAY: u8 = 7;
    let mut rest = &seen.answers[..];
    while let [l2, l1, l0, kind, ..] = *rest {
        if kind == RST_STREAM || kind == GO_AWAY {
            return true;
        }
        let length = usize::from(l2) << 16 | usize::from(l1) << 8 | usize::from(l0);
        rest = rest.get(9 + length..).unwrap_or_default();
    }
    false
}

async fn connection<S>(stream: S, protocol: HttpVersion, seen: Shared)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| answer(request, Arc::clone(&seen)));
    let stream = TokioIo::new(stream);
    let _ended = match protocol {
        HttpVersion::Http1 => {
            let mut builder = hyper::server::conn::http1::Builder::new();
            builder.auto_date_header(false).max_buf_size(MAX_HEAD_BYTES);
            builder.serve_connection(stream, service).await
        }
        HttpVersion::Http2 => {
            let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            builder.auto_date_header(false).max_header_list_size(32 * 1024);
            builder.serve_connection(stream, service).await
        }
    };
}

async fn answer(request: Request<Incoming>, seen: Shared) -> Result<Response<Body>, Infallible> {
    let request = find_problem(request);
    let problem = request.extensions().get::<HeadProblem>().map(|problem| problem.target());
    let (parts, body) = request.into_parts();
    let target = parts.uri.to_string();
    let head = format!("{} {:?} {:?}", parts.method, parts.version, parts.headers);
    let body = to_bytes(Body::new(body), usize::MAX).await.ok().map(Into::into);
    lock(&seen).seen.requests.push(SeenRequest { head, target, body, problem });
    let mut response = Response::new(Body::empty());
    response
        .headers_mut()
        .insert("answered", axum::http::HeaderValue::from_static("by-the-service"));
    Ok(response)
}

type Shared = Arc<Mutex<State>>;

#[derive(Default)]
struct State {
    seen: Seen,
    read: usize,
}

impl State {
    fn progress(&self) -> (usize, usize, usize) {
        (self.seen.requests.len(), self.seen.answers.len(), self.read)
    }
}

fn lock(state: &Shared) -> std::sync::MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The connection of a client that has already sent all bytes.
struct Client {
    bytes: Vec<u8>,
    read: usize,
    at_once: usize,
    seen: Shared,
}

impl AsyncRead for Client {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let rest = self.bytes.get(self.read..).unwrap_or_default();
        if rest.is_empty() {
            return Poll::Pending;
        }
        let now = rest.len().min(self.at_once.max(1)).min(buffer.remaining());
        buffer.put_slice(rest.get(..now).unwrap_or_default());
        self.read += now;
        lock(&self.seen).read = self.read;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Client {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        lock(&self.seen).seen.answers.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
