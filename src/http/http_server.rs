//! The HTTP server behind all three HTTP listeners: limits of connections and requests, timeouts, and graceful
//! shutdown.

mod idle;
mod lingering;
mod request_body;
mod write_timeout;

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
    idle::OpenRequests,
    lingering::{LingerSlots, LingeringStream},
    write_timeout::WriteTimeout,
};
use super::{
    guarded_body::body_with_guard,
    heads::{HeadFilter, HeadProblem, MAX_HEAD_BYTES, find_problem},
};
use crate::{
    audit::ThreadWaker,
    listen::{
        Acceptor, ClientSlot, Connection, FrontProxies, HttpVersion,
        Incoming as IncomingConnections, IntakeBudget, MAX_CANCELLED_STREAMS, MAX_STREAM_ERRORS,
        Protocol, RequestCharge, ServerTls, WorkerEnded, Workers, worker_count,
    },
};

/// The capacity of the queue of opened connections behind the accept loop.
const CONNECTION_QUEUE: usize = 16;

/// The maximum size of a request head. `heads` refuses a larger one before hyper does.
const MAX_HEADER_LIST_BYTES: u32 = 32 * 1024;
const _: () = assert!(MAX_HEADER_LIST_BYTES as usize == MAX_HEAD_BYTES);

/// The time without traffic after which an HTTP/2 peer gets a keep-alive ping.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// The time for the answer to a keep-alive ping.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// The time to send the last answers at shutdown. Then connections are closed.
const FLUSH_TIME: Duration = Duration::from_secs(1);

/// The limits of a listener.
#[derive(Debug, Clone, Copy)]
pub(super) struct ConnectionLimits {
    /// The maximum number of connections. More wait until one ends.
    pub(super) connections: usize,
    /// The maximum number of connections without a permitted request, which client addresses share.
    pub(super) unauthorized_connections: usize,
    /// The maximum number of concurrent requests on an HTTP/2 connection. More wait in the client.
    pub(super) max_streams: u32,
    /// The bytes that an HTTP/2 client may send on a stream before they are read.
    pub(super) stream_window: u32,
    /// The same limit for all streams of a connection together.
    pub(super) connection_window: u32,
    /// The time limit for a head to arrive, and for a connection without requests.
    pub(super) head_timeout: Duration,
    /// The time after which a client that reads nothing of its answer is disconnected.
    pub(super) write_timeout: Duration,
    /// The maximum age of a connection. Then it is closed after its requests are answered.
    pub(super) max_age: Duration,
    /// The time for a graceful shutdown of a connection. Then it is closed.
    pub(super) shutdown_timeout: Duration,
}

/// Handles the requests of a listener.
pub(super) trait RequestHandler: Clone + Send + Sync + 'static {
    /// The client of a connection.
    type Peer: Clone + Send + Sync + 'static;

    /// Returns the client of a connection. Called once per connection.
    fn peer<A>(&self, connection: &Connection<A>) -> Self::Peer;

    /// Returns the client address of a request, which may be behind a trusted proxy.
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

/// An HTTP server on a bound socket.
pub(super) struct HttpServer<A> {
    pub(super) name: &'static str,
    pub(super) listener: TcpListener,
    pub(super) tls: Option<Arc<ServerTls>>,
    pub(super) proxies: FrontProxies,
    /// The memory budget of unauthorized requests.
    pub(super) intake: Arc<IntakeBudget>,
    pub(super) limits: ConnectionLimits,
    pub(super) handler: A,
    /// Tracks the requests that are not answered yet.
    pub(super) requests: TaskTracker,
}

impl<A: RequestHandler> HttpServer<A> {
    /// Serves until `stop`, then shuts connections down gracefully and returns when the running requests are answered.
    pub(super) async fn serve(self, stop: CancellationToken) {
        let Self { name, listener, tls, proxies, intake, limits, handler, requests } = self;
        let (opened, incoming) = mpsc::channel(CONNECTION_QUEUE);
        let incoming = ReceiverStream::new(incoming);
        let acceptor = acceptor(name, listener, (tls.as_ref(), proxies), intake, limits, &stop);
        let linger_slots = LingerSlots::for_connections(limits.connections);
        let serving_connections =
            serve_connections(incoming, limits, &handler, &linger_slots, &stop);
        let serving = async { tokio::join!(acceptor.run(opened), serving_connections) };
        tokio::select! {
            _ = serving => {}
            () = wait_until_answered(requests, &stop) => {}
            () = reload_tls(tls) => {}
        }
    }

    /// Serves like [`Self::serve`], on one thread per core, for the listener that needs low latency.
    ///
    /// # Errors
    /// If the threads cannot be started, or one ends unexpectedly.
    pub(super) async fn serve_on_threads(
        self,
        stop: CancellationToken,
    ) -> Result<(), ThreadsFailed> {
        let Self { name, listener, tls, proxies, intake, mut limits, handler, requests } = self;
        let (opened, incoming) = mpsc::channel(CONNECTION_QUEUE);
        let acceptor = acceptor(name, listener, (tls.as_ref(), proxies), intake, limits, &stop);
        let linger_slots = LingerSlots::for_connections(limits.connections);
        // Connections are distributed evenly among the threads.
        limits.connections = limits.connections.div_ceil(worker_count()?);
        let end = stop.clone();
        let serve = move |incoming: IncomingConnections| {
            let (handler, linger_slots, stop) =
                (handler.clone(), linger_slots.clone(), end.clone());
            async move {
                tokio::select! {
                    () = serve_connections(incoming, limits, &handler, &linger_slots, &stop) => {}
                    () = ThreadWaker::serve() => {}
                }
                Ok(())
            }
        };
        let mut workers = Workers::start(name, serve)?;
        let serving = workers.serve(incoming, &stop);
        let serving = async { tokio::join!(serving, acceptor.run(opened)).0 };
        let served = tokio::select! {
            served = serving => served,
            () = wait_until_answered(requests, &stop) => Ok(()),
            () = reload_tls(tls) => Ok(()),
        };
        workers.shut_down().await;
        served
    }
}

/// The reason why a listener with its own threads failed or did not start.
#[derive(Debug, thiserror::Error)]
pub enum ThreadsFailed {
    /// The threads cannot be started.
    #[error("the threads of the listener cannot be started: {0}")]
    Start(#[from] io::Error),
    /// A thread ended unexpectedly.
    #[error(transparent)]
    Ended(#[from] WorkerEnded),
}

fn acceptor(
    name: &'static str,
    listener: TcpListener,
    (tls, proxies): (Option<&Arc<ServerTls>>, FrontProxies),
    intake: Arc<IntakeBudget>,
    limits: ConnectionLimits,
    stop: &CancellationToken,
) -> Acceptor {
    let (tls, stop) = (tls.cloned(), stop.clone());
    let unauthorized_connections = limits.unauthorized_connections;
    Acceptor {
        name,
        protocol: Protocol::Http2OrHttp1,
        listener,
        tls,
        proxies,
        unauthorized_connections,
        intake,
        stop,
    }
}

/// Completes after `stop`, when all requests are answered.
async fn wait_until_answered(requests: TaskTracker, stop: &CancellationToken) {
    stop.cancelled().await;
    requests.close();
    requests.wait().await;
    sleep(FLUSH_TIME).await;
}

/// Reloads the TLS files when they change.
async fn reload_tls(tls: Option<Arc<ServerTls>>) {
    match tls {
        Some(tls) => match tls.watch().await {},
        None => pending().await,
    }
}

/// Serves opened connections until no more come and all have ended. Dropping the future closes the rest.
async fn serve_connections<A: RequestHandler, C: Unpin + Send + 'static>(
    mut incoming: impl Stream<Item = Connection<C>> + Unpin,
    limits: ConnectionLimits,
    handler: &A,
    linger_slots: &LingerSlots,
    stop: &CancellationToken,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Some(connection) = incoming.next(), if connections.len() < limits.connections => {
                let (handler, linger_slots) = (handler.clone(), linger_slots.clone());
                connections.spawn(serve_connection(connection, limits, handler, linger_slots, stop.clone()));
            }
            Some(_) = connections.join_next() => {}
            else => return,
        }
    }
}

async fn serve_connection<A: RequestHandler, C: Unpin + Send + 'static>(
    connection: Connection<C>,
    limits: ConnectionLimits,
    handler: A,
    linger_slots: LingerSlots,
    stop: CancellationToken,
) {
    let peer = handler.peer(&connection);
    let protocol = connection.version();
    let address = connection.address().ip();
    let slot = connection.slot();
    let reservation = slot.reservation();
    let connection = WriteTimeout::new(connection, limits.write_timeout);
    let is_http1 = protocol == HttpVersion::Http1;
    let (connection, requests) = LingeringStream::new(connection, address, is_http1, linger_slots);
    let answer = move |mut request: Request<Incoming>| {
        let client = handler.client_address(address, request.headers());
        let charge = charge_request(&slot, client, &mut request, limits);
        let (handler, peer) = (handler.clone(), peer.clone());
        let answer = Arc::clone(&requests).answer(request, |request| handler.answer(peer, request));
        // Boxed, so that a task that only waits for its client to read the answer is small.
        let answer = Box::pin(answer);
        async { finish_answer(answer.await, charge) }
    };
    let connection = HeadFilter::new(connection, protocol, reservation);
    serve_requests(connection, protocol, limits, answer, stop).await;
}

/// Charges a request to the memory budget of unauthorized requests. Refuses it if the budget is exhausted.
fn charge_request(
    slot: &ClientSlot,
    client: IpAddr,
    request: &mut Request<Incoming>,
    limits: ConnectionLimits,
) -> Option<Arc<RequestCharge>> {
    let window = u64::from(limits.stream_window);
    let unread = request.body().size_hint().upper().unwrap_or(window).min(window);
    let unread = usize::try_from(unread).unwrap_or_default();
    if let Ok(charge) = RequestCharge::begin(slot.clone(), client, request.headers(), unread) {
        let charge = Arc::new(charge);
        request.extensions_mut().insert(Arc::clone(&charge));
        return Some(charge);
    }
    *request.uri_mut() = Uri::default();
    request.extensions_mut().insert(HeadProblem::Overloaded);
    None
}

/// Makes the answer of an unauthorized request keep the memory charge until it is sent.
fn finish_answer(mut answer: Response<Body>, charge: Option<Arc<RequestCharge>>) -> Response<Body> {
    if let Some(charge) = charge {
        // An HTTP/2 client can block many streams by not reading them.
        let waits = charge.is_charged() && !answer.body().is_end_stream();
        return if waits { answer.map(|body| body_with_guard(body, charge)) } else { answer };
    }
    // Without a body, so that an HTTP/2 client cannot block the stream.
    *answer.body_mut() = Body::empty();
    answer.headers_mut().remove(header::CONTENT_TYPE);
    answer
}

/// Serves the requests of a connection.
async fn serve_requests<F>(
    connection: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    protocol: HttpVersion,
    limits: ConnectionLimits,
    answer: impl Fn(Request<Incoming>) -> F,
    stop: CancellationToken,
) where
    F: Future<Output = Response<Body>> + Send + 'static,
{
    match protocol {
        HttpVersion::Http1 => serve_http1(connection, limits, answer, stop).await,
        HttpVersion::Http2 => serve_http2(connection, limits, answer, stop).await,
    }
}

/// Serves an HTTP/1.1 connection, and shuts its stream down if a complete answer was sent.
async fn serve_http1<F>(
    connection: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    limits: ConnectionLimits,
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
    let mut connection = http1_limits(limits).serve_connection(stream, service);
    let ended = tokio::select! {
        ended = &mut connection => Some(ended),
        _ = timeout(limits.max_age, stop.cancelled()) => None,
    };
    let ended = if let Some(ended) = ended {
        ended
    } else {
        Pin::new(&mut connection).graceful_shutdown();
        let Ok(ended) = timeout(limits.shutdown_timeout, &mut connection).await else { return };
        ended
    };
    // Other errors mean that the client is gone, or that the answer is incomplete, which a clean shutdown would hide.
    if ended.is_err_and(|error| !error.is_parse()) {
        return;
    }
    // hyper does not shut the stream down after a request with an upgrade header, which some clients send by default
    // over cleartext. After other requests it is shut down already, and this does nothing.
    let mut stream = connection.into_parts().io.into_inner();
    let given_up = async {
        stop.cancelled().await;
        sleep(limits.shutdown_timeout).await;
    };
    tokio::select! {
        _ = stream.shutdown() => {}
        () = given_up => {}
    }
}

/// Serves an HTTP/2 connection.
async fn serve_http2<F>(
    connection: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    limits: ConnectionLimits,
    answer: impl Fn(Request<Incoming>) -> F,
    stop: CancellationToken,
) where
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let unanswered = OpenRequests::new();
    let service = service_fn(|request| {
        let open = unanswered.open();
        let answer = answer(find_problem(request));
        async { Ok::<_, Infallible>(answer.await.map(|body| body_with_guard(body, open))) }
    });
    let builder = http2_limits(limits);
    let serving = builder.serve_connection(TokioIo::new(connection), service);
    let mut serving = std::pin::pin!(serving);
    tokio::select! {
        _ = serving.as_mut() => return,
        _ = timeout(limits.max_age, stop.cancelled()) => {}
        () = unanswered.idle_for(limits.head_timeout) => {}
    }
    serving.as_mut().graceful_shutdown();
    // Client errors and idle clients are ignored.
    tokio::select! {
        _ = timeout(limits.shutdown_timeout, serving) => {}
        () = unanswered.idle_for(limits.head_timeout) => {}
    }
}

fn http1_limits(limits: ConnectionLimits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_timeout)
        .max_buf_size(MAX_HEAD_BYTES);
    builder
}

fn http2_limits(limits: ConnectionLimits) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new()).http2_only();
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.max_streams)
        .max_header_list_size(MAX_HEADER_LIST_BYTES)
        .max_pending_accept_reset_streams(MAX_CANCELLED_STREAMS)
        .max_local_error_reset_streams(MAX_STREAM_ERRORS)
        .initial_stream_window_size(limits.stream_window)
        .initial_connection_window_size(limits.connection_window)
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

    const LIMITS: ConnectionLimits = ConnectionLimits {
        connections: 1,
        unauthorized_connections: 1,
        max_streams: 8,
        stream_window: 64 * 1024,
        connection_window: 8 * 64 * 1024,
        head_timeout: Duration::from_mins(1),
        write_timeout: Duration::from_secs(30),
        max_age: Duration::from_hours(1),
        shutdown_timeout: Duration::from_hours(1),
    };

    /// The time between the start of an answer, its two parts, and its end.
    const PART: Duration = Duration::from_mins(3);

    /// Returns a served HTTP/2 connection and the client's end of it.
    fn http2_connection() -> (impl Future<Output = ()>, DuplexStream) {
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let answer = async |_| {
            let parts = stream::unfold(0, async |sent| {
                sleep(PART).await;
                (sent < 2).then(|| (Ok::<_, Infallible>(Bytes::from_static(b"x")), sent + 1))
            });
            Response::new(Body::from_stream(parts))
        };
        let stop = CancellationToken::new();
        (serve_requests(ours, HttpVersion::Http2, LIMITS, answer, stop), theirs)
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_http2_connection_is_closed() {
        let (holding, theirs) = http2_connection();
        let begin = Instant::now();
        let client = async {
            let handshake = handshake::<_, _, Body>(TokioExecutor::new(), TokioIo::new(theirs));
            // The client answers every ping.
            let (_asking, connection) = handshake.await.unwrap();
            connection.await.unwrap();
        };
        tokio::join!(holding, client);
        assert_eq!(begin.elapsed().as_secs(), LIMITS.head_timeout.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_sends_nothing_is_disconnected() {
        let (holding, _theirs) = http2_connection();
        let begin = Instant::now();
        holding.await;
        assert!(begin.elapsed() <= 2 * LIMITS.head_timeout);
    }

    #[tokio::test(start_paused = true)]
    async fn an_http2_connection_stays_open_during_a_slow_answer() {
        let (holding, theirs) = http2_connection();
        let begin = Instant::now();
        let client = async {
            let handshake = handshake::<_, _, Body>(TokioExecutor::new(), TokioIo::new(theirs));
            let (mut origin, connection) = handshake.await.unwrap();
            let asked = async {
                sleep(LIMITS.head_timeout / 2).await;
                let request = Request::get("http://x/").body(Body::empty()).unwrap();
                let answer = origin.send_request(request).await.unwrap();
                let body = axum::body::to_bytes(Body::new(answer.into_body()), 10).await.unwrap();
                assert_eq!(body, "xx");
                // The client keeps the connection open.
                pending::<()>().await;
            };
            tokio::select! {
                ended = connection => ended.unwrap(),
                () = asked => {}
            }
        };
        tokio::join!(holding, client);
        let wanted = LIMITS.head_timeout / 2 + 3 * PART + LIMITS.head_timeout;
        assert_eq!(begin.elapsed().as_secs(), wanted.as_secs());
    }
}
