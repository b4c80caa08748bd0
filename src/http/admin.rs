//! `[admin]`: liveness, readiness and metrics, on a listener that callers cannot reach.

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
use tokio::{net::TcpListener, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt as _;

use super::{
    heads::HeadProblem,
    http_server::{ConnectionLimits, HttpServer, RequestBody, RequestHandler},
    problem::Problem,
};
use crate::{
    listen::{Connection, FrontProxies, IntakeBudget},
    ports::StoreHealth,
};

/// The minimum time between test writes, however often a client asks. Each write is a full sync of the disk.
const WRITE_INTERVAL: Duration = Duration::from_secs(1);

/// The time limit of a test write. A slower store is not ready.
const STORE_TIMEOUT: Duration = Duration::from_secs(2);

/// The media type of the metrics page.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The readiness of this replica: the switch that start and shutdown set, the store, and the audit
/// trail.
pub struct Readiness {
    open: AtomicBool,
    store: Arc<dyn StoreHealth>,
    /// The last test write. Locked during a write, so that concurrent requests share it.
    last: Arc<tokio::sync::Mutex<Option<LastWrite>>>,
    /// The running test writes.
    writes: TaskTracker,
    audit_stalled: Box<dyn Fn() -> bool + Send + Sync>,
    remark: Box<dyn Fn() -> Option<String> + Send + Sync>,
}

/// The result of a test write to the store.
struct LastWrite {
    /// The time at which the write ended.
    ended: Instant,
    obstacle: Option<String>,
}

impl Readiness {
    /// Returns a state that is not ready until [`Self::open`]. `remark` returns a note about a ready replica.
    #[must_use]
    pub fn new(
        store: Arc<dyn StoreHealth>,
        audit_stalled: impl Fn() -> bool + Send + Sync + 'static,
        remark: impl Fn() -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        Self {
            open: AtomicBool::new(false),
            store,
            last: Arc::default(),
            writes: TaskTracker::new(),
            audit_stalled: Box::new(audit_stalled),
            remark: Box::new(remark),
        }
    }

    /// Marks the start as complete.
    pub fn open(&self) {
        self.open.store(true, Ordering::Release);
    }

    /// Marks the shutdown as begun.
    pub fn close(&self) {
        self.open.store(false, Ordering::Release);
    }

    async fn obstacle(&self) -> Option<String> {
        if !self.open.load(Ordering::Acquire) {
            return Some("starting or stopping".to_owned());
        }
        if let Err(error) = self.store.check_file() {
            return Some(error.to_string());
        }
        if (self.audit_stalled)() {
            return Some("the audit trail is stalled".to_owned());
        }
        self.store_obstacle().await
    }

    /// Tests the store with a write, at most once in [`WRITE_INTERVAL`]. Other requests get the last result.
    async fn store_obstacle(&self) -> Option<String> {
        let mut last = Arc::clone(&self.last).lock_owned().await;
        if let Some(last) = &*last
            && last.ended.elapsed() < WRITE_INTERVAL
        {
            return last.obstacle.clone();
        }
        let store = Arc::clone(&self.store);
        // The write completes even if the client disconnects. Otherwise its result would be lost, and each
        // disconnecting client would cause another write.
        let writing = self.writes.spawn(async move {
            let obstacle = match tokio::time::timeout(STORE_TIMEOUT, store.check_writable()).await {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(_) => {
                    Some(format!("the store did not complete a write within {STORE_TIMEOUT:?}"))
                }
            };
            *last = Some(LastWrite { ended: Instant::now(), obstacle: obstacle.clone() });
            obstacle
        });
        writing.await.unwrap_or_else(|_| Some("the test write to the store failed".to_owned()))
    }
}

type Page = Arc<dyn Fn() -> String + Send + Sync>;

/// The admin listener on a bound socket.
pub struct AdminServer {
    listener: TcpListener,
    router: Router,
    intake: Arc<IntakeBudget>,
}

/// The limits of the listener. Clients are probes and metrics collectors: few, with a request every minute.
const LIMITS: ConnectionLimits = ConnectionLimits {
    connections: 128,
    // This listener authenticates no clients.
    unauthorized_connections: 64,
    max_streams: 8,
    stream_window: 64 * 1024,
    connection_window: 64 * 1024,
    head_timeout: Duration::from_secs(75),
    write_timeout: Duration::from_secs(30),
    max_age: Duration::from_mins(10),
    shutdown_timeout: Duration::from_secs(5),
};

impl AdminServer {
    /// Creates the server. `metrics` returns the content of the metrics page.
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

    /// Returns the local address.
    ///
    /// # Errors
    /// If the operating system does not return it.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop`.
    pub async fn serve(self, stop: CancellationToken) {
        let Self { listener, router, intake } = self;
        let (name, limits, handler) = ("admin", LIMITS, AdminHandler(router));
        let (tls, proxies, requests) = (None, FrontProxies::default(), TaskTracker::new());
        HttpServer { name, listener, tls, proxies, intake, limits, handler, requests }
            .serve(stop)
            .await;
    }
}

#[derive(Clone)]
struct AdminHandler(Router);

impl RequestHandler for AdminHandler {
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

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, atomic::AtomicUsize};

    use async_trait::async_trait;
    use jiff::Timestamp;

    use super::*;
    use crate::ports::StoreError;

    /// Counts writes and fails if a test sets it to.
    #[derive(Default)]
    struct Store {
        writes: AtomicUsize,
        lost: Mutex<bool>,
        full: Mutex<bool>,
    }

    #[async_trait]
    impl StoreHealth for Store {
        fn check_file(&self) -> Result<(), StoreError> {
            let lost = *self.lost.lock().unwrap();
            if lost { Err(StoreError::Lost("gateway.db was replaced".to_owned())) } else { Ok(()) }
        }

        async fn check_writable(&self) -> Result<(), StoreError> {
            self.writes.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(10)).await;
            let full = *self.full.lock().unwrap();
            if full { Err(StoreError::Unavailable("the disk is full".to_owned())) } else { Ok(()) }
        }

        async fn external_version(&self) -> Result<i64, StoreError> {
            Ok(1)
        }

        async fn delete_issued_after(&self, _: Timestamp) -> Result<u64, StoreError> {
            Ok(0)
        }

        async fn close(&self) {}
    }

    fn readiness() -> (Arc<Store>, Readiness) {
        let store = Arc::new(Store::default());
        let readiness = Readiness::new(store.clone(), || false, || None);
        readiness.open();
        (store, readiness)
    }

    #[tokio::test(start_paused = true)]
    async fn concurrent_probes_share_one_write_a_second() {
        let (store, readiness) = readiness();
        let probes = futures_util::future::join_all((0..100).map(|_| readiness.obstacle()));
        assert!(probes.await.iter().all(Option::is_none));
        assert_eq!(store.writes.load(Ordering::SeqCst), 1);
        *store.full.lock().unwrap() = true;
        assert_eq!(readiness.obstacle().await, None);
        tokio::time::advance(WRITE_INTERVAL).await;
        let probes = futures_util::future::join_all((0..100).map(|_| readiness.obstacle()));
        for obstacle in probes.await {
            assert!(obstacle.unwrap().contains("the disk is full"));
        }
        assert_eq!(store.writes.load(Ordering::SeqCst), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_cancelled_probe_does_not_cause_another_write() {
        let (store, readiness) = readiness();
        for _ in 0..3 {
            // The write takes 10 ms.
            let probes = tokio::time::timeout(Duration::from_millis(1), readiness.obstacle());
            probes.await.unwrap_err();
        }
        assert_eq!(readiness.obstacle().await, None);
        assert_eq!(store.writes.load(Ordering::SeqCst), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_replaced_store_file_is_reported_without_a_write() {
        let (store, readiness) = readiness();
        assert_eq!(readiness.obstacle().await, None);
        *store.lost.lock().unwrap() = true;
        assert!(readiness.obstacle().await.unwrap().contains("was replaced"));
        assert_eq!(store.writes.load(Ordering::SeqCst), 1);
    }
}
