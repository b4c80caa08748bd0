//! The HTTP client: sends targets byte for byte, over pooled connections of limited age.
//!
//! Clients with a URL parser normalize addresses as a browser does and rewrite some characters, such as `'` in a query
//! to `%27`. A caller's target must be sent unchanged, so this uses hyper directly.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError, RwLock},
    thread::{self, ThreadId},
    time::Duration,
};

use arc_swap::ArcSwap;
use http::{
    HeaderValue,
    header::{ACCEPT, USER_AGENT},
};
use hyper_util::{
    client::legacy,
    rt::{TokioExecutor, TokioTimer},
};
use tokio::{
    runtime::{Handle, RuntimeFlavor},
    time::Instant,
};

use super::{
    Body, Fault, Network, Profile, Request, Response,
    connector::Connector,
    profile::IDLE_TIMEOUT,
    request::OutgoingBody,
    tls::{Authorities, Tls, TlsError},
};

/// The value of `User-Agent`.
pub const AGENT: &str = concat!("tenant-gateway/", env!("CARGO_PKG_VERSION"));

/// The maximum number of retries of a request that the host did not process (RFC 9113 section 8.7).
const MAX_REPETITIONS: usize = 2;

/// The time without traffic after which an HTTP/2 connection with a pending response is probed.
const PING_INTERVAL: Duration = Duration::from_secs(5);
/// The time limit for the answer to a probe. Without probes, every call would use a dead connection and time out.
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// The HTTP/2 flow control window of one response.
const STREAM_WINDOW: u32 = 1024 * 1024;
/// The window of a connection, larger than those of its streams together: unread responses must not block others.
const CONNECTION_WINDOW: u32 = 512 * STREAM_WINDOW;

/// Sends requests without following redirects. Clones share connections, which run on the runtime that opened them. A
/// thread with a runtime of its own has its own connections.
#[derive(Clone)]
pub struct HttpClient(Arc<Pools>);

/// The settings from which connection pools are made.
struct ClientSettings {
    network: Network,
    profile: Profile,
    /// TLS settings that replace those of the network.
    own_tls: Option<Arc<Tls>>,
}

struct Pools {
    settings: ClientSettings,
    /// The pool of the runtime with several threads.
    shared: CurrentPool,
    /// The pools of threads with a runtime of their own, of which there are a few for each core. A connection on
    /// another thread would wake two threads for each call.
    by_thread: RwLock<HashMap<ThreadId, Arc<CurrentPool>>>,
}

/// A pool that is replaced when it is too old.
struct CurrentPool {
    pool: ArcSwap<Pool>,
    /// Held while a new pool is created, so that only one is created.
    replacing: Mutex<()>,
}

/// Connections that are opened within [`Profile::max_connection_age`] of each other and trust the same authorities.
/// After that time a new pool replaces it: responses in progress continue, and idle connections are closed.
struct Pool {
    client: legacy::Client<Connector, OutgoingBody>,
    tls: Arc<Tls>,
    since: Instant,
}

impl Network {
    /// Creates a client.
    #[must_use]
    pub fn client(&self, profile: Profile) -> HttpClient {
        HttpClient::new(ClientSettings { network: self.clone(), profile, own_tls: None })
    }

    /// Creates a client that trusts only these authorities.
    ///
    /// # Errors
    /// If TLS cannot be set up with them.
    pub fn client_trusting(
        &self,
        profile: Profile,
        authorities: Authorities,
    ) -> Result<HttpClient, TlsError> {
        let own_tls = Some(Arc::new(Tls::only(authorities, &self.tls())?));
        Ok(HttpClient::new(ClientSettings { network: self.clone(), profile, own_tls }))
    }
}

impl HttpClient {
    fn new(settings: ClientSettings) -> Self {
        let (shared, by_thread) = (CurrentPool::new(&settings), RwLock::default());
        Self(Arc::new(Pools { settings, shared, by_thread }))
    }

    /// Sends a request and returns when the response begins, with any status. It is sent again only if the host says
    /// that it did not process it. The only time limit is that of connecting.
    ///
    /// # Errors
    /// If no response begins.
    pub async fn send(&self, request: Request) -> Result<Response, Fault> {
        let Request { method, uri, mut headers, body } = request;
        let uri = uri.ok_or_else(|| Fault::Connect("the address is not a URI".to_owned()))?;
        headers.entry(USER_AGENT).or_insert(HeaderValue::from_static(AGENT));
        headers.entry(ACCEPT).or_insert(HeaderValue::from_static("*/*"));
        let again = match &body {
            Body::Whole(bytes) => Some(bytes.clone()),
            Body::Stream(_) => None,
        };
        let mut body = OutgoingBody::from(body);
        let mut repetitions = 0;
        loop {
            let mut request = http::Request::new(body);
            *request.method_mut() = method.clone();
            *request.uri_mut() = uri.clone();
            *request.headers_mut() = headers.clone();
            let error = match self.pool().client.request(request).await {
                Ok(response) => return Ok(Response::new(response)),
                Err(error) => error,
            };
            match (&again, Fault::from_client_error(&error)) {
                (Some(bytes), Fault::NotProcessed) if repetitions < MAX_REPETITIONS => {
                    body = Body::Whole(bytes.clone()).into();
                    repetitions += 1;
                }
                (_, fault) => return Err(fault),
            }
        }
    }

    /// Returns the current pool for calls of this thread.
    fn pool(&self) -> Arc<Pool> {
        let Pools { settings, shared, by_thread } = &*self.0;
        let has_own_runtime = Handle::try_current()
            .is_ok_and(|runtime| runtime.runtime_flavor() == RuntimeFlavor::CurrentThread);
        if !has_own_runtime {
            return shared.get(settings);
        }
        let thread = thread::current().id();
        let known = by_thread.read().unwrap_or_else(PoisonError::into_inner).get(&thread).cloned();
        let own = known.unwrap_or_else(|| {
            let new = Arc::new(CurrentPool::new(settings));
            let mut pools = by_thread.write().unwrap_or_else(PoisonError::into_inner);
            pools.insert(thread, Arc::clone(&new));
            new
        });
        own.get(settings)
    }
}

impl CurrentPool {
    fn new(settings: &ClientSettings) -> Self {
        Self { pool: ArcSwap::from_pointee(settings.pool()), replacing: Mutex::default() }
    }

    /// Returns the pool. Creates a new one if it is too old.
    fn get(&self, settings: &ClientSettings) -> Arc<Pool> {
        let pool = self.pool.load_full();
        if settings.is_current(&pool) {
            return pool;
        }
        let _one = self.replacing.lock().unwrap_or_else(PoisonError::into_inner);
        let pool = self.pool.load_full();
        if settings.is_current(&pool) {
            return pool;
        }
        let pool = Arc::new(settings.pool());
        self.pool.store(Arc::clone(&pool));
        pool
    }
}

impl ClientSettings {
    fn tls(&self) -> Arc<Tls> {
        match &self.own_tls {
            Some(own) => Arc::clone(own),
            None => self.network.tls(),
        }
    }

    fn is_current(&self, pool: &Pool) -> bool {
        pool.since.elapsed() < self.profile.max_connection_age
            && Arc::ptr_eq(&pool.tls, &self.tls())
    }

    fn pool(&self) -> Pool {
        let tls = self.tls();
        let connector = self.network.connector(self.profile, Arc::clone(&tls));
        let client = legacy::Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .http2_initial_stream_window_size(STREAM_WINDOW)
            .http2_initial_connection_window_size(CONNECTION_WINDOW)
            .http2_keep_alive_interval(PING_INTERVAL)
            .http2_keep_alive_timeout(PING_TIMEOUT)
            .build(connector);
        Pool { client, tls, since: Instant::now() }
    }
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClient")
            .field("profile", &self.0.settings.profile)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbound::NetworkOptions;

    /// Returns the pool for calls of a new thread with a runtime of its own.
    fn pool_of_a_thread(client: &HttpClient) -> Arc<Pool> {
        let client = client.clone();
        let work = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let pool = client.pool();
                assert!(Arc::ptr_eq(&pool, &client.pool()));
                pool
            })
        };
        thread::spawn(work).join().unwrap()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn only_a_thread_with_a_runtime_of_its_own_has_its_own_pool() {
        let options = NetworkOptions { proxy: None, ca_file: None, nat64_prefixes: Vec::new() };
        let client = Network::new(options).unwrap().client(Profile::issuer());
        let shared = client.pool();
        assert!(Arc::ptr_eq(&shared, &client.pool()));
        let (one, other) = (pool_of_a_thread(&client), pool_of_a_thread(&client));
        assert!(!Arc::ptr_eq(&one, &other));
        assert!(!Arc::ptr_eq(&one, &shared) && !Arc::ptr_eq(&other, &shared));
    }
}
