//! `[egress]`: the listener through which services call SuperOffice without holding a credential of it.
//!
//! `{method} /{application}/{tenant}/api/…` is sent to the tenant's Web API with the credential put in. What is asked is
//! read by `request`, decided and sent by `door`, and passed back by `answer`; `trail` writes down what was decided and
//! how it ended.

mod answer;
mod door;
mod failure;
mod request;
mod standstill;
mod trail;

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::{body::Body, response::Response};
use hyper::{HeaderMap, Request};
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{door::Door, standstill::Standstill};
use super::conversation::{Allowance, Answers, Conversations, RequestBody, ThreadsFailed};
use crate::{
    access::{Access, CertificateProblem, PeerCertificate},
    broker::{Attempts, Egress, Trail},
    listen::{Connection, FrontProxies, IntakeBudget, RequestIds, ServerTls, client_address},
    ports::{Clock, CopyBudget, Meter, Random},
};

/// Requests at one time on a connection of HTTP/2, and what each may send before it is read.
const STREAMS: u32 = 128;
const STREAM_WINDOW: u32 = 64 * 1024;

/// Services keep connections open between calls, and send and take documents.
const ALLOWANCE: Allowance = Allowance {
    connections: 8192,
    strangers: 128,
    streams: STREAMS,
    stream_window: STREAM_WINDOW,
    // Room for all of them, so that uploads that wait hold up nobody else. A connection on which every one waits costs
    // these 8 MiB, and only one whose callers were let in does: what is refused is not kept.
    connection_window: STREAMS * STREAM_WINDOW,
    head_time: Duration::from_mins(1),
    write_time: Duration::from_secs(30),
    age: Duration::from_mins(30),
    // A document may take this long to arrive.
    farewell: Duration::from_hours(1),
};

/// The memory of all copies of request bodies whose length is not known before, each of up to 64 KiB.
const COPIES_BYTES: usize = 32 * 1024 * 1024;

/// What the listener needs of the rest.
pub struct EgressPorts {
    /// Who calls, and what it may do.
    pub access: Arc<Access>,
    /// Makes the calls.
    pub egress: Arc<Egress>,
    /// Keeps what was decided.
    pub trail: Arc<Trail>,
    /// Counts those who never say who they are.
    pub attempts: Arc<Attempts>,
    /// Tells the time of request ids.
    pub clock: Arc<dyn Clock>,
    /// Makes them unique.
    pub random: Arc<dyn Random>,
    /// Counts requests.
    pub meter: Arc<dyn Meter>,
    /// The memory of undecided requests.
    pub intake: Arc<IntakeBudget>,
}

/// The configurable part.
#[derive(Debug, Clone)]
pub struct EgressRules {
    /// Where callers reach the listener, without a slash at its end. Links of SuperOffice lead there.
    pub public_uri: Option<String>,
    /// Largest body of a request, if there is a limit.
    pub max_body_bytes: Option<u64>,
    /// The longest wait for the beginning of an answer.
    pub timeout: Duration,
}

/// The proxy on a bound socket, not yet accepting.
pub struct EgressServer {
    listener: TcpListener,
    tls: Option<Arc<ServerTls>>,
    proxies: FrontProxies,
    intake: Arc<IntakeBudget>,
    door: Arc<Door>,
    requests: TaskTracker,
}

/// Who is at the other end of a connection.
#[derive(Clone)]
struct Peer {
    address: IpAddr,
    /// The address as text, for every event of the connection.
    text: Arc<str>,
    /// Of a client that has shown a certificate, which was verified against `client_ca_file`: whom it names.
    certificate: Option<Arc<Result<PeerCertificate, CertificateProblem>>>,
}

impl Peer {
    /// The same, at another address.
    fn at(self, address: IpAddr) -> Self {
        if address == self.address {
            return self;
        }
        Self { address, text: address.to_string().into(), ..self }
    }
}

impl EgressServer {
    /// Puts the proxy on the socket.
    #[must_use]
    pub fn new(
        listener: TcpListener,
        tls: Option<Arc<ServerTls>>,
        proxies: FrontProxies,
        rules: EgressRules,
        ports: EgressPorts,
    ) -> Self {
        let requests = TaskTracker::new();
        let EgressPorts { access, egress, trail, attempts, clock, random, meter, intake } = ports;
        let ids = RequestIds::new(clock, &*random);
        let door = Door {
            access,
            egress,
            trail,
            attempts,
            ids,
            meter,
            rules,
            trusted: proxies.trusted.clone(),
            requests: requests.clone(),
            standstill: Standstill::default(),
            copies: CopyBudget::new(COPIES_BYTES),
            cut_off: CancellationToken::new(),
        };
        Self { listener, tls, proxies, intake, door: Arc::new(door), requests }
    }

    /// Where it listens.
    ///
    /// # Errors
    /// If the socket is gone.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// The calls that have not ended yet: each leaves an event when it does.
    #[must_use]
    pub fn requests(&self) -> TaskTracker {
        self.requests.clone()
    }

    /// Ends calls that have no answer yet, each with a problem document, when it is cancelled.
    #[must_use]
    pub fn cut_off(&self) -> CancellationToken {
        self.door.cut_off.clone()
    }

    /// Serves until `stop`, then says so on every connection and returns when the requests under way are answered.
    ///
    /// # Errors
    /// If its threads cannot be had, or end by themselves.
    pub async fn serve(self, stop: CancellationToken) -> Result<(), ThreadsFailed> {
        let Self { listener, tls, proxies, intake, door: answers, requests } = self;
        let (name, allowance, door) = ("egress", ALLOWANCE, Arc::clone(&answers));
        let conversations =
            Conversations { name, listener, tls, proxies, intake, allowance, answers, requests };
        tokio::select! {
            served = conversations.serve_on_threads(stop) => served,
            () = door.standstill.look() => Ok(()),
        }
    }
}

impl Answers for Arc<Door> {
    type Peer = Peer;

    fn peer<A>(&self, connection: &Connection<A>) -> Peer {
        let address = connection.address().ip().to_canonical();
        let certificate = connection.client_certificate();
        Peer {
            address,
            text: address.to_string().into(),
            certificate: certificate.map(|shown| Arc::new(self.access.read_certificate(shown))),
        }
    }

    fn client_address(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        client_address(&self.trusted, peer, headers).unwrap_or(peer)
    }

    async fn answer(self, peer: Peer, request: Request<RequestBody>) -> Response<Body> {
        self.pass(peer, request).await
    }
}
