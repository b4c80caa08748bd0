//! `[http]`: the listener that SuperOffice reaches, and its limits.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::DefaultBodyLimit,
    middleware::from_fn_with_state,
    response::Response,
    routing::{MethodRouter, any, get, post},
};
use hyper::{HeaderMap, Request};
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt as _;

use super::{
    around::{Around, Client, Route, around},
    consent::{CALLBACK, CONSENT, ConsentPages, callback, proceed, show},
    conversation::{Allowance, Answers, Conversations, RequestBody},
    heads::HeadProblem,
    problem::Problem,
    state_change::{STATE_CHANGE, StateChanges, state_change},
    webhook_body::MAX_BODY_BYTES,
    webhooks::{ASSOCIATES, Webhooks, associates},
};
use crate::{
    domain::TrustedProxies,
    listen::{Connection, FrontProxies, IntakeBudget, RequestIds, ServerTls, client_address},
    ports::{Clock, Meter, Random},
};

/// Nobody has reason to be here often, or long.
const ALLOWANCE: Allowance = Allowance {
    connections: 256,
    // Nobody is authenticated here, so that every connection is a stranger's.
    strangers: 128,
    streams: 8,
    // With that of `MAX_BODY_BYTES` all that one can fill.
    stream_window: 64 * 1024,
    connection_window: 64 * 1024,
    head_time: Duration::from_secs(10),
    write_time: Duration::from_secs(30),
    age: Duration::from_mins(10),
    // Longer than a request may take.
    farewell: Duration::from_secs(15),
};

/// What the listener needs of the rest.
pub struct HttpPorts {
    /// Tells the time of request ids.
    pub clock: Arc<dyn Clock>,
    /// Makes them unique.
    pub random: Arc<dyn Random>,
    /// Counts requests.
    pub meter: Arc<dyn Meter>,
    /// The memory of requests.
    pub intake: Arc<IntakeBudget>,
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
    proxies: FrontProxies,
    intake: Arc<IntakeBudget>,
    router: Router,
    requests: TaskTracker,
}

impl HttpServer {
    /// Puts the routes on the socket.
    #[must_use]
    pub fn new(
        listener: TcpListener,
        tls: Option<Arc<ServerTls>>,
        proxies: FrontProxies,
        doors: HttpDoors,
        ports: HttpPorts,
    ) -> Self {
        let HttpPorts { clock, random, meter, intake } = ports;
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
        let unknown = any(async |request: Request<Body>| {
            let head_problem = request.extensions().get::<HeadProblem>().copied();
            head_problem.map_or_else(Problem::nothing_here, Problem::from)
        });
        let unknown = unknown.layer(named("unknown"));
        let router = router.fallback_service(unknown);
        Self { listener, tls, proxies, intake, router, requests }
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
        let Self { listener, tls, proxies, intake, router, requests } = self;
        let answers = Routes { router, trusted: proxies.trusted.clone() };
        let (name, allowance) = ("http", ALLOWANCE);
        Conversations { name, listener, tls, proxies, intake, allowance, answers, requests }
            .serve(stop)
            .await;
    }
}

#[derive(Clone)]
struct Routes {
    router: Router,
    trusted: TrustedProxies,
}

impl Answers for Routes {
    type Peer = Client;

    fn peer<A>(&self, connection: &Connection<A>) -> Client {
        Client(connection.address().ip().to_canonical())
    }

    fn client_address(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        client_address(&self.trusted, peer, headers).unwrap_or(peer)
    }

    async fn answer(self, client: Client, mut request: Request<RequestBody>) -> Response<Body> {
        match client_address(&self.trusted, client.0, request.headers()) {
            Ok(address) => drop(request.extensions_mut().insert(Client(address))),
            Err(twice) => {
                request.extensions_mut().insert(client);
                request.extensions_mut().insert(twice);
            }
        }
        let Ok(answer) = self.router.oneshot(request).await;
        answer
    }
}

#[cfg(test)]
mod tests;
