//! A server in memory that shows what hyper sees of a connection, with and without [`AcceptableHeads`].

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

use super::{AcceptableHeads, HeadProblem, MAX_HEAD_BYTES, find_problem};
use crate::listen::{Protocol, Reservation};

/// When nothing has happened for so many turns of the runtime, nothing happens any more.
const QUIET_TURNS: usize = 40;

/// The requests that a server saw, and its answers.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    /// The requests that reached the service.
    pub(super) requests: Vec<SeenRequest>,
    /// All bytes that the client was sent.
    pub(super) answers: Vec<u8>,
}

/// A request that reached the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SeenRequest {
    /// Method, version and headers.
    pub(super) head: String,
    pub(super) target: String,
    /// The body, if it came to its end.
    pub(super) body: Option<Vec<u8>>,
    /// Why it is refused.
    pub(super) problem: Option<&'static str>,
}

impl Seen {
    /// All requests, in an order that does not depend on when their bodies ended.
    fn sorted(&self) -> Vec<(&str, String, Option<&[u8]>)> {
        let mut requests: Vec<_> = self.requests.iter().map(SeenRequest::parts).collect();
        requests.sort();
        requests
    }
}

impl SeenRequest {
    /// The parts that must not change. hyper accepts a raw quotation mark in a path, which is encoded all the same.
    fn parts(&self) -> (&str, String, Option<&[u8]>) {
        (&self.head, self.target.replace('"', "%22"), self.body.as_deref())
    }

    fn is_like(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

/// Serves these bytes, of which so many arrive at a time. The client then stays, and is silent.
pub(super) fn serve(bytes: &[u8], at_once: usize, protocol: Protocol, acceptable: bool) -> Seen {
    let client = Client { bytes: bytes.into(), read: 0, at_once, seen: Arc::default() };
    let seen = Arc::clone(&client.seen);
    let Ok(runtime) = Builder::new_current_thread().build() else { return Seen::default() };
    runtime.block_on(async move {
        let mut tasks = JoinSet::new();
        if acceptable {
            let client = AcceptableHeads::new(client, protocol, Reservation::default());
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

/// Compares what a server sees with and without [`AcceptableHeads`].
///
/// # Errors
/// If a request differs that needed no change, or hyper answers a request over HTTP/1.1 by itself.
pub(crate) fn compare(bytes: &[u8], at_once: usize, protocol: Protocol) -> Result<(), String> {
    let with = serve(bytes, at_once, protocol, true);
    let without = serve(bytes, bytes.len(), protocol, false);
    let differ = || Err(format!("with: {with:?}\nwithout: {without:?}"));
    match protocol {
        Protocol::Http1 => {
            let answers = String::from_utf8_lossy(&with.answers);
            if answers.matches("HTTP/1.").count() != answers.matches("answered: ").count() {
                return differ();
            }
            // Behind a request that was refused hyper may read on where the other connection has ended.
            let accepted = with.requests.iter().take_while(|request| request.problem.is_none());
            let all_accepted = accepted.clone().count() == with.requests.len();
            let same = accepted.zip(&without.requests).all(|(with, without)| with.is_like(without));
            if !same || all_accepted && with.requests.len() < without.requests.len() {
                return differ();
            }
        }
        Protocol::Http2 => {
            let all_accepted = with.requests.iter().all(|request| request.problem.is_none());
            // A frame that may not stand where it does is refused before h2 has read all of it.
            let resets = resets(&with) || resets(&without);
            if all_accepted && !resets && with.sorted() != without.sorted() {
                return differ();
            }
        }
    }
    Ok(())
}

/// Whether h2 has reset a stream or ended the connection.
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

async fn connection<S>(stream: S, protocol: Protocol, seen: Shared)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| answer(request, Arc::clone(&seen)));
    let stream = TokioIo::new(stream);
    let _ended = match protocol {
        Protocol::Http1 => {
            let mut builder = hyper::server::conn::http1::Builder::new();
            builder.auto_date_header(false).max_buf_size(MAX_HEAD_BYTES);
            builder.serve_connection(stream, service).await
        }
        Protocol::Http2 => {
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

/// The connection of a client that has sent everything.
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
