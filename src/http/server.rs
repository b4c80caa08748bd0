//! `[http]`: the listener that SuperOffice reaches, and its limits.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::DefaultBodyLimit,
    middleware::from_fn_with_state,
    routing::{MethodRouter, any, get, post},
};
use hyper::{Request, body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    net::TcpListener,
    sync::mpsc,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt as _;

use super::{
    around::{Around, Client, Route, around},
    consent::{CALLBACK, CONSENT, ConsentPages, callback, proceed, show},
    problem::Problem,
    state_change::{STATE_CHANGE, StateChanges, state_change},
    webhooks::{ASSOCIATES, MAX_BODY_BYTES, Webhooks, associates},
};
use crate::{
    listen::{Acceptor, Connection, Protocol, RequestIds, ServerTls, Speaks},
    ports::{Clock, Meter, Random},
};

/// Connections at one time; more wait until one ends.
const MAX_CONNECTIONS: usize = 256;

/// Opened connections on their way from the accept loop.
const OPENED_CONNECTIONS: usize = 16;

/// Requests at one time on one connection of HTTP/2; more wait in the client.
const MAX_CONCURRENT_STREAMS: u32 = 8;

/// The head of a request.
const MAX_HEAD_BYTES: usize = 32 * 1024;
const MAX_HEADER_LIST_BYTES: u32 = 32 * 1024;

/// What a client of HTTP/2 may send before it is read: with that of [`MAX_BODY_BYTES`] all that one can fill.
const WINDOW_BYTES: u32 = 64 * 1024;

/// A head of HTTP/1.1 that takes longer, and a connection on which no other comes, is given up.
const HEAD_TIME: Duration = Duration::from_secs(10);

/// A silent peer of HTTP/2 is asked after this whether it is still there …
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// … and has this long to answer.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection is ended after this, when its requests are answered: who keeps one open does not keep it for ever.
const MAX_CONNECTION_AGE: Duration = Duration::from_mins(10);

/// Longer than a request may take; then a client that does not read its answers is not waited for.
const FAREWELL: Duration = Duration::from_secs(15);

/// When every request is answered, what was answered has this long to arrive. Then connections are not waited for.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What the listener needs of the rest.
pub struct HttpPorts {
    /// Tells the time of request ids.
    pub clock: Arc<dyn Clock>,
    /// Makes them unique.
    pub random: Arc<dyn Random>,
    /// Counts requests.
    pub meter: Arc<dyn Meter>,
}

/// What stands on the listener.
pub struct HttpDoors {
    /// Hears of changes among associates.
    pub webhooks: Webhooks,
    /// Hears of changes of tenants.
    pub state_changes: Option<StateChanges>,
    /// Where people consent.
    pub consents: Option<ConsentPages>,
}

/// The routes on a bound socket, not yet accepting.
pub struct HttpServer {
    listener: TcpListener,
    tls: Option<Arc<ServerTls>>,
    router: Router,
    requests: TaskTracker,
}

impl HttpServer {
    /// Puts the routes on the socket.
    #[must_use]
    pub fn new(
        listener: TcpListener,
        tls: Option<Arc<ServerTls>>,
        doors: HttpDoors,
        ports: HttpPorts,
    ) -> Self {
        let HttpPorts { clock, random, meter } = ports;
        let requests = TaskTracker::new();
        let ids = RequestIds::new(clock, &*random);
        let layer = Arc::new(Around { ids, meter, requests: requests.clone() });
        let named =
            |pattern| from_fn_with_state(Route { around: Arc::clone(&layer), pattern }, around);
        let hook = |route: MethodRouter, pattern| {
            route
                .fallback(async || Problem::wrong_method())
                .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
                .layer(named(pattern))
        };
        let HttpDoors { webhooks, state_changes, consents } = doors;
        let associates = post(associates).with_state(Arc::new(webhooks));
        let mut router = Router::new().route(ASSOCIATES, hook(associates, ASSOCIATES));
        if let Some(state_changes) = state_changes {
            let changed = post(state_change).with_state(Arc::new(state_changes));
            router = router.route(STATE_CHANGE, hook(changed, STATE_CHANGE));
        }
        if let Some(consents) = consents {
            let consents = Arc::new(consents);
            let page = get(show).post(proceed).with_state(Arc::clone(&consents));
            let callback = get(callback).post(callback).with_state(consents);
            router = router
                .route(CONSENT, hook(page, CONSENT))
                .route(CALLBACK, hook(callback, CALLBACK));
        }
        let unknown = any(async || Problem::nothing_here()).layer(named("unknown"));
        let router = router.fallback_service(unknown);
        Self { listener, tls, router, requests }
    }

    /// Where it listens.
    ///
    /// # Errors
    /// If the socket is gone.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop`, then says so on every connection and returns when the requests under way are answered.
    pub async fn serve(self, stop: CancellationToken) {
        let Self { listener, tls, router, requests } = self;
        let (opened, incoming) = mpsc::channel(OPENED_CONNECTIONS);
        let (name, speaks) = ("http", Speaks::Http2OrHttp1);
        let acceptor = Acceptor { name, speaks, listener, tls: tls.clone(), stop: stop.clone() };
        let serving = async {
            tokio::join!(acceptor.run(opened), converse(incoming, &router, &stop));
        };
        let answered = async {
            stop.cancelled().await;
            requests.close();
            requests.wait().await;
            sleep(LAST_WORDS).await;
        };
        let reload = async {
            match tls {
                Some(tls) => match tls.watch().await {},
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = serving => {}
            () = answered => {}
            () = reload => {}
        }
    }
}

/// Serves what was opened until no more comes and all have ended. What is left ends with it.
async fn converse(
    mut incoming: mpsc::Receiver<Connection>,
    router: &Router,
    stop: &CancellationToken,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Some(connection) = incoming.recv(), if connections.len() < MAX_CONNECTIONS => {
                connections.spawn(serve(connection, router.clone(), stop.clone()));
            }
            Some(_) = connections.join_next() => {}
            else => return,
        }
    }
}

async fn serve(connection: Connection, router: Router, stop: CancellationToken) {
    let client = Client(connection.address().ip().to_canonical());
    let builder = match connection.protocol() {
        Protocol::Http1 => limits().http1_only(),
        Protocol::Http2 => limits().http2_only(),
    };
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(client);
        router.clone().oneshot(request)
    });
    let serving = builder.serve_connection(TokioIo::new(connection), service);
    let mut serving = std::pin::pin!(serving);
    let until_asked = async {
        tokio::select! {
            _ = serving.as_mut() => true,
            _ = timeout(MAX_CONNECTION_AGE, stop.cancelled()) => false,
        }
    };
    if !until_asked.await {
        serving.as_mut().graceful_shutdown();
        // A client that breaks off is nobody's loss.
        let _ = timeout(FAREWELL, serving).await;
    }
}

fn limits() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(MAX_HEAD_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_CONCURRENT_STREAMS)
        .max_header_list_size(MAX_HEADER_LIST_BYTES)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT);
    builder
}

#[cfg(test)]
mod tests;
