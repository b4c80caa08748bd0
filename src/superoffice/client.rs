//! The one client of SuperOffice: time-outs, size limits and repetition as data, in one place.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use http::{StatusCode, header::DATE};
use tokio::{
    runtime::{self, Handle},
    time::{Instant, timeout_at},
};
use zeroize::Zeroizing;

use super::{
    fault::Fault,
    lenient::{read_repaired, without_mark},
};
use crate::{
    outbound::{self, HttpClient, Network, Request, Response},
    ports::{Random, UpstreamError},
};

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

/// Sends requests to SuperOffice. Cheap to clone; clones share connections.
#[derive(Clone, Debug)]
pub struct Client {
    options: ClientOptions,
    network: Network,
    /// For everything but the Web API.
    http: HttpClient,
    /// For the Web API, one for each runtime which serves callers. A connection is driven by the runtime that opened it,
    /// so with one for all, each call would wake the threads of others.
    of_runtimes: Arc<RwLock<Vec<(runtime::Id, HttpClient)>>>,
}

impl Client {
    /// Connects nothing yet. Follows no redirects, and connects to public addresses only.
    #[must_use]
    pub fn new(network: &Network, options: ClientOptions) -> Self {
        let http = network.client(options.profile());
        Self { options, network: network.clone(), http, of_runtimes: Arc::default() }
    }

    /// The client whose connections the current runtime drives.
    fn here(&self) -> HttpClient {
        let here = Handle::current().id();
        let known = |all: &[(runtime::Id, HttpClient)]| {
            all.iter().find(|(id, _)| *id == here).map(|(_, client)| client.clone())
        };
        let found = known(&self.of_runtimes.read().unwrap_or_else(PoisonError::into_inner));
        found.unwrap_or_else(|| {
            let client = self.network.client(self.options.profile());
            let mut all = self.of_runtimes.write().unwrap_or_else(PoisonError::into_inner);
            all.push((here, client.clone()));
            client
        })
    }

    /// Sends a call of the Web API and returns as soon as an answer begins, whatever its status. There is no time limit.
    pub(super) async fn begin(&self, request: Request) -> Result<Response, Fault> {
        self.here().begin(request).await
    }

    /// Sends a request as its profile allows. A 5xx is an error, every other status an answer.
    pub(super) async fn send(
        &self,
        profile: Profile,
        random: &dyn Random,
        request: impl Fn() -> Request,
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
    pub(super) async fn once(&self, profile: Profile, request: Request) -> Result<Answer, Fault> {
        let limit = self.options.timeout;
        let until = Instant::now() + limit;
        let late = |_| Fault::Timeout(limit);
        let mut response = timeout_at(until, self.http.begin(request)).await.map_err(late)??;
        let status = response.status;
        if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            return Err(Fault::Status(status));
        }
        let date = response.headers.get(DATE).and_then(|date| date.to_str().ok());
        let date = date.map(str::to_owned);
        let mut body = Zeroizing::new(Vec::new());
        while let Some(chunk) = timeout_at(until, response.chunk()).await.map_err(late)?? {
            if body.len() + chunk.len() > profile.max_body_bytes {
                return Err(Fault::TooLarge(profile.max_body_bytes));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer { status, date, body })
    }
}

impl ClientOptions {
    fn profile(self) -> outbound::Profile {
        outbound::Profile::superoffice(self.timeout, self.allow_loopback)
    }
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
