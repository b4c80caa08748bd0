//! `[admin]`: liveness, readiness, metrics. Off the listeners that callers reach.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use hyper::Request;
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt as _;

use super::{
    conversation::{Allowance, Answers, Conversations, RequestBody},
    heads::HeadProblem,
    problem::Problem,
};
use crate::{
    listen::{Connection, IntakeBudget},
    ports::StoreWatch,
};

/// A store that takes longer than this to take a write is not ready.
const STORE_PATIENCE: Duration = Duration::from_secs(2);

/// The media type of the metrics page.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Whether callers should come here: the switch that start and shutdown turn, the store, and the audit
/// trail.
pub struct Readiness {
    open: AtomicBool,
    store: Arc<dyn StoreWatch>,
    audit_stalled: Box<dyn Fn() -> bool + Send + Sync>,
    remark: Box<dyn Fn() -> Option<String> + Send + Sync>,
}

impl Readiness {
    /// Not ready until [`Self::open`]. `remark` says what an operator should know though callers are served.
    #[must_use]
    pub fn new(
        store: Arc<dyn StoreWatch>,
        audit_stalled: impl Fn() -> bool + Send + Sync + 'static,
        remark: impl Fn() -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        Self {
            open: AtomicBool::new(false),
            store,
            audit_stalled: Box::new(audit_stalled),
            remark: Box::new(remark),
        }
    }

    /// Start has finished.
    pub fn open(&self) {
        self.open.store(true, Ordering::Release);
    }

    /// Shutdown has begun.
    pub fn close(&self) {
        self.open.store(false, Ordering::Release);
    }

    async fn obstacle(&self) -> Option<String> {
        if !self.open.load(Ordering::Acquire) {
            return Some("starting or stopping".to_owned());
        }
        if (self.audit_stalled)() {
            return Some("the audit trail is stalled".to_owned());
        }
        match tokio::time::timeout(STORE_PATIENCE, self.store.writable()).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!("the store took no write within {STORE_PATIENCE:?}")),
        }
    }
}

type Page = Arc<dyn Fn() -> String + Send + Sync>;

/// The admin listener on a bound socket.
pub struct Admin {
    listener: TcpListener,
    router: Router,
    intake: Arc<IntakeBudget>,
}

/// Probes and the reader of metrics: few, and each asks again within a minute.
const ALLOWANCE: Allowance = Allowance {
    connections: 128,
    // Nobody is authenticated here, so that every connection is a stranger's.
    strangers: 64,
    streams: 8,
    stream_window: 64 * 1024,
    connection_window: 64 * 1024,
    head_time: Duration::from_secs(75),
    write_time: Duration::from_secs(30),
    age: Duration::from_mins(10),
    farewell: Duration::from_secs(5),
};

impl Admin {
    /// Serves readiness, and `metrics` as the metrics page.
    #[must_use]
    pub fn new(
        listener: TcpListener,
        readiness: Arc<Readiness>,
        metrics: impl Fn() -> String + Send + Sync + 'static,
        intake: Arc<IntakeBudget>,
    ) -> Self {
        let metrics: Page = Arc::new(metrics);
        let router = Router::new()
            .route("/livez", get(async || "ok\n"))
            .route("/readyz", get(ready).with_state(readiness))
            .route("/metrics", get(page).with_state(metrics));
        Self { listener, router, intake }
    }

    /// Where it listens.
    ///
    /// # Errors
    /// If the socket is gone.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop`.
    pub async fn serve(self, stop: CancellationToken) {
        let Self { listener, router, intake } = self;
        let (name, allowance, answers) = ("admin", ALLOWANCE, Pages(router));
        let (tls, requests) = (None, TaskTracker::new());
        Conversations { name, listener, tls, intake, allowance, answers, requests }
            .serve(stop)
            .await;
    }
}

#[derive(Clone)]
struct Pages(Router);

impl Answers for Pages {
    type Peer = ();

    fn peer<A>(&self, _: &Connection<A>) {}

    async fn answer(self, (): (), request: Request<RequestBody>) -> Response<Body> {
        let head_problem = request.extensions().get::<HeadProblem>().copied();
        if let Some(problem) = head_problem {
            let mut answer = Response::new(Body::empty());
            *answer.status_mut() = Problem::from(problem).status();
            return answer;
        }
        let Ok(answer) = self.0.oneshot(request).await;
        answer
    }
}

async fn ready(State(readiness): State<Arc<Readiness>>) -> Response {
    match readiness.obstacle().await {
        None => match (readiness.remark)() {
            Some(remark) => format!("ok: {remark}\n").into_response(),
            None => "ok\n".into_response(),
        },
        Some(obstacle) => {
            (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {obstacle}\n")).into_response()
        }
    }
}

async fn page(State(page): State<Page>) -> Response {
    ([(header::CONTENT_TYPE, OPEN_METRICS)], page()).into_response()
}
