//! Tests of tenants that move because their data centre failed: the old host sends no HTTP 421.

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
    api_host::{HostResponse, ScriptedApiHost, set_tenant_api},
    assert_status, eventually_so,
    http::send,
    name,
};

/// A usual deadline of a caller.
const DEADLINE: Duration = Duration::from_secs(10);

const PATH: &str = "/crm-sync/Cust1/api/v1/Contact/5";

/// The way in which a host is unavailable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HostFailure {
    /// Its port is closed.
    Refused,
    /// Packets are dropped.
    Swallowed,
    /// Its name does not resolve.
    NoName,
    /// Another server responds there without TLS.
    NoTls,
    /// A front end responds with an error page.
    Html(u16),
    /// Connections are accepted and closed.
    Closed,
    /// Connections are accepted, but get no response.
    Silent,
}

const NOTHING_SENT: [HostFailure; 4] =
    [HostFailure::Refused, HostFailure::Swallowed, HostFailure::NoName, HostFailure::NoTls];
const PERHAPS_DONE: [HostFailure; 5] = [
    HostFailure::Html(502),
    HostFailure::Html(503),
    HostFailure::Html(504),
    HostFailure::Closed,
    HostFailure::Silent,
];

/// A tenant whose old host is unavailable. Tenant status returns the new host from now on, but the gateway has not read
/// it yet.
struct MovedTenant {
    world: World,
    new: ScriptedApiHost,
    _old: OldHost,
}

/// Keeps the sockets of the old host open.
#[derive(Default)]
struct OldHost {
    kept: Vec<Box<dyn Any + Send>>,
}

/// Returns the address of the old host.
async fn old(death: HostFailure) -> (String, OldHost) {
    let mut old = OldHost::default();
    let api = |address: SocketAddr| format!("http://{address}/Cust1/api");
    let uri = match death {
        HostFailure::Refused => {
            // Bound but not listening, so that the server of another test cannot take the port.
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
            let to = socket.local_addr().unwrap();
            old.kept.push(Box::new(socket));
            api(to)
        }
        HostFailure::Swallowed => {
            // The kernel drops packets to a full accept queue.
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
        HostFailure::NoName => "https://gone.invalid/Cust1/api".to_owned(),
        HostFailure::NoTls => {
            let host = ScriptedApiHost::start().await;
            let uri = host.uri("Cust1").replace("http:", "https:");
            old.kept.push(Box::new(host));
            uri
        }
        HostFailure::Html(status) => {
            let host = ScriptedApiHost::start().await;
            for _ in 0..50 {
                let head = format!("HTTP/1.1 {status} Gone\r\nContent-Type: text/html\r\n");
                host.respond_next(HostResponse::Body(head.leak(), b"<html>gone</html>".to_vec()));
            }
            let uri = host.uri("Cust1");
            old.kept.push(Box::new(host));
            uri
        }
        HostFailure::Closed => {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let to = listener.local_addr().unwrap();
            let mut serving = JoinSet::new();
            serving.spawn(async move { while listener.accept().await.is_ok() {} });
            old.kept.push(Box::new(serving));
            api(to)
        }
        HostFailure::Silent => {
            let host = ScriptedApiHost::start().await;
            (0..50).for_each(|_| host.respond_next(HostResponse::Hang));
            let uri = host.uri("Cust1");
            old.kept.push(Box::new(host));
            uri
        }
    };
    (uri, old)
}

impl MovedTenant {
    async fn new(death: HostFailure) -> Self {
        let extra_config = "[egress]\nlisten = \"127.0.0.1:0\"".to_owned();
        let mut world = World::with_files(Options { extra_config, ..Options::default() }).await;
        let config = std::fs::read_to_string(world.config_file()).unwrap();
        let hosts = "allowed_api_hosts = [\"127.0.0.1\", \"gone.invalid\"]";
        let config = config.replace("allowed_api_hosts = [\"127.0.0.1\"]", hosts);
        std::fs::write(world.config_file(), config).unwrap();
        world.start().await.unwrap();
        world.sandbox.set_status_validity(Duration::from_hours(1));
        let (uri, old) = old(death).await;
        set_tenant_api(&world.sandbox, "Cust1", &uri);
        world.enroll("Cust1").await;
        world.ticket("Cust1").await.unwrap();
        world.sandbox.clear_faults();
        let new = ScriptedApiHost::start().await;
        new.move_tenant_here(&world.sandbox, "Cust1");
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

    /// Returns whether the tenant resource shows the new host.
    async fn is_shown(&self) -> bool {
        self.world.tenant("Cust1").await.web_api_uri == self.new.uri("Cust1")
    }
}

#[tokio::test]
async fn a_safe_call_follows_its_tenant_within_a_usual_deadline() {
    for death in NOTHING_SENT.into_iter().chain(PERHAPS_DONE) {
        let place = MovedTenant::new(death).await;
        let begin = Instant::now();
        let answer = place.call("GET").await;
        assert_eq!(answer.unwrap().status, 200, "{death:?}");
        assert!(begin.elapsed() < DEADLINE, "{death:?}: {:?}", begin.elapsed());
        assert_eq!((place.new.received().len(), place.reads()), (1, 1), "{death:?}");
        assert!(place.is_shown().await, "{death:?}");
    }
}

#[tokio::test]
async fn the_egress_listener_follows_a_tenant_without_an_error_for_callers() {
    for death in
        [HostFailure::Refused, HostFailure::NoTls, HostFailure::Html(503), HostFailure::Closed]
    {
        let place = MovedTenant::new(death).await;
        let to = place.world.gateway().egress_address.unwrap();
        let answer = send(to, "GET", PATH, &[], b"").await;
        assert_eq!((answer.status, &*answer.body), (200, "{}"), "{death:?}");
        assert_eq!(place.reads(), 1, "{death:?}");
    }
}

#[tokio::test]
async fn an_unsafe_call_that_was_not_sent_follows_its_tenant() {
    for death in NOTHING_SENT {
        let place = MovedTenant::new(death).await;
        assert_eq!(place.call("DELETE").await.unwrap().status, 200, "{death:?}");
        assert_eq!(place.new.received().len(), 1, "{death:?}");
    }
}

#[tokio::test]
async fn an_unsafe_call_that_may_have_arrived_is_not_sent_again_and_the_next_one_finds_the_tenant()
{
    for death in [
        HostFailure::Html(502),
        HostFailure::Html(503),
        HostFailure::Html(504),
        HostFailure::Closed,
    ] {
        let place = MovedTenant::new(death).await;
        let first = place.call("DELETE").await;
        assert!(!first.is_ok_and(|answer| answer.status < 500), "{death:?}");
        assert!(place.new.received().is_empty(), "{death:?}");
        eventually_so("the new host is known", async || place.is_shown().await).await;
        assert_eq!(place.call("DELETE").await.unwrap().status, 200, "{death:?}");
        assert_eq!((place.new.received().len(), place.reads()), (1, 1), "{death:?}");
    }
}

#[tokio::test]
async fn a_watch_reports_the_new_host_after_a_failed_call_of_another_caller() {
    let place = MovedTenant::new(HostFailure::Refused).await;
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
async fn many_calls_to_an_unavailable_host_cost_one_status_read_in_fifteen_seconds() {
    let mut place = MovedTenant::new(HostFailure::Refused).await;
    // Tenant status does not return the new host yet.
    place.world.sandbox.clear_faults();
    let (uri, _old) = old(HostFailure::Refused).await;
    set_tenant_api(&place.world.sandbox, "Cust1", &uri);
    for _ in 0..2 {
        let calls = futures_util::future::join_all((0..8).map(|_| place.call("GET"))).await;
        assert!(calls.iter().all(Result::is_err));
    }
    // The first read returns another unavailable host; the next read happens 15 seconds later.
    assert_eq!(place.reads(), 1);
    place.world.advance(Duration::from_secs(16));
    place.world.sandbox.clear_faults();
    place.new.move_tenant_here(&place.world.sandbox, "Cust1");
    assert_eq!(place.call("GET").await.unwrap().status, 200);
    assert_eq!(place.reads(), 2);
}

#[tokio::test]
async fn ticket_probes_and_associate_reads_follow_a_tenant() {
    let place = MovedTenant::new(HostFailure::Refused).await;
    let (ticket, before) = (place.world.ticket("Cust1").await.unwrap(), place.world.exchanges());
    // The new host is the sandbox, which serves people.
    place.world.sandbox.clear_faults();
    let report = pb::ReportRejectedCredentialRequest {
        tenant: name("Cust1"),
        credential_id: ticket.credential_id.clone(),
    };
    place.world.tokens().await.report_rejected_credential(report).await.unwrap();
    assert_eq!(place.reads(), 1);
    assert_eq!(place.world.exchanges(), before, "a ticket that works is kept");

    let place = MovedTenant::new(HostFailure::Refused).await;
    place.world.sandbox.clear_faults();
    place.world.sandbox.generate_people("Cust1", 20, 1).unwrap();
    let list = pb::ListAssociatesRequest { parent: name("Cust1"), ..Default::default() };
    let mut client = AssociateServiceClient::new(place.world.channel().await);
    assert!(!client.list_associates(list).await.unwrap().into_inner().associates.is_empty());
    assert_eq!(place.reads(), 1);
}

#[tokio::test]
async fn without_the_login_host_a_call_fails_in_time_and_the_old_address_stays() {
    let place = MovedTenant::new(HostFailure::Refused).await;
    place.world.sandbox.clear_faults();
    let down = Fault::status(503);
    place.world.sandbox.inject(Endpoint::TenantStatus, down, FaultScope::always()).unwrap();
    let status = place.call("GET").await.err().unwrap();
    assert_status(&status, Code::Unavailable, "UPSTREAM_UNAVAILABLE");
    place.world.ticket("Cust1").await.unwrap();
    assert!(!place.is_shown().await);
}
