//! The one HTTP client: time-outs, size limits and repetition as data, in one place.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use reqwest::{RequestBuilder, Response, StatusCode, header::DATE, redirect};
use tokio::runtime::{self, Handle};
use zeroize::Zeroizing;

use super::{
    fault::Fault,
    lenient::{read_repaired, without_mark},
    resolver::PublicAddresses,
    target::{TargetClient, TargetRequest},
};
use crate::{
    outbound::{PlatformTls, PlatformTlsError},
    ports::{Random, UpstreamError},
};

/// Connecting takes longer than this only if something is wrong. One lost SYN is sent again after a second (RFC 6298
/// section 2). It is short so that a call whose tenant has left a dead data centre can find it and go there within a
/// deadline of ten seconds.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Idle connections are given up early: one that the other side has closed would fail an exchange, which is not
/// repeated.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(15);

/// A host that speaks HTTP/2 is asked whether it is still there when it has said nothing for so long while an answer is
/// due, …
pub(super) const PING_INTERVAL: Duration = Duration::from_secs(5);
/// … and has this long to say so. Over a connection that is dead without a word, call after call would else go and
/// wait for its time-out.
pub(super) const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// The name of this client.
pub(super) const AGENT: &str = concat!("tenant-gateway/", env!("CARGO_PKG_VERSION"));

/// The first pause before a repetition; each further one is four times as long, all with jitter.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// How the client behaves.
#[derive(Debug, Clone, Copy)]
pub struct ClientOptions {
    /// For one request, from its beginning to the end of the answer.
    pub timeout: Duration,
    /// Plain http and loopback addresses: for tests.
    pub allow_loopback: bool,
}

/// The client could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The client of everything but the Web API.
    #[error("the HTTP client cannot be set up: {0}")]
    Http(#[from] reqwest::Error),
    /// TLS of the Web API.
    #[error("the HTTP client cannot be set up: {0}")]
    Tls(#[from] PlatformTlsError),
}

/// What a kind of request may cost.
#[derive(Debug, Clone, Copy)]
pub(super) struct Profile {
    /// Names the request in errors and logs.
    pub(super) what: &'static str,
    /// More than this is not an answer.
    pub(super) max_body_bytes: usize,
    /// When it is sent again.
    pub(super) repeat: Repeat,
}

/// When a request may be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeat {
    /// Up to twice more after a fault that came quickly: reading changes nothing. Not after a time-out, which has
    /// used up the caller's patience.
    Reads,
    /// Up to twice more if it surely never left: doing it twice costs the customer.
    OnlyIfNotSent,
}

/// An answer, whatever its status.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    /// When the other side says it is (`Date`).
    pub(super) date: Option<String>,
    pub(super) body: Zeroizing<Vec<u8>>,
}

/// How much of one answer may lie here unread, over HTTP/2 …
pub(super) const STREAM_WINDOW: u32 = 1024 * 1024;
/// … and of all that one connection carries: more than its streams together, so that the bytes of answers which nobody
/// reads hold back no others. How many answers there may be at once, the host says.
pub(super) const CONNECTION_WINDOW: u32 = 512 * STREAM_WINDOW;

/// Sends requests to SuperOffice. Cheap to clone; clones share connections.
#[derive(Clone, Debug)]
pub struct Client {
    options: ClientOptions,
    /// For everything but the Web API.
    http: reqwest::Client,
    /// TLS of the Web API.
    tls: PlatformTls,
    /// For the Web API, one for each runtime which serves callers. A connection is driven by the runtime that opened it,
    /// so with one for all, each call would wake the threads of others.
    of_runtimes: Arc<RwLock<Vec<(runtime::Id, TargetClient)>>>,
}

impl Client {
    /// Follows no redirects, uses no proxy, and resolves names to public addresses only.
    ///
    /// # Errors
    /// If TLS cannot be set up.
    pub fn new(options: ClientOptions) -> Result<Self, ClientError> {
        Ok(Self {
            options,
            http: made(options)?,
            tls: PlatformTls::new()?,
            of_runtimes: Arc::default(),
        })
    }

    /// The client whose connections the current runtime drives.
    fn here(&self) -> TargetClient {
        let here = Handle::current().id();
        let known = |all: &[(runtime::Id, TargetClient)]| {
            all.iter().find(|(id, _)| *id == here).map(|(_, client)| client.clone())
        };
        let found = known(&self.of_runtimes.read().unwrap_or_else(PoisonError::into_inner));
        found.unwrap_or_else(|| {
            let client = TargetClient::new(self.options, self.tls.clone());
            let mut all = self.of_runtimes.write().unwrap_or_else(PoisonError::into_inner);
            all.push((here, client.clone()));
            client
        })
    }

    pub(super) fn get(&self, uri: &str) -> RequestBuilder {
        self.get_accepting(uri, "application/json")
    }

    /// As [`Self::get`], with other media types.
    pub(super) fn get_accepting(&self, uri: &str, accept: &'static str) -> RequestBuilder {
        self.http.get(uri).header("accept", accept)
    }

    pub(super) fn post(&self, uri: &str) -> RequestBuilder {
        self.http.post(uri).header("accept", "application/json")
    }

    /// Sends a call of the Web API and returns as soon as an answer begins, whatever its status. There is no time limit.
    pub(super) async fn begin(&self, request: TargetRequest) -> Result<Response, Fault> {
        self.here().begin(request).await
    }

    /// Sends a request as its profile allows. A 5xx is an error, every other status an answer.
    pub(super) async fn send(
        &self,
        profile: Profile,
        random: &dyn Random,
        request: impl Fn() -> RequestBuilder,
    ) -> Result<Answer, Fault> {
        let mut pause = FIRST_PAUSE;
        for _ in 0..2 {
            match self.once(profile, request()).await {
                Ok(answer) => return Ok(answer),
                Err(fault) if fault.may_be_repeated(profile.repeat) => {
                    tokio::time::sleep(random.jitter(pause)).await;
                    pause *= 4;
                }
                Err(fault) => return Err(fault),
            }
        }
        self.once(profile, request()).await
    }

    /// Sends a request once, whatever becomes of it.
    #[expect(clippy::disallowed_methods, reason = "the one place where requests are sent")]
    pub(super) async fn once(
        &self,
        profile: Profile,
        request: RequestBuilder,
    ) -> Result<Answer, Fault> {
        let fault = |error: reqwest::Error| Fault::new(&error, self.options.timeout);
        let mut response = request.timeout(self.options.timeout).send().await.map_err(fault)?;
        let status = response.status();
        if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            return Err(Fault::Status(status));
        }
        let date = response.headers().get(DATE).and_then(|date| date.to_str().ok());
        let date = date.map(str::to_owned);
        let mut body = Zeroizing::new(Vec::new());
        while let Some(chunk) = response.chunk().await.map_err(fault)? {
            if body.len() + chunk.len() > profile.max_body_bytes {
                return Err(Fault::TooLarge(profile.max_body_bytes));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer { status, date, body })
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place where the client is made")]
fn made(options: ClientOptions) -> Result<reqwest::Client, reqwest::Error> {
    reqwest::Client::builder()
        .user_agent(AGENT)
        .redirect(redirect::Policy::none())
        .no_proxy()
        .https_only(!options.allow_loopback)
        .connect_timeout(CONNECT_TIMEOUT.min(options.timeout))
        .pool_idle_timeout(IDLE_TIMEOUT)
        .http2_initial_stream_window_size(STREAM_WINDOW)
        .http2_initial_connection_window_size(CONNECTION_WINDOW)
        .http2_keep_alive_interval(PING_INTERVAL)
        .http2_keep_alive_timeout(PING_TIMEOUT)
        .dns_resolver(Arc::new(PublicAddresses { allow_loopback: options.allow_loopback }))
        .build()
}

/// An answer that came, but not with the status wanted.
pub(super) fn unexpected(profile: Profile, status: StatusCode) -> UpstreamError {
    UpstreamError::InvalidResponse(format!("{}: HTTP {status}", profile.what))
}

/// Reads JSON; the error tells where it stopped being what was wanted, and nothing of what it was.
pub(super) fn json<'b, T: serde::Deserialize<'b>>(
    profile: Profile,
    body: &'b [u8],
) -> Result<T, UpstreamError> {
    serde_json::from_slice(without_mark(body)).map_err(|error| {
        let kind = match error.classify() {
            serde_json::error::Category::Data => "JSON with other fields or types than documented",
            _ => "not JSON",
        };
        let (line, column) = (error.line(), error.column());
        UpstreamError::InvalidResponse(format!(
            "{}: {kind} (line {line}, column {column})",
            profile.what
        ))
    })
}

/// Reads JSON as [`json`] does, also where a character in it cannot be read.
pub(super) fn json_repaired<T: serde::de::DeserializeOwned>(
    profile: Profile,
    body: &[u8],
) -> Result<T, UpstreamError> {
    read_repaired(body, |body| json(profile, body))
}
