//! Connections of a listener that speaks HTTP, from the first to the last: who may have how many, for how long, and how
//! they end.

mod idle;
mod lingering;
mod patient;
mod request_body;

use std::{
    convert::Infallible,
    future::{Future, pending},
    io,
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use axum::{body::Body, response::Response};
use futures_util::{Stream, StreamExt as _};
use hyper::{
    HeaderMap, Request, Uri,
    body::{Body as _, Incoming},
    header,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    net::TcpListener,
    sync::mpsc,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub(super) use self::request_body::RequestBody;
use self::{
    idle::Unanswered,
    lingering::{Lingerers, Lingering},
    patient::Patient,
};
use super::{
    heads::{AcceptableHeads, HeadProblem, MAX_HEAD_BYTES, find_problem},
    held_body::holding,
};
use crate::{
    broker::Bell,
    listen::{
        Acceptor, ClientSlot, Connection, FrontProxies, Incoming as Handed, IntakeBudget,
        MAX_CANCELLED_STREAMS, MAX_STREAM_ERRORS, Protocol, ServerTls, Speaks, Undecided,
        WorkerEnded, Workers, worker_count,
    },
};

/// Opened connections on their way from the accept loop.
const OPENED_CONNECTIONS: usize = 16;

/// The head of a request: `heads` refuses a larger one before hyper would.
const MAX_HEADER_LIST_BYTES: u32 = 32 * 1024;
const _: () = assert!(MAX_HEADER_LIST_BYTES as usize == MAX_HEAD_BYTES);

/// A silent peer of HTTP/2 is asked after this whether it is still there …
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// … and has this long to answer.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// When every request is answered, what was answered has this long to arrive. Then connections are not waited for.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What a listener allows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Allowance {
    /// Connections at one time; more wait until one ends.
    pub(super) connections: usize,
    /// The number of connections without a permitted request, on which addresses share.
    pub(super) strangers: usize,
    /// Requests at one time on one connection of HTTP/2; more wait in the client.
    pub(super) streams: u32,
    /// What a client of HTTP/2 may send on a stream before it is read, …
    pub(super) stream_window: u32,
    /// … and on all of them together.
    pub(super) connection_window: u32,
    /// A head that takes longer, and a connection on which no other comes, is given up.
    pub(super) head_time: Duration,
    /// A client that takes nothing of its answer for so long is given up.
    pub(super) write_time: Duration,
    /// A connection is ended after this, when its requests are answered: who keeps one open does not keep it for ever.
    pub(super) age: Duration,
    /// Then a client that does not come to an end is not waited for.
    pub(super) farewell: Duration,
}

/// Answers what is asked on a connection.
pub(super) trait Answers: Clone + Send + Sync + 'static {
    /// What is known of the other end.
    type Peer: Clone + Send + Sync + 'static;

    /// What is known of the other end, found out once.
    fn peer<A>(&self, connection: &Connection<A>) -> Self::Peer;

    /// The address of the client of a request, which may be behind a trusted proxy.
    fn client_address(&self, peer: IpAddr, _: &HeaderMap) -> IpAddr {
        peer
    }

    /// Answers a request.
    fn answer(
        self,
        peer: Self::Peer,
        request: Request<RequestBody>,
    ) -> impl Future<Output = Response<Body>> + Send;
}

/// A bound socket, and what it takes to serve it.
pub(super) struct Conversations<A> {
    pub(super) name: &'static str,
    pub(super) listener: TcpListener,
    pub(super) tls: Option<Arc<ServerTls>>,
    pub(super) proxies: FrontProxies,
    /// The memory of undecided requests.
    pub(super) intake: Arc<IntakeBudget>,
    pub(super) allowance: Allowance,
    pub(super) answers: A,
    /// The requests that are not answered yet.
    pub(super) requests: TaskTracker,
}

impl<A: Answers> Conversations<A> {
    /// Serves until `stop`, then says so on every connection and returns when the requests under way are answered.
    pub(super) async fn serve(self, stop: CancellationToken) {
        let Self { name, listener, tls, proxies, intake, allowance, answers, requests } = self;
        let (opened, incoming) = mpsc::channel(OPENED_CONNECTIONS);
        let incoming = ReceiverStream::new(incoming);
        let acceptor = acceptor(name, listener, (tls.as_ref(), proxies), intake, allowance, &stop);
        let lingerers = Lingerers::among(allowance.connections);
        let conversing = converse(incoming, allowance, &answers, &lingerers, &stop);
        let serving = async { tokio::join!(acceptor.run(opened), conversing) };
        tokio::select! {
            _ = serving => {}
            () = answered(requests, &stop) => {}
            () = reload(tls) => {}
        }
    }

    /// The same on threads of its own, one for each core: for a listener on which every microsecond counts.
    ///
    /// # Errors
    /// If there are no threads to be had, or one ends by itself.
    pub(super) async fn serve_on_threads(
        self,
        stop: CancellationToken,
    ) -> Result<(), ThreadsFailed> {
        let Self { name, listener, tls, proxies, intake, mut allowance, answers, requests } = self;
        let (opened, incoming) = mpsc::channel(OPENED_CONNECTIONS);
        let acceptor = acceptor(name, listener, (tls.as_ref(), proxies), intake, allowance, &stop);
        let lingerers = Lingerers::among(allowance.connections);
        // They are handed out evenly.
        allowance.connections = allowance.connections.div_ceil(worker_count()?);
        let end = stop.clone();
        let serve = move |incoming: Handed| {
            let (answers, lingerers, stop) = (answers.clone(), lingerers.clone(), end.clone());
            async move {
                tokio::select! {
                    () = converse(incoming, allowance, &answers, &lingerers, &stop) => {}
                    () = Bell::serve() => {}
                }
                Ok(())
            }
        };
        let mut workers = Workers::start(name, serve)?;
        let serving = workers.serve(incoming, &stop);
        let serving = async { tokio::join!(serving, acceptor.run(opened)).0 };
        let served = tokio::select! {
            served = serving => served,
            () = answered(requests, &stop) => Ok(()),
            () = reload(tls) => Ok(()),
        };
        workers.end().await;
        served
    }
}

/// Why a listener with threads of its own ended, or never began.
#[derive(Debug, thiserror::Error)]
pub enum ThreadsFailed {
    /// There are none to be had.
    #[error("the threads of the listener cannot be started: {0}")]
    Start(#[from] io::Error),
    /// One ended that should not.
    #[error(transparent)]
    Ended(#[from] WorkerEnded),
}

fn acceptor(
    name: &'static str,
    listener: TcpListener,
    (tls, proxies): (Option<&Arc<ServerTls>>, FrontProxies),
    intake: Arc<IntakeBudget>,
    allowance: Allowance,
    stop: &CancellationToken,
) -> Acceptor {
    let (tls, stop) = (tls.cloned(), stop.clone());
    let strangers = allowance.strangers;
    Acceptor { name, speaks: Speaks::Http2OrHttp1, listener, tls, proxies, strangers, intake, stop }
}

/// Once it is stopped, and everything is answered that was asked.
async fn answered(requests: TaskTracker, stop: &CancellationToken) {
    stop.cancelled().await;
    requests.close();
    requests.wait().await;
    sleep(LAST_WORDS).await;
}

/// Reads the files of TLS again when they change.
async fn reload(tls: Option<Arc<ServerTls>>) {
    match tls {
        Some(tls) => match tls.watch().await {},
        None => pending().await,
    }
}

/// Serves what was opened until no more comes and all have ended. What is left ends with it.
async fn converse<A: Answers, C: Unpin + Send + 'static>(
    mut incoming: impl Stream<Item = Connection<C>> + Unpin,
    allowance: Allowance,
    answers: &A,
    lingerers: &Lingerers,
    stop: &CancellationToken,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Some(connection) = incoming.next(), if connections.len() < allowance.connections => {
                let (answers, lingerers) = (answers.clone(), lingerers.clone());
                connections.spawn(serve(connection, allowance, answers, lingerers, stop.clone()));
            }
            Some(_) = connections.join_next() => {}
            else => return,
        }
    }
}

async fn serve<A: Answers, C: Unpin + Send + 'static>(
    connection: Connection<C>,
    allowance: Allowance,
    answers: A,
    lingerers: Lingerers,
    stop: CancellationToken,
) {
    let peer = answers.peer(&connection);
    let protocol = connection.protocol();
    let address = connection.address().ip();
    let slot = connection.slot();
    let reservation = slot.reservation();
    let connection = Patient::new(connection, allowance.write_time);
    let is_http1 = protocol == Protocol::Http1;
    let (connection, requests) = Lingering::new(connection, address, is_http1, lingerers);
    let answer = move |mut request: Request<Incoming>| {
        let client = answers.client_address(address, request.headers());
        let undecided = begin(&slot, client, &mut request, allowance);
        let (answers, peer) = (answers.clone(), peer.clone());
        let answer = Arc::clone(&requests).answer(request, |request| answers.answer(peer, request));
        async { end(answer.await, undecided) }
    };
    let connection = AcceptableHeads::new(connection, protocol, reservation);
    hold(connection, protocol, allowance, answer, stop).await;
}

/// Charges a request to the memory of undecided requests. One for which nothing is left is refused.
fn begin(
    slot: &ClientSlot,
    client: IpAddr,
    request: &mut Request<Incoming>,
    allowance: Allowance,
) -> Option<Arc<Undecided>> {
    let window = u64::from(allowance.stream_window);
    let unread = request.body().size_hint().upper().unwrap_or(window).min(window);
    let unread = usize::try_from(unread).unwrap_or_default();
    if let Ok(undecided) = Undecided::begin(slot.clone(), client, request.headers(), unread) {
        let undecided = Arc::new(undecided);
        request.extensions_mut().insert(Arc::clone(&undecided));
        return Some(undecided);
    }
    *request.uri_mut() = Uri::default();
    request.extensions_mut().insert(HeadProblem::Overloaded);
    None
}

/// Has the answer of a request that nothing was permitted to hold its memory until it is sent.
fn end(mut answer: Response<Body>, undecided: Option<Arc<Undecided>>) -> Response<Body> {
    if let Some(undecided) = undecided {
        // A client of HTTP/2 can stop many streams by not reading them.
        let waits = undecided.is_charged() && !answer.body().is_end_stream();
        return if waits { answer.map(|body| holding(body, undecided)) } else { answer };
    }
    // Without a body, for which a client of HTTP/2 could let the stream wait.
    *answer.body_mut() = Body::empty();
    answer.headers_mut().remove(header::CONTENT_TYPE);
    answer
}

/// Serves a connection from its first to its last request.
async fn hold<F>(
    connection: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    protocol: Protocol,
    allowance: Allowance,
    answer: impl Fn(Request<Incoming>) -> F,
    stop: CancellationToken,
) where
    F: Future<Output = Response<Body>> + Send + 'static,
{
    match protocol {
        Protocol::Http1 => hold_http1(connection, allowance, answer, stop).await,
        Protocol::Http2 => hold_http2(connection, allowance, answer, stop).await,
    }
}

/// Serves a connection of HTTP/1.1, and shuts its stream down in every case in which an answer was sent.
async fn hold_http1<F>(
    connection: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    allowance: Allowance,
    answer: impl Fn(Request<Incoming>) -> F,
    stop: CancellationToken,
) where
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let service = service_fn(|request| {
        let answer = answer(find_problem(request));
        async { Ok::<_, Infallible>(answer.await) }
    });
    let stream = TokioIo::new(connection);
    let mut connection = http1_limits(allowance).serve_connection(stream, service);
    let ended = tokio::select! {
        ended = &mut connection => Some(ended),
        _ = timeout(allowance.age, stop.cancelled()) => None,
    };
    let ended = if let Some(ended) = ended {
        ended
    } else {
        Pin::new(&mut connection).graceful_shutdown();
        let Ok(ended) = timeout(allowance.farewell, &mut connection).await else { return };
        ended
    };
    // Other errors mean that the client is gone, or that the answer is not whole: a regular end would hide that.
    if ended.is_err_and(|error| !error.is_parse()) {
        return;
    }
    // hyper leaves the shutdown to us after a request that asked for an upgrade, which clients do by default over
    // cleartext. After every other request the stream is shut down already, and this does nothing.
    let mut stream = connection.into_parts().io.into_inner();
    let given_up = async {
        stop.cancelled().await;
        sleep(allowance.farewell).await;
    };
    tokio::select! {
        _ = stream.shutdown() => {}
        () = given_up => {}
    }
}

/// Serves a connection of HTTP/2.
async fn hold_http2<F>(
    connection: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    allowance: Allowance,
    answer: impl Fn(Request<Incoming>) -> F,
    stop: CancellationToken,
) where
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let unanswered = Unanswered::none();
    let service = service_fn(|request| {
        let open = unanswered.one();
        let answer = answer(find_problem(request));
        async { Ok::<_, Infallible>(answer.await.map(|body| holding(body, open))) }
    });
    let builder = http2_limits(allowance);
    let serving = builder.serve_connection(TokioIo::new(connection), service);
    let mut serving = std::pin::pin!(serving);
    tokio::select! {
        _ = serving.as_mut() => return,
        _ = timeout(allowance.age, stop.cancelled()) => {}
        () = unanswered.none_for(allowance.head_time) => {}
    }
    serving.as_mut().graceful_shutdown();
    // Errors of the client, and clients that stay without a request, are ignored.
    tokio::select! {
        _ = timeout(allowance.farewell, serving) => {}
        () = unanswered.none_for(allowance.head_time) => {}
    }
}

fn http1_limits(allowance: Allowance) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(allowance.head_time)
        .max_buf_size(MAX_HEAD_BYTES);
    builder
}

fn http2_limits(allowance: Allowance) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new()).http2_only();
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(allowance.streams)
        .max_header_list_size(MAX_HEADER_LIST_BYTES)
        .max_pending_accept_reset_streams(MAX_CANCELLED_STREAMS)
        .max_local_error_reset_streams(MAX_STREAM_ERRORS)
        .initial_stream_window_size(allowance.stream_window)
        .initial_connection_window_size(allowance.connection_window)
        .keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT);
    builder
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures_util::stream;
    use hyper::client::conn::http2::handshake;
    use tokio::{io::DuplexStream, time::Instant};

    use super::*;

    const ALLOWANCE: Allowance = Allowance {
        connections: 1,
        strangers: 1,
        streams: 8,
        stream_window: 64 * 1024,
        connection_window: 8 * 64 * 1024,
        head_time: Duration::from_mins(1),
        write_time: Duration::from_secs(30),
        age: Duration::from_hours(1),
        farewell: Duration::from_hours(1),
    };

    /// The time between an answer's beginning, its two parts, and its end.
    const PART: Duration = Duration::from_mins(3);

    /// Holds one end of a connection of HTTP/2; the other is for a client.
    fn held() -> (impl Future<Output = ()>, DuplexStream) {
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let answer = async |_| {
            let parts = stream::unfold(0, async |sent| {
                sleep(PART).await;
                (sent < 2).then(|| (Ok::<_, Infallible>(Bytes::from_static(b"x")), sent + 1))
            });
            Response::new(Body::from_stream(parts))
        };
        let stop = CancellationToken::new();
        (hold(ours, Protocol::Http2, ALLOWANCE, answer, stop), theirs)
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_of_http2_on_which_nothing_is_asked_is_ended() {
        let (holding, theirs) = held();
        let begin = Instant::now();
        let client = async {
            let handshake = handshake::<_, _, Body>(TokioExecutor::new(), TokioIo::new(theirs));
            // It answers every ping.
            let (_asking, connection) = handshake.await.unwrap();
            connection.await.unwrap();
        };
        tokio::join!(holding, client);
        assert_eq!(begin.elapsed().as_secs(), ALLOWANCE.head_time.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_says_nothing_at_all_is_given_up() {
        let (holding, _theirs) = held();
        let begin = Instant::now();
        holding.await;
        assert!(begin.elapsed() <= 2 * ALLOWANCE.head_time);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_of_http2_stays_for_an_answer_that_takes_long() {
        let (holding, theirs) = held();
        let begin = Instant::now();
        let client = async {
            let handshake = handshake::<_, _, Body>(TokioExecutor::new(), TokioIo::new(theirs));
            let (mut asking, connection) = handshake.await.unwrap();
            let asked = async {
                sleep(ALLOWANCE.head_time / 2).await;
                let request = Request::get("http://x/").body(Body::empty()).unwrap();
                let answer = asking.send_request(request).await.unwrap();
                let body = axum::body::to_bytes(Body::new(answer.into_body()), 10).await.unwrap();
                assert_eq!(body, "xx");
                // The client stays.
                pending::<()>().await;
            };
            tokio::select! {
                ended = connection => ended.unwrap(),
                () = asked => {}
            }
        };
        tokio::join!(holding, client);
        let wanted = ALLOWANCE.head_time / 2 + 3 * PART + ALLOWANCE.head_time;
        assert_eq!(begin.elapsed().as_secs(), wanted.as_secs());
    }
}
