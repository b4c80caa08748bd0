//! `[http]`: the public listener for SuperOffice and browsers, with its routes and limits.

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
    consent::{CALLBACK, CONSENT, ConsentPages, callback, proceed, show},
    heads::HeadProblem,
    http_server::{ConnectionLimits, HttpServer, RequestBody, RequestHandler},
    middleware::{ClientAddress, RequestLayer, Route, wrap_request},
    problem::Problem,
    state_change::{STATE_CHANGE, StateChanges, state_change},
    webhook_body::MAX_BODY_BYTES,
    webhooks::{ASSOCIATES, Webhooks, associates},
};
use crate::{
    domain::TrustedProxies,
    listen::{
        Connection, FrontProxies, IntakeBudget, RequestIdGenerator, ServerTls, client_address,
    },
    ports::{Clock, Meter, Random},
};

/// The limits of the listener, whose clients send few and short requests.
const LIMITS: ConnectionLimits = ConnectionLimits {
    connections: 256,
    // No connection of this listener becomes authorized.
    unauthorized_connections: 128,
    max_streams: 8,
    // Both windows have the size of `MAX_BODY_BYTES`.
    stream_window: 64 * 1024,
    connection_window: 64 * 1024,
    head_timeout: Duration::from_secs(10),
    write_timeout: Duration::from_secs(30),
    max_age: Duration::from_mins(10),
    // Longer than the time limit of a request.
    shutdown_timeout: Duration::from_secs(15),
};

/// The dependencies of the listener.
pub struct PublicPorts {
    /// The clock for request ids.
    pub clock: Arc<dyn Clock>,
    /// The random source for request ids.
    pub random: Arc<dyn Random>,
    /// Counts requests.
    pub meter: Arc<dyn Meter>,
    /// The memory budget of unauthorized requests.
    pub intake: Arc<IntakeBudget>,
}

/// The endpoints of the listener.
pub struct PublicEndpoints {
    /// Receives changes of associates.
    pub webhooks: Webhooks,
    /// Receives changes of tenants.
    pub state_changes: Option<StateChanges>,
    /// The pages on which people consent.
    pub consents: Option<ConsentPages>,
}

/// The public server on a bound socket, before it accepts connections.
pub struct PublicServer {
    listener: TcpListener,
    tls: Option<Arc<ServerTls>>,
    proxies: FrontProxies,
    intake: Arc<IntakeBudget>,
    router: Router,
    requests: TaskTracker,
}

impl PublicServer {
    /// Creates the server.
    #[must_use]
    pub fn new(
        listener: TcpListener,
        tls: Option<Arc<ServerTls>>,
        proxies: FrontProxies,
        endpoints: PublicEndpoints,
        ports: PublicPorts,
    ) -> Self {
        let PublicPorts { clock, random, meter, intake } = ports;
        let requests = TaskTracker::new();
        let ids = RequestIdGenerator::new(clock, &*random);
        let layer = Arc::new(RequestLayer { ids, meter, requests: requests.clone() });
        let logged = |pattern, is_signed| {
            let layer = Arc::clone(&layer);
            from_fn_with_state(Route { layer, pattern, is_signed }, wrap_request)
        };
        let limited = |route: MethodRouter, pattern, is_signed| {
            route
                .fallback(async || Problem::method_not_allowed())
                .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
                .layer(logged(pattern, is_signed))
        };
        let webhook = |route, pattern| limited(route, pattern, true);
        let page = |route, pattern| limited(route, pattern, false);
        let PublicEndpoints { webhooks, state_changes, consents } = endpoints;
        let associates = post(associates).with_state(Arc::new(webhooks));
        let mut router = Router::new().route(ASSOCIATES, webhook(associates, ASSOCIATES));
        if let Some(state_changes) = state_changes {
            let changed = post(state_change).with_state(Arc::new(state_changes));
            router = router.route(STATE_CHANGE, webhook(changed, STATE_CHANGE));
        }
        if let Some(consents) = consents {
            let consents = Arc::new(consents);
            let consent = get(show).post(proceed).with_state(Arc::clone(&consents));
            let callback = get(callback).post(callback).with_state(consents);
            router = router
                .route(CONSENT, page(consent, CONSENT))
                .route(CALLBACK, page(callback, CALLBACK));
        }
        let unknown = any(async |request: Request<Body>| {
            let head_problem = request.extensions().get::<HeadProblem>().copied();
            head_problem.map_or_else(Problem::not_found, Problem::from)
        });
        let unknown = unknown.layer(logged("unknown", false));
        let router = router.fallback_service(unknown);
        Self { listener, tls, proxies, intake, router, requests }
    }

    /// Returns the local address.
    ///
    /// # Errors
    /// If the operating system does not return it.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop`, then shuts connections down gracefully and returns when the running requests are answered.
    pub async fn serve(self, stop: CancellationToken) {
        let Self { listener, tls, proxies, intake, router, requests } = self;
        let handler = PublicHandler { router, trusted: proxies.trusted.clone() };
        let (name, limits) = ("http", LIMITS);
        HttpServer { name, listener, tls, proxies, intake, limits, handler, requests }
            .serve(stop)
            .await;
    }
}

#[derive(Clone)]
struct PublicHandler {
    router: Router,
    trusted: TrustedProxies,
}

impl RequestHandler for PublicHandler {
    type Peer = ClientAddress;

    fn peer<A>(&self, connection: &Connection<A>) -> ClientAddress {
        ClientAddress(connection.address().ip().to_canonical())
    }

    fn client_address(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        client_address(&self.trusted, peer, headers).unwrap_or(peer)
    }

    async fn answer(
        self,
        client: ClientAddress,
        mut request: Request<RequestBody>,
    ) -> Response<Body> {
        match client_address(&self.trusted, client.0, request.headers()) {
            Ok(address) => drop(request.extensions_mut().insert(ClientAddress(address))),
            Err(conflict) => {
                request.extensions_mut().insert(client);
                request.extensions_mut().insert(conflict);
            }
        }
        let Ok(answer) = self.router.oneshot(request).await;
        answer
    }
}

#[cfg(test)]
mod tests;
