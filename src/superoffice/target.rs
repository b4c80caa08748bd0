//! The client of the Web API: sends a request target byte for byte.
//!
//! `reqwest` reads every address as a browser does and writes some characters of it anew, such as `'` in a query as
//! `%27`. A caller's target must arrive as it came, so calls of the Web API use the client below `reqwest` directly, with
//! the same resolver, certificates and limits.

use std::{
    error::Error,
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
    vec,
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, Uri,
    header::{ACCEPT, USER_AGENT},
};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{
        self,
        connect::{HttpConnector, dns::Name},
    },
    rt::{TokioExecutor, TokioTimer},
};
use reqwest::{Body, Response};
use tokio::time::timeout;
use tower::Service;

use super::{
    client::{
        AGENT, CONNECT_TIMEOUT, CONNECTION_WINDOW, ClientOptions, IDLE_TIMEOUT, PING_INTERVAL,
        PING_TIMEOUT, STREAM_WINDOW,
    },
    fault::Fault,
    resolver::PublicAddresses,
};
use crate::outbound::{PlatformTls, Unresolved};

/// Most repetitions of a request that the host refused without processing it (RFC 9113 section 8.7).
const MAX_REPETITIONS: usize = 2;

/// Between two probes of a silent TCP connection.
const TCP_KEEPALIVE: Duration = Duration::from_secs(15);

type Connector = ConnectTimeout<HttpsConnector<HttpConnector<PublicAddresses>>>;
type BoxError = Box<dyn Error + Send + Sync>;

/// A call with its target as it is sent.
pub(super) struct TargetRequest {
    pub(super) method: Method,
    pub(super) target: Uri,
    pub(super) headers: HeaderMap,
    pub(super) body: TargetBody,
}

/// The body of a call.
pub(super) enum TargetBody {
    /// All of it, so that it can be sent again.
    Whole(Bytes),
    /// One that comes while it is sent.
    Stream(Body),
}

/// Sends calls of the Web API. Cheap to clone; clones share connections.
#[derive(Clone, Debug)]
pub(super) struct TargetClient(legacy::Client<Connector, Body>);

impl TargetClient {
    pub(super) fn new(options: ClientOptions, tls: PlatformTls) -> Self {
        let ClientOptions { timeout, allow_loopback } = options;
        let mut http = HttpConnector::new_with_resolver(PublicAddresses { allow_loopback });
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_keepalive(Some(TCP_KEEPALIVE));
        http.set_keepalive_interval(Some(TCP_KEEPALIVE));
        // Divides the time among the addresses of the host, so that one dead address does not use up all of it.
        http.set_connect_timeout(Some(CONNECT_TIMEOUT.min(timeout)));
        let https = HttpsConnectorBuilder::new().with_tls_config(tls.into_config());
        let https = if allow_loopback { https.https_or_http() } else { https.https_only() };
        let connector = https.enable_all_versions().wrap_connector(http);
        let connector = ConnectTimeout { connector, limit: CONNECT_TIMEOUT.min(timeout) };
        let client = legacy::Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .http2_initial_stream_window_size(STREAM_WINDOW)
            .http2_initial_connection_window_size(CONNECTION_WINDOW)
            .http2_keep_alive_interval(PING_INTERVAL)
            .http2_keep_alive_timeout(PING_TIMEOUT)
            .build(connector);
        Self(client)
    }

    /// Sends a request and returns as soon as an answer begins, whatever its status. It is sent again only if the host
    /// says that it has not processed it. There is no time limit.
    pub(super) async fn begin(&self, request: TargetRequest) -> Result<Response, Fault> {
        let TargetRequest { method, target, mut headers, body } = request;
        headers.entry(USER_AGENT).or_insert(HeaderValue::from_static(AGENT));
        headers.entry(ACCEPT).or_insert(HeaderValue::from_static("*/*"));
        let (whole, mut body) = match body {
            TargetBody::Whole(bytes) => (Some(bytes.clone()), Body::from(bytes)),
            TargetBody::Stream(body) => (None, body),
        };
        let mut repetitions = 0;
        loop {
            let mut request = Request::new(body);
            *request.method_mut() = method.clone();
            *request.uri_mut() = target.clone();
            *request.headers_mut() = headers.clone();
            let error = match self.0.request(request).await {
                Ok(response) => return Ok(response.map(Body::wrap).into()),
                Err(error) => error,
            };
            match (&whole, Fault::of_sending(&error)) {
                (Some(bytes), Fault::NotProcessed) if repetitions < MAX_REPETITIONS => {
                    body = Body::from(bytes.clone());
                    repetitions += 1;
                }
                (_, fault) => return Err(fault),
            }
        }
    }
}

/// Gives up connecting after a limit, the TLS handshake included.
#[derive(Clone, Debug)]
struct ConnectTimeout<C> {
    connector: C,
    limit: Duration,
}

impl<C> Service<Uri> for ConnectTimeout<C>
where
    C: Service<Uri>,
    C::Error: Into<BoxError>,
    C::Future: Send + 'static,
    C::Response: Send,
{
    type Response = C::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<C::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.connector.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, target: Uri) -> Self::Future {
        let (connecting, limit) = (self.connector.call(target), self.limit);
        Box::pin(async move {
            let connected = timeout(limit, connecting).await;
            connected.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?.map_err(Into::into)
        })
    }
}

impl Service<Name> for PublicAddresses {
    type Response = vec::IntoIter<std::net::SocketAddr>;
    type Error = Unresolved;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Unresolved>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Unresolved>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let resolver = *self;
        Box::pin(async move { Ok(resolver.addresses(name.as_str()).await?.into_iter()) })
    }
}
