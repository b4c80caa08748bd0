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
use tokio::{net::TcpListener, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt as _;

use super::{
    conversation::{Allowance, Answers, Conversations, RequestBody},
    heads::HeadProblem,
    problem::Problem,
};
use crate::{
    listen::{Connection, FrontProxies, IntakeBudget},
    ports::StoreWatch,
};

/// Whoever reaches the page may ask as often as he likes: a write is a full sync of the disk.
const BETWEEN_WRITES: Duration = Duration::from_secs(1);

/// A store that takes longer than this to take a write is not ready.
const STORE_PATIENCE: Duration = Duration::from_secs(2);

/// The media type of the metrics page.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Whether callers should come here: the switch that start and shutdown turn, the store, and the audit
/// trail.
pub struct Readiness {
    open: AtomicBool,
    store: Arc<dyn StoreWatch>,
    /// Held while the store is asked, so that many who ask at once cause one write.
    last: Arc<tokio::sync::Mutex<Option<LastWrite>>>,
    /// Runs the writes.
    writes: TaskTracker,
    audit_stalled: Box<dyn Fn() -> bool + Send + Sync>,
    remark: Box<dyn Fn() -> Option<String> + Send + Sync>,
}

/// The last attempt to write into the store.
struct LastWrite {
    /// When it ended: whoever waited for it meanwhile takes its answer.
    ended: Instant,
    obstacle: Option<String>,
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
            last: Arc::default(),
            writes: TaskTracker::new(),
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
        if let Err(error) = self.store.check_file() {
            return Some(error.to_string());
        }
        if (self.audit_stalled)() {
            return Some("the audit trail is stalled".to_owned());
        }
        self.store_obstacle().await
    }

    /// Writes into the store, at most once in [`BETWEEN_WRITES`]. All who ask meanwhile get the last answer.
    async fn store_obstacle(&self) -> Option<String> {
        let mut last = Arc::clone(&self.last).lock_owned().await;
        if let Some(last) = &*last
            && last.ended.elapsed() < BETWEEN_WRITES
        {
            return last.obstacle.clone();
        }
        let store = Arc::clone(&self.store);
        // Runs to its end even if the client disconnects. Otherwise nothing would be noted of a request that is broken
        // off, and each of them would be a write.
        let asked = self.writes.spawn(async move {
            let obstacle = match tokio::time::timeout(STORE_PATIENCE, store.writable()).await {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(_) => Some(format!("the store took no write within {STORE_PATIENCE:?}")),
            };
            *last = Some(LastWrite { ended: Instant::now(), obstacle: obstacle.clone() });
            obstacle
        });
        asked.await.unwrap_or_else(|_| Some("the store could not be asked".to_owned()))
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
        let (tls, proxies, requests) = (None, FrontProxies::default(), TaskTracker::new());
        Conversations { name, listener, tls, proxies, intake, allowance, answers, requests }
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

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, atomic::AtomicUsize};

    use async_trait::async_trait;
    use jiff::Timestamp;

    use super::*;
    use crate::ports::StoreError;

    /// Counts writes, and fails as it is told.
    #[derive(Default)]
    struct Store {
        writes: AtomicUsize,
        lost: Mutex<bool>,
        full: Mutex<bool>,
    }

    #[async_trait]
    impl StoreWatch for Store {
        fn check_file(&self) -> Result<(), StoreError> {
            let lost = *self.lost.lock().unwrap();
            if lost { Err(StoreError::Lost("gateway.db was replaced".to_owned())) } else { Ok(()) }
        }

        async fn writable(&self) -> Result<(), StoreError> {
            self.writes.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(10)).await;
            let full = *self.full.lock().unwrap();
            if full { Err(StoreError::Unavailable("the disk is full".to_owned())) } else { Ok(()) }
        }

        async fn external_version(&self) -> Result<i64, StoreError> {
            Ok(1)
        }

        async fn forget_issued_after(&self, _: Timestamp) -> Result<u64, StoreError> {
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
    async fn many_who_ask_cause_one_write_a_second_and_all_hear_its_answer() {
        let (store, readiness) = readiness();
        let asked = futures_util::future::join_all((0..100).map(|_| readiness.obstacle()));
        assert!(asked.await.iter().all(Option::is_none));
        assert_eq!(store.writes.load(Ordering::SeqCst), 1);
        *store.full.lock().unwrap() = true;
        assert_eq!(readiness.obstacle().await, None);
        tokio::time::advance(BETWEEN_WRITES).await;
        let asked = futures_util::future::join_all((0..100).map(|_| readiness.obstacle()));
        for obstacle in asked.await {
            assert!(obstacle.unwrap().contains("the disk is full"));
        }
        assert_eq!(store.writes.load(Ordering::SeqCst), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_is_broken_off_does_not_cause_another_write() {
        let (store, readiness) = readiness();
        for _ in 0..3 {
            // The write takes 10 ms.
            let asked = tokio::time::timeout(Duration::from_millis(1), readiness.obstacle());
            asked.await.unwrap_err();
        }
        assert_eq!(readiness.obstacle().await, None);
        assert_eq!(store.writes.load(Ordering::SeqCst), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_whose_file_was_replaced_is_told_at_once_and_without_a_write() {
        let (store, readiness) = readiness();
        assert_eq!(readiness.obstacle().await, None);
        *store.lost.lock().unwrap() = true;
        assert!(readiness.obstacle().await.unwrap().contains("was replaced"));
        assert_eq!(store.writes.load(Ordering::SeqCst), 1);
    }
}
