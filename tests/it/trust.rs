//! Tests of revoked trust: client certificates and tokens on open connections and streams.

use std::{fs, path::Path, time::Duration};

use prost::Message as _;
use tenant_gateway::grpc::pb::{self, impersonation_service_client::ImpersonationServiceClient};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;
use tonic::{Code, Request, Status, Streaming, transport::Channel};

use crate::support::{
    APPLICATION, Authority, Client, Options, World, assert_status,
    callers::{AuthenticatedGateway, call, with_bearer_token},
    eventually_so, name, replace,
};

const JOBS: &str = "spiffe://test/jobs";
const POLICY: &str = "permit (principal == Caller::\"spiffe://test/jobs\", action, resource);";

/// The interval at which the gateway checks its files.
const LOOK: Duration = Duration::from_secs(1);

fn section(section: &str, folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "[{section}.tls]\ncertificate_file = \"{folder}/tls.crt\"\nprivate_key_file = \"{folder}/tls.key\"\n\
         client_ca_file = \"{folder}/ca.crt\"\n"
    )
}

/// A gateway whose callers have certificates of two authorities.
struct MtlsGateway {
    world: World,
    files: tempfile::TempDir,
    server: Authority,
    going: Authority,
    staying: Authority,
}

impl MtlsGateway {
    async fn new(mtls: &str) -> Self {
        let files = tempfile::tempdir().unwrap();
        let [server, going, staying] = std::array::from_fn(|_| Authority::new());
        server.issue().write(files.path());
        fs::write(files.path().join("ca.crt"), going.pem() + &staying.pem()).unwrap();
        let extra_config = format!(
            "[egress]\nlisten = \"127.0.0.1:0\"\n{}{}",
            section("egress", files.path()),
            section("grpc", files.path())
        );
        let callers = Some(format!("[callers.mtls]\nenabled = true\n{mtls}"));
        let policy = Some(POLICY.to_owned());
        let world = World::with(Options { extra_config, callers, policy, ..Options::default() });
        Self { world: world.await, files, server, going, staying }
    }

    fn client(&self, authority: &Authority) -> Client {
        self.server.client().showing(authority.issue_for(&[JOBS], &[]))
    }

    async fn channel(&self, client: &Client) -> Channel {
        client.connect(self.world.gateway().grpc_address).await.unwrap().channel
    }

    async fn enroll(&self, channel: &Channel) {
        let system_user_token = self.world.make_tenant("Cust1");
        let parent = format!("applications/{APPLICATION}");
        let create =
            pb::CreateTenantRequest { parent, tenant_id: "Cust1".to_owned(), tenant: None };
        let set = pb::SetSystemUserTokenRequest { name: name("Cust1"), system_user_token };
        for (method, message) in
            [("CreateTenant", create.encode_to_vec()), ("SetSystemUserToken", set.encode_to_vec())]
        {
            let method = format!("TenantService/{method}");
            call(channel, &method, Request::new(message)).await.unwrap();
        }
    }
}

async fn get(channel: &Channel) -> Result<Vec<u8>, Status> {
    let get = pb::GetTenantRequest { name: name("Cust1") }.encode_to_vec();
    call(channel, "TenantService/GetTenant", Request::new(get)).await
}

/// Opens a stream, and reads until it is idle.
async fn idle(
    channel: &Channel,
    request: Request<pb::WatchGrantsRequest>,
) -> Streaming<pb::WatchGrantsResponse> {
    let mut client = ImpersonationServiceClient::new(channel.clone());
    let mut events = client.watch_grants(request).await.unwrap().into_inner();
    let end_of_resync = events.message().await.unwrap().unwrap().event.unwrap();
    assert_eq!(end_of_resync.grant, None);
    events
}

/// Sends a request on a persistent connection. Returns status and problem of the response.
async fn exchange(
    stream: &mut BufReader<TlsStream<TcpStream>>,
    request: &str,
) -> (u16, serde_json::Value) {
    stream.write_all(request.as_bytes()).await.unwrap();
    let (mut status, mut length) = (0, 0);
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        if let Some(rest) = line.strip_prefix("HTTP/1.1 ") {
            status = rest[..3].parse().unwrap();
        }
        if let Some(number) = line.to_ascii_lowercase().strip_prefix("content-length: ") {
            length = number.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.unwrap();
    (status, serde_json::from_slice(&body).unwrap())
}

fn watch() -> pb::WatchGrantsRequest {
    pb::WatchGrantsRequest { parent: name("Cust1") }
}

#[track_caller]
fn assert_not_trusted(status: &Status) {
    assert_status(status, Code::Unauthenticated, "CALLER_UNAUTHENTICATED");
    assert!(status.message().contains("no longer trusted"), "{}", status.message());
}

#[tokio::test]
async fn a_removed_authority_ends_calls_and_streams_of_connections_that_are_open() {
    let mutual = MtlsGateway::new("").await;
    let (going, staying) = (mutual.client(&mutual.going), mutual.client(&mutual.staying));
    let [open, other] = [mutual.channel(&going).await, mutual.channel(&staying).await];
    mutual.enroll(&open).await;
    let mut events = idle(&open, Request::new(watch())).await;
    let mut others = idle(&other, Request::new(watch())).await;
    let to = mutual.world.gateway().egress_address.unwrap();
    let http = Client { alpn: Some("http/1.1"), ..going.clone() };
    let mut egress = BufReader::new(http.handshake(to).await.unwrap());
    let request =
        format!("GET /{APPLICATION}/Cust9/api/v1/Contact/1 HTTP/1.1\r\nHost: {to}\r\n\r\n");
    assert_eq!(exchange(&mut egress, &request).await.0, 404);

    replace(mutual.files.path(), "ca.crt", &mutual.staying.pem());
    eventually_so("an open connection is no longer trusted", async || {
        mutual.world.clock.advance(LOOK);
        get(&open).await.is_err()
    })
    .await;
    assert_not_trusted(&get(&open).await.unwrap_err());
    mutual.world.clock.advance(5 * LOOK);
    assert_not_trusted(&events.message().await.unwrap_err());
    let again = ImpersonationServiceClient::new(open.clone()).watch_grants(watch()).await;
    assert_not_trusted(&again.unwrap_err());
    eventually_so("the egress listener has seen it too", async || {
        mutual.world.clock.advance(LOOK);
        exchange(&mut egress, &request).await.0 == 401
    })
    .await;
    let (status, problem) = exchange(&mut egress, &request).await;
    assert_eq!((status, &problem["reason"]), (401, &"CALLER_UNAUTHENTICATED".into()));
    assert!(problem["detail"].as_str().unwrap().contains("no longer trusted"), "{problem}");

    // Connections and streams with certificates of the other authority continue.
    get(&other).await.unwrap();
    assert!(futures_util::poll!(std::pin::pin!(others.message())).is_pending());
    // A restored authority is trusted again.
    let both = mutual.going.pem() + &mutual.staying.pem();
    replace(mutual.files.path(), "ca.crt", &both);
    eventually_so("the authority is trusted again", async || {
        mutual.world.clock.advance(LOOK);
        get(&open).await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn an_idle_stream_ends_with_its_certificate() {
    let mutual = MtlsGateway::new("").await;
    let until = mutual.world.clock_seconds() + 60;
    let client = mutual.server.client().showing(mutual.going.issue_for_until(JOBS, until));
    let channel = mutual.channel(&client).await;
    mutual.enroll(&channel).await;
    let mut events = idle(&channel, Request::new(watch())).await;
    mutual.world.clock.advance(Duration::from_secs(59));
    assert!(futures_util::poll!(std::pin::pin!(events.message())).is_pending());
    mutual.world.clock.advance(Duration::from_secs(3));
    let ended = events.message().await.unwrap_err();
    assert_status(&ended, Code::Unauthenticated, "CALLER_UNAUTHENTICATED");
}

#[tokio::test]
async fn an_idle_stream_ends_with_its_token() {
    let guarded = AuthenticatedGateway::new("permit (principal, action, resource);").await;
    guarded.enroll("sync", "Cust1").await;
    let mut claims = guarded.issuer.claims("sync", guarded.world.clock_seconds());
    claims["exp"] = (guarded.world.clock_seconds() + 60).into();
    let token = guarded.issuer.sign(&claims);
    let mut events = idle(&guarded.channel, with_bearer_token(&token, watch())).await;
    guarded.world.clock.advance(Duration::from_secs(80));
    assert!(futures_util::poll!(std::pin::pin!(events.message())).is_pending());
    // Expiry has a tolerance of half a minute for clock differences.
    guarded.world.clock.advance(Duration::from_secs(11));
    let ended = events.message().await.unwrap_err();
    assert_status(&ended, Code::Unauthenticated, "CALLER_UNAUTHENTICATED");
}

#[tokio::test]
async fn the_configured_name_of_a_certificate_identifies_the_caller() {
    let mutual = MtlsGateway::new("identity = \"uri\"\npattern = \"spiffe://test/*\"\n").await;
    let asked = async |uris: &[&str]| {
        let identity = mutual.going.issue_for(uris, &["jobs.example"]);
        let channel = mutual.channel(&mutual.server.client().showing(identity)).await;
        get(&channel).await.unwrap_err()
    };
    for refused in [
        &["spiffe://test/jobs", "spiffe://test/other"][..],
        &["spiffe://prod/jobs", "https://test/jobs"],
        &[],
    ] {
        let status = asked(refused).await;
        assert_status(&status, Code::Unauthenticated, "CALLER_UNAUTHENTICATED");
    }
    let found = asked(&["spiffe://prod/jobs", JOBS, "https://a.example/b"]).await;
    assert_status(&found, Code::NotFound, "RESOURCE_NOT_FOUND");
}

#[tokio::test]
async fn a_chain_of_many_certificates_is_refused_at_once() {
    let mutual = MtlsGateway::new("").await;
    let good = mutual.client(&mutual.staying);
    let stranger = Authority::new();
    let mut identity = stranger.issue_for(&[JOBS], &[]);
    identity.others = (0..91).map(|_| Authority::new().der()).collect();
    let client = mutual.server.client().showing(identity);
    for _ in 0..5 {
        let connected = client.connect(mutual.world.gateway().grpc_address).await;
        let answered = match connected {
            Ok(connected) => get(&connected.channel).await.is_ok(),
            Err(_) => false,
        };
        assert!(!answered);
    }
    let channel = mutual.channel(&good).await;
    assert_status(&get(&channel).await.unwrap_err(), Code::NotFound, "RESOURCE_NOT_FOUND");
}
