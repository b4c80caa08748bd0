//! Promises about tenants that move because their data centre died: their old host sends no HTTP 421.

use std::{
    any::Any,
    net::SocketAddr,
    time::{Duration, Instant},
};

use superoffice_sandbox::{Endpoint, Fault, FaultScope};
use tenant_gateway::grpc::pb::{
    self, associate_service_client::AssociateServiceClient,
    web_api_service_client::WebApiServiceClient,
};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    task::JoinSet,
};
use tonic::{Code, Request};

use crate::support::{
    Options, World,
    api_host::{ApiHostByHand, Told, move_to},
    assert_status, eventually_so,
    http::send,
    name,
};

/// A usual deadline of a caller.
const DEADLINE: Duration = Duration::from_secs(10);

const PATH: &str = "/crm-sync/Cust1/api/v1/Contact/5";

/// The way in which a host is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Death {
    /// Its port is closed.
    Refused,
    /// Packets go nowhere.
    Swallowed,
    /// Its name is in no zone.
    NoName,
    /// Another server answers there, and speaks no TLS.
    NoTls,
    /// A front end answers in its place.
    Html(u16),
    /// Connections are accepted and closed.
    Closed,
    /// Connections are accepted, and nothing else happens.
    Silent,
}

const NOTHING_SENT: [Death; 4] = [Death::Refused, Death::Swallowed, Death::NoName, Death::NoTls];
const PERHAPS_DONE: [Death; 5] =
    [Death::Html(502), Death::Html(503), Death::Html(504), Death::Closed, Death::Silent];

/// A tenant whose old host is gone. Tenant status names the new host from now on, and the gateway has not asked yet.
struct Place {
    world: World,
    new: ApiHostByHand,
    _old: Old,
}

/// Keeps the old host as it is.
#[derive(Default)]
struct Old {
    kept: Vec<Box<dyn Any + Send>>,
}

/// The address of the old host in tenant status.
async fn old(death: Death) -> (String, Old) {
    let mut old = Old::default();
    let api = |address: SocketAddr| format!("http://{address}/Cust1/api");
    let uri = match death {
        Death::Refused => {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            api(listener.local_addr().unwrap())
        }
        Death::Swallowed => {
            // The kernel drops what comes to a full queue.
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
            let listener = socket.listen(1).unwrap();
            let to = listener.local_addr().unwrap();
            loop {
                let connect = TcpStream::connect(to);
                match tokio::time::timeout(Duration::from_millis(300), connect).await {
                    Ok(Ok(stream)) => old.kept.push(Box::new(stream)),
                    Ok(Err(_)) | Err(_) => break,
                }
            }
            old.kept.push(Box::new(listener));
            api(to)
        }
        Death::NoName => "https://gone.invalid/Cust1/api".to_owned(),
        Death::NoTls => {
            let host = ApiHostByHand::start().await;
            let uri = host.uri("Cust1").replace("http:", "https:");
            old.kept.push(Box::new(host));
            uri
        }
        Death::Html(status) => {
            let host = ApiHostByHand::start().await;
            for _ in 0..50 {
                let head = format!("HTTP/1.1 {status} Gone\r\nContent-Type: text/html\r\n");
                host.tell(Told::Body(head.leak(), b"<html>gone</html>".to_vec()));
            }
            let uri = host.uri("Cust1");
            old.kept.push(Box::new(host));
            uri
        }
        Death::Closed => {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let to = listener.local_addr().unwrap();
            let mut serving = JoinSet::new();
            serving.spawn(async move { while listener.accept().await.is_ok() {} });
            old.kept.push(Box::new(serving));
            api(to)
        }
        Death::Silent => {
            let host = ApiHostByHand::start().await;
            (0..50).for_each(|_| host.tell(Told::Hang));
            let uri = host.uri("Cust1");
            old.kept.push(Box::new(host));
            uri
        }
    };
    (uri, old)
}

impl Place {
    async fn new(death: Death) -> Self {
        let extra_config = "[egress]\nlisten = \"127.0.0.1:0\"".to_owned();
        let mut world = World::with_files(Options { extra_config, ..Options::default() }).await;
        let config = std::fs::read_to_string(world.config_file()).unwrap();
        let hosts = "allowed_api_hosts = [\"127.0.0.1\", \"gone.invalid\"]";
        let config = config.replace("allowed_api_hosts = [\"127.0.0.1\"]", hosts);
        std::fs::write(world.config_file(), config).unwrap();
        world.start().await.unwrap();
        world.sandbox.set_status_validity(Duration::from_hours(1));
        let (uri, old) = old(death).await;
        move_to(&world.sandbox, "Cust1", &uri);
        world.enroll("Cust1").await;
        world.ticket("Cust1").await.unwrap();
        world.sandbox.clear_faults();
        let new = ApiHostByHand::start().await;
        new.take_in(&world.sandbox, "Cust1");
        world.sandbox.reset_counts();
        Self { world, new, _old: old }
    }

    async fn call(&self, method: &str) -> Result<pb::CallResponse, tonic::Status> {
        let request = pb::CallRequest {
            tenant: name("Cust1"),
            method: method.to_owned(),
            path: "/api/v1/Contact/5".to_owned(),
            ..pb::CallRequest::default()
        };
        let mut request = Request::new(request);
        request.set_timeout(DEADLINE);
        let mut client = WebApiServiceClient::new(self.world.channel().await);
        Ok(client.call(request).await?.into_inner())
    }

    fn reads(&self) -> u64 {
        self.world.sandbox.calls(Endpoint::TenantStatus)
    }

    /// Whether administrators are shown the new host.
    async fn is_shown(&self) -> bool {
        self.world.tenant("Cust1").await.web_api_uri == self.new.uri("Cust1")
    }
}

#[tokio::test]
async fn a_safe_call_follows_its_tenant_within_a_usual_deadline() {
    for death in NOTHING_SENT.into_iter().chain(PERHAPS_DONE) {
        let place = Place::new(death).await;
        let begin = Instant::now();
        let answer = place.call("GET").await;
        assert_eq!(answer.unwrap().status, 200, "{death:?}");
        assert!(begin.elapsed() < DEADLINE, "{death:?}: {:?}", begin.elapsed());
        assert_eq!((place.new.arrived().len(), place.reads()), (1, 1), "{death:?}");
        assert!(place.is_shown().await, "{death:?}");
    }
}

#[tokio::test]
async fn the_egress_proxy_follows_a_tenant_and_its_callers_see_nothing_of_it() {
    for death in [Death::Refused, Death::NoTls, Death::Html(503), Death::Closed] {
        let place = Place::new(death).await;
        let to = place.world.gateway().egress_address.unwrap();
        let answer = send(to, "GET", PATH, &[], b"").await;
        assert_eq!((answer.status, &*answer.body), (200, "{}"), "{death:?}");
        assert_eq!(place.reads(), 1, "{death:?}");
    }
}

#[tokio::test]
async fn an_unsafe_call_that_surely_was_not_sent_follows_its_tenant() {
    for death in NOTHING_SENT {
        let place = Place::new(death).await;
        assert_eq!(place.call("DELETE").await.unwrap().status, 200, "{death:?}");
        assert_eq!(place.new.arrived().len(), 1, "{death:?}");
    }
}

#[tokio::test]
async fn an_unsafe_call_that_may_have_arrived_is_not_sent_again_and_the_next_one_finds_the_tenant()
{
    for death in [Death::Html(502), Death::Html(503), Death::Html(504), Death::Closed] {
        let place = Place::new(death).await;
        let first = place.call("DELETE").await;
        assert!(!first.is_ok_and(|answer| answer.status < 500), "{death:?}");
        assert!(place.new.arrived().is_empty(), "{death:?}");
        eventually_so("the new host is known", async || place.is_shown().await).await;
        assert_eq!(place.call("DELETE").await.unwrap().status, 200, "{death:?}");
        assert_eq!((place.new.arrived().len(), place.reads()), (1, 1), "{death:?}");
    }
}

#[tokio::test]
async fn a_watch_learns_of_the_new_host_from_somebody_elses_failed_call() {
    let place = Place::new(Death::Refused).await;
    let watch = pb::WatchTenantStatusRequest { parent: String::new() };
    let mut client = place.world.tenants().await;
    let mut stream = client.watch_tenant_status(watch).await.unwrap().into_inner();
    let first = stream.message().await.unwrap().unwrap().status.unwrap();
    assert_ne!(first.web_api_uri, place.new.uri("Cust1"));
    place.call("GET").await.unwrap();
    let next = stream.message().await.unwrap().unwrap().status.unwrap();
    assert_eq!(next.web_api_uri, place.new.uri("Cust1"));
}

#[tokio::test]
async fn a_stampede_at_a_dead_host_costs_one_status_read_in_fifteen_seconds() {
    let mut place = Place::new(Death::Refused).await;
    // Tenant status does not know it yet.
    place.world.sandbox.clear_faults();
    let (uri, _old) = old(Death::Refused).await;
    move_to(&place.world.sandbox, "Cust1", &uri);
    for _ in 0..2 {
        let calls = futures_util::future::join_all((0..8).map(|_| place.call("GET"))).await;
        assert!(calls.iter().all(Result::is_err));
    }
    // The first read finds another dead host; it is not asked again before its time.
    assert_eq!(place.reads(), 1);
    place.world.advance(Duration::from_secs(16));
    place.world.sandbox.clear_faults();
    place.new.take_in(&place.world.sandbox, "Cust1");
    assert_eq!(place.call("GET").await.unwrap().status, 200);
    assert_eq!(place.reads(), 2);
}

#[tokio::test]
async fn probes_of_tickets_and_readings_of_associates_follow_a_tenant() {
    let place = Place::new(Death::Refused).await;
    let (ticket, before) = (place.world.ticket("Cust1").await.unwrap(), place.world.exchanges());
    // The new host is one that knows people.
    place.world.sandbox.clear_faults();
    let report = pb::ReportRejectedCredentialRequest {
        tenant: name("Cust1"),
        credential_id: ticket.credential_id.clone(),
    };
    place.world.tokens().await.report_rejected_credential(report).await.unwrap();
    assert_eq!(place.reads(), 1);
    assert_eq!(place.world.exchanges(), before, "a ticket that works is kept");

    let place = Place::new(Death::Refused).await;
    place.world.sandbox.clear_faults();
    place.world.sandbox.generate_people("Cust1", 20, 1).unwrap();
    let list = pb::ListAssociatesRequest { parent: name("Cust1"), ..Default::default() };
    let mut client = AssociateServiceClient::new(place.world.channel().await);
    assert!(!client.list_associates(list).await.unwrap().into_inner().associates.is_empty());
    assert_eq!(place.reads(), 1);
}

#[tokio::test]
async fn while_the_login_host_is_down_too_a_call_fails_in_time_and_the_old_address_stays_in_use() {
    let place = Place::new(Death::Refused).await;
    place.world.sandbox.clear_faults();
    let down = Fault::status(503);
    place.world.sandbox.inject(Endpoint::TenantStatus, down, FaultScope::always()).unwrap();
    let status = place.call("GET").await.err().unwrap();
    assert_status(&status, Code::Unavailable, "UPSTREAM_UNAVAILABLE");
    place.world.ticket("Cust1").await.unwrap();
    assert!(!place.is_shown().await);
}
