//! Tests of the configurations in examples/envoy/, with the real Envoy between a service and the gateway. The tests only
//! replace addresses, folders and the API host.
//!
//! Needs Envoy, so `cargo test` leaves it out (`test = false`). `tools/check-envoy` installs it and runs this, and
//! `.ci/run` runs that.
#![cfg(test)]

#[expect(dead_code, unused_imports, reason = "uses only a part of the shared support module")]
mod support;

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{PrivateKeyDer, pem::PemObject as _},
};
use serde_json::Value;
use superoffice_sandbox::{ApiHost, Endpoint};
use tenant_gateway::{
    domain::Decision,
    grpc::{
        envoy_pb::{
            AttributeContext, CheckRequest,
            attribute_context::{HttpRequest, Peer, Request},
            authorization_client::AuthorizationClient,
        },
        pb::{
            self, impersonation_service_client::ImpersonationServiceClient,
            tenant_service_client::TenantServiceClient,
        },
    },
};
use tokio::{io::AsyncWriteExt as _, net::TcpStream, task::JoinSet, time::timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tonic::{Code, transport::Channel};

use crate::support::{
    APPLICATION, Authority, CLIENT_ID, CLIENT_SECRET, Identity, Options, World,
    api_host::{HostResponse, ScriptedApiHost},
    assert_status, eventually,
    http::{Answer, request},
    name,
    trail::StoredTrail,
};

const ADMIN: &str = "spiffe://example.org/admin";
const SYNC: &str = "spiffe://example.org/ns/shop/sa/sync";
const ENVOY: &str = "spiffe://example.org/ns/edge/sa/envoy";

const POLICY: &str = r#"
permit (principal == Caller::"spiffe://example.org/admin", action, resource);
permit (principal == Caller::"spiffe://example.org/ns/shop/sa/sync", action in Action::"callWebApi", resource)
when { context.method == "GET" && context.path == "/api/v1/user/currentprincipal" };
permit (principal == Caller::"spiffe://example.org/ns/edge/sa/envoy",
        action in [Action::"checkExternally", Action::"revealApplicationToken"], resource);
"#;

const PRINCIPAL: &str = "/crm-sync/Cust1/api/v1/User/currentPrincipal";

/// Spellings of paths that the policy does not permit.
const DENIED: [&str; 14] = [
    "/crm-sync/Cust1/api/v1/User/currentToken",
    "/crm-sync/Cust1/API/v1/user/CurrentToken",
    "/crm-sync/Cust1/api/v1/%55ser/current%54oken",
    "/crm-sync/Cust1/api/v1/User/currentPrincipal/../currentToken",
    "/crm-sync/Cust1/api/v1/User/currentPrincipal/%2e%2e/currentToken",
    "/crm-sync/Cust1/api/v1/User/currentPrincipal/%2E./currentToken",
    "/crm-sync/Cust1/api/v1/User%2fcurrentToken",
    "/crm-sync/Cust1/api/v1/User%2FcurrentPrincipal%2f..%2fcurrentToken",
    "/crm-sync/Cust1/api/v1/User//currentToken",
    "/crm-sync/Cust1/api/v1/User/currentPrincipal;x",
    "/crm-sync/Cust1/api/v1/User/currentToken;x",
    "/crm-sync/Cust1/api/v1/User%5ccurrentToken",
    "/crm-sync/Cust1/../Cust2/api/v1/User/currentPrincipal",
    "/crm-sync/Cust2/api/v1/User/currentPrincipal",
];

/// Secrets that no caller may see.
struct Secrets(Vec<String>);

impl Secrets {
    #[track_caller]
    fn assert_none_in(&self, answer: &Answer) {
        let seen = format!("{answer:?}");
        for secret in &self.0 {
            assert!(!seen.contains(secret.as_str()), "a long-lived credential was answered");
        }
    }
}

/// A process that ends with the test.
struct Envoy(Child);

impl Drop for Envoy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// One of the two configurations.
#[derive(Clone, Copy, PartialEq)]
enum EnvoyMode {
    Egress,
    ExtAuthz,
}

/// A service, Envoy, the gateway and SuperOffice.
struct Deployment {
    way: EnvoyMode,
    world: World,
    authority: Authority,
    /// The associate id of a person of the tenant.
    associate: i32,
    secrets: Secrets,
    address: SocketAddr,
    relay: Relay,
    _envoy: Envoy,
    _serving: JoinSet<()>,
    _files: [tempfile::TempDir; 2],
}

/// Returns a free address.
fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Terminates TLS before the sandbox, which has no TLS.
async fn with_tls(host: SocketAddr, identity: &Identity) -> (SocketAddr, JoinSet<()>) {
    let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let chain = vec![identity.certificate.clone().into()];
    let key = PrivateKeyDer::from_pem_slice(identity.key_pem().as_bytes()).unwrap();
    let config = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let acceptor = TlsAcceptor::from(Arc::new(config.with_single_cert(chain, key).unwrap()));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut serving = JoinSet::new();
    serving.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            connections.spawn(async move {
                let Ok(mut tls) = acceptor.accept(stream).await else { return };
                let Ok(mut plain) = TcpStream::connect(host).await else { return };
                let _ = tokio::io::copy_bidirectional(&mut tls, &mut plain).await;
            });
        }
    });
    (address, serving)
}

/// A relay to the gateway that can simulate a hung process: it then accepts connections but forwards no byte, as the
/// kernel does for a stopped process.
struct Relay {
    address: SocketAddr,
    hung: CancellationToken,
    _serving: JoinSet<()>,
}

impl Relay {
    async fn before(gateway: SocketAddr) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, hung) = (listener.local_addr().unwrap(), CancellationToken::new());
        let (mut serving, hangs) = (JoinSet::new(), hung.clone());
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut envoy, _)) = listener.accept().await {
                let hangs = hangs.clone();
                connections.spawn(async move {
                    let Ok(mut gateway) = TcpStream::connect(gateway).await else { return };
                    let carried = tokio::io::copy_bidirectional(&mut envoy, &mut gateway);
                    if hangs.run_until_cancelled(carried).await.is_none() {
                        // Both connections stay open.
                        std::future::pending::<()>().await;
                    }
                });
            }
        });
        Self { address, hung, _serving: serving }
    }
}

impl Deployment {
    /// Uses the sandbox as SuperOffice.
    async fn new(way: EnvoyMode) -> Self {
        Self::before(way, None).await
    }

    /// Uses a scripted host for the tenant.
    async fn before(way: EnvoyMode, by_hand: Option<&ScriptedApiHost>) -> Self {
        let (authority, files) = (Authority::new(), tempfile::tempdir().unwrap());
        let folder = files.path().display();
        authority.issue_for(&[], &["gateway.example.com", "localhost"]).write(files.path());
        fs::write(files.path().join("ca.crt"), authority.pem()).unwrap();
        let tls = format!(
            "tls = {{ certificate_file = \"{folder}/tls.crt\", private_key_file = \"{folder}/tls.key\", \
             client_ca_file = \"{folder}/ca.crt\" }}"
        );
        let options = Options {
            callers: Some("[callers.mtls]\nenabled = true".to_owned()),
            policy: Some(POLICY.to_owned()),
            extra_config: format!(
                "[envoy]\nenabled = true\n[egress]\nlisten = \"127.0.0.1:0\"\n\
                 public_uri = \"http://127.0.0.1:8000\"\n{tls}"
            ),
            extra_application: "allow_reveal_application_token = true".to_owned(),
            grpc: Some(tls),
            ..Options::default()
        };
        let world = World::with(options).await;
        if let Some(by_hand) = by_hand {
            by_hand.move_tenant_here(&world.sandbox, "Cust1");
        }
        let (associate, tokens) = enroll(&world, &authority).await;
        let host = by_hand.map_or_else(
            || {
                let uri = world.sandbox.api_uri(ApiHost::A);
                uri.split_once("://").unwrap().1.parse().unwrap()
            },
            |by_hand| by_hand.address,
        );
        let secrets = Secrets([tokens, vec![CLIENT_SECRET.to_owned()]].concat());
        let address = free();
        let api_host = authority.issue_for(&[], &["online2.superoffice.com"]);
        let (tls, serving) = with_tls(host, &api_host).await;
        let relay = Relay::before(match way {
            EnvoyMode::Egress => world.gateway().egress_address.unwrap(),
            EnvoyMode::ExtAuthz => world.gateway().grpc_address,
        })
        .await;
        let configuration = match way {
            EnvoyMode::Egress => egress(relay.address, address),
            EnvoyMode::ExtAuthz => ext_authz(relay.address, address, host, tls),
        };
        let beside = tempfile::tempdir().unwrap();
        let (uri, names): (_, &[_]) = match way {
            EnvoyMode::Egress => (SYNC, &[]),
            EnvoyMode::ExtAuthz => (ENVOY, &["localhost"]),
        };
        authority.issue_for(&[uri], names).write(beside.path());
        fs::write(beside.path().join("ca.crt"), authority.pem()).unwrap();
        let envoy = Envoy::start(&configuration, beside.path(), address).await;
        Self {
            way,
            world,
            authority,
            associate,
            secrets,
            address,
            relay,
            _envoy: envoy,
            _serving: serving,
            _files: [files, beside],
        }
    }

    /// Sends a request as the service. The service has no SuperOffice credential: with a sidecar none at all, otherwise
    /// the certificate that identifies it.
    async fn send(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        let bytes = request("GET", path, headers, b"");
        let answer = match self.way {
            EnvoyMode::Egress => {
                let mut stream = TcpStream::connect(self.address).await.unwrap();
                stream.write_all(&bytes).await.unwrap();
                Answer::read(&mut stream).await
            }
            EnvoyMode::ExtAuthz => {
                let mut client = self.authority.client();
                client.alpn = Some("http/1.1");
                client.identity = Some(self.authority.issue_for(&[SYNC], &[]));
                let mut stream = client.handshake(self.address).await.unwrap();
                stream.write_all(&bytes).await.unwrap();
                Answer::read(&mut stream).await
            }
        };
        self.secrets.assert_none_in(&answer);
        assert!(!format!("{answer:?}").contains("7T:"), "a ticket was answered");
        answer
    }

    async fn channel(&self, identity: &str) -> Channel {
        channel(&self.world, &self.authority, identity).await
    }

    /// Returns the number of calls at SuperOffice's API hosts.
    fn calls(&self) -> u64 {
        let asked = [Endpoint::CurrentPrincipal, Endpoint::Restricted, Endpoint::CurrentAssociate];
        asked.into_iter().map(|endpoint| self.world.sandbox.calls(endpoint)).sum()
    }
}

async fn channel(world: &World, authority: &Authority, identity: &str) -> Channel {
    let client = authority.client().showing(authority.issue_for(&[identity], &[]));
    client.connect(world.gateway().grpc_address).await.unwrap().channel
}

/// Enrolls a tenant and a person. Returns the associate id, and the long-lived credentials of both.
async fn enroll(world: &World, authority: &Authority) -> (i32, Vec<String>) {
    let channel = channel(world, authority, ADMIN).await;
    let system_user_token = world.make_tenant("Cust1");
    let mut tenants = TenantServiceClient::new(channel.clone());
    let create = pb::CreateTenantRequest {
        parent: format!("applications/{APPLICATION}"),
        tenant_id: "Cust1".to_owned(),
        tenant: None,
    };
    tenants.create_tenant(create).await.unwrap();
    let set = pb::SetSystemUserTokenRequest {
        name: name("Cust1"),
        system_user_token: system_user_token.clone(),
    };
    tenants.set_system_user_token(set).await.unwrap();
    world.sandbox.generate_people("Cust1", 20, 7).unwrap();
    let signed_in = |id| Some((id, world.sandbox.begin_grant(CLIENT_ID, "Cust1", id).ok()?));
    let (id, refresh_token) = (1..100).find_map(signed_in).expect("no user can sign in");
    let import = pb::ImportGrantRequest {
        tenant: name("Cust1"),
        refresh_token: refresh_token.clone(),
        ..Default::default()
    };
    ImpersonationServiceClient::new(channel).import_grant(import).await.unwrap();
    (i32::try_from(id).unwrap(), vec![system_user_token, refresh_token])
}

fn egress(gateway: SocketAddr, address: SocketAddr) -> String {
    edited(
        include_str!("../../examples/envoy/egress.yaml"),
        &[
            ("address: 127.0.0.1, port_value: 8000", &socket(address)),
            ("address: gateway.example.com, port_value: 8081", &socket(gateway)),
        ],
    )
}

fn ext_authz(
    gateway: SocketAddr,
    address: SocketAddr,
    host: SocketAddr,
    tls: SocketAddr,
) -> String {
    edited(
        include_str!("../../examples/envoy/ext-authz.yaml"),
        &[
            ("address: 0.0.0.0, port_value: 8443", &socket(address)),
            ("address: gateway.example.com, port_value: 50051", &socket(gateway)),
            ("address: online2.superoffice.com, port_value: 443", &socket(tls)),
            ("api_host: online2.superoffice.com", &format!("api_host: \"{host}\"")),
            ("/etc/ssl/certs/ca-certificates.crt", "/etc/envoy/tls/ca.crt"),
        ],
    )
}

fn socket(address: SocketAddr) -> String {
    format!("address: {}, port_value: {}", address.ip(), address.port())
}

fn edited(text: &str, changes: &[(&str, &str)]) -> String {
    changes.iter().fold(text.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "the configuration has no {from:?}");
        text.replace(from, to)
    })
}

impl Envoy {
    /// Starts Envoy, and waits until it listens.
    async fn start(configuration: &str, folder: &Path, address: SocketAddr) -> Self {
        let program =
            std::env::var_os("ENVOY").expect("ENVOY is not set: run this with tools/check-envoy");
        let folder_text = folder.display().to_string();
        let text = configuration
            .replace("/etc/envoy/tls", &folder_text)
            .replace("/run/envoy", &folder_text);
        let file = folder.join("envoy.yaml");
        fs::write(&file, text).unwrap();
        let child = Command::new(program)
            .args(["--disable-hot-restart", "--concurrency", "1", "--log-level", "warning"])
            .arg("--config-path")
            .arg(&file)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut envoy = Self(child);
        eventually("Envoy listens", || {
            assert!(envoy.0.try_wait().unwrap().is_none(), "Envoy has ended");
            std::net::TcpStream::connect(address).is_ok()
        })
        .await;
        envoy
    }
}

/// Parses the body of a JSON response, which may be chunked.
fn json(answer: &Answer) -> Value {
    assert_eq!(answer.status, 200, "{answer:?}");
    let (begin, end) = (answer.body.find('{').unwrap(), answer.body.rfind('}').unwrap());
    serde_json::from_str(&answer.body[begin..=end]).unwrap()
}

async fn reaches_superoffice(way: EnvoyMode) {
    let scene = Deployment::new(way).await;
    let accept = ("Accept", "application/json");
    let system = scene.send(PRINCIPAL, &[accept, ("Gateway-Act-As", "system")]).await;
    assert_eq!(json(&system)["UserType"], "SystemAssociate");
    let person = format!("associates/{}", scene.associate);
    let person = scene.send(PRINCIPAL, &[accept, ("Gateway-Act-As", &person)]).await;
    assert_eq!(json(&person)["AssociateId"], scene.associate);
    assert_ne!(json(&person)["UserType"], "SystemAssociate");
    // Both contexts are allowed, so the header is required.
    assert_eq!(scene.send(PRINCIPAL, &[accept]).await.status, 400);
}

async fn denies_in_every_spelling(way: EnvoyMode) {
    let scene = Deployment::new(way).await;
    let as_system = [("Gateway-Act-As", "system"), ("Accept", "application/json")];
    assert_eq!(scene.send(PRINCIPAL, &as_system).await.status, 200);
    let before = scene.calls();
    for path in DENIED {
        let answer = scene.send(path, &as_system).await;
        assert!([400, 403, 404].contains(&answer.status), "{path}: {answer:?}");
        assert!(answer.body.contains("\"reason\""), "{path}: not ours: {answer:?}");
    }
    assert_eq!(scene.calls(), before);
    // A permitted path is permitted in every spelling, and arrives unchanged.
    let respelt = "/crm-sync/Cust1/API/v1/%55ser/currentPrincipal";
    let answer = scene.send(respelt, &as_system).await;
    assert!(!answer.body.contains("\"reason\""), "refused by the gateway: {answer:?}");
}

async fn fails_closed(way: EnvoyMode) {
    let mut scene = Deployment::new(way).await;
    let as_system = [("Gateway-Act-As", "system"), ("Accept", "application/json")];
    assert_eq!(scene.send(PRINCIPAL, &as_system).await.status, 200);
    let before = scene.calls();
    scene.world.stop().await;
    assert_eq!(scene.send(PRINCIPAL, &as_system).await.status, 503);
    assert_eq!(scene.calls(), before);
}

/// The longest wait for a hung gateway: interval and timeout of pings, timeout of a check, and reserve for a slow
/// machine.
const HUNG: Duration = Duration::from_secs(30);

async fn does_not_wait_for_a_gateway_that_hangs(way: EnvoyMode) {
    let scene = Deployment::new(way).await;
    let as_system = [("Gateway-Act-As", "system"), ("Accept", "application/json")];
    assert_eq!(scene.send(PRINCIPAL, &as_system).await.status, 200);
    let before = scene.calls();
    scene.relay.hung.cancel();
    // First on an open connection, then on one that cannot be opened.
    for _ in 0..2 {
        let asked = timeout(HUNG, scene.send(PRINCIPAL, &as_system)).await;
        let status = asked.expect("Envoy waits for ever").status;
        assert!(matches!(status, 503 | 504), "{status}");
    }
    assert_eq!(scene.calls(), before);
}

async fn sends_the_credential_and_nothing_of_the_callers(way: EnvoyMode) {
    let host = ScriptedApiHost::start().await;
    let head = "HTTP/1.1 200 OK\r\nETag: \"5\"\r\nSet-Cookie: theirs=1\r\n";
    host.respond_next(HostResponse::Body(head, b"{}".to_vec()));
    let scene = Deployment::before(way, Some(&host)).await;
    let mut mine = vec![
        ("SO-AppToken", "mine"),
        ("SO-AppToken", "mine"),
        ("Cookie", "mine=1"),
        ("Gateway-Act-As", "system"),
        ("X-HTTP-Method-Override", "DELETE"),
        ("X-Original-URL", "/mine"),
        ("X-Rewrite-URL", "/mine"),
        ("X-Forwarded-Host", "mine"),
        ("Forwarded", "for=mine"),
        ("CF-Connecting-IP", "mine"),
        ("True-Client-IP", "mine"),
        ("X-Envoy-External-Address", "mine"),
        ("X-Auth-Request-Email", "mine"),
        ("Via", "mine"),
        ("Accept", "application/json"),
        ("If-Match", "\"4\""),
    ];
    if way == EnvoyMode::Egress {
        // With ext_authz this header is the caller's own token and must be valid.
        mine.extend([("Authorization", "Basic bWluZQ=="), ("Authorization", "Bearer mine")]);
    }
    let answer = scene.send(&format!("{PRINCIPAL}?$select=a%2Fb"), &mine).await;
    assert_eq!((answer.status, answer.header("etag")), (200, Some("\"5\"")));
    assert_eq!(answer.header("set-cookie"), None);
    let [arrived] = &host.received()[..] else { panic!("expected exactly one call") };
    let line = "GET /Cust1/api/v1/User/currentPrincipal?$select=a%2Fb HTTP/1.1";
    assert_eq!(arrived.line(), line);
    let authorization = arrived.header("authorization");
    assert_eq!(authorization.len(), 1, "{authorization:?}");
    assert!(authorization[0].starts_with("SOTicket 7T:"));
    assert_eq!(arrived.header("so-apptoken"), [CLIENT_SECRET]);
    assert_eq!(arrived.header("accept"), ["application/json"]);
    assert_eq!(arrived.header("if-match"), ["\"4\""]);
    assert!(!arrived.head.contains("mine") && !arrived.head.contains("DELETE"), "{}", arrived.head);
    for name in arrived.names() {
        let told = ["gateway-", "x-forwarded", "x-envoy", "x-original", "x-rewrite", "cookie"];
        assert!(!told.iter().any(|told| name.starts_with(told)), "{name}");
    }
}

macro_rules! both_ways {
    ($($promise:ident: $egress:ident, $ext_authz:ident;)+) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $egress() {
                $promise(EnvoyMode::Egress).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $ext_authz() {
                $promise(EnvoyMode::ExtAuthz).await;
            }
        )+
    };
}

both_ways! {
    reaches_superoffice:
        through_egress_a_service_without_any_credential_reaches_superoffice_as_the_system_user_and_as_a_person,
        by_ext_authz_a_service_without_a_credential_of_superoffice_reaches_it_as_the_system_user_and_as_a_person;
    denies_in_every_spelling:
        through_egress_a_denied_path_is_denied_in_every_spelling,
        by_ext_authz_a_denied_path_is_denied_in_every_spelling;
    fails_closed:
        through_egress_nothing_is_sent_while_the_gateway_is_down,
        by_ext_authz_nothing_is_sent_while_the_gateway_is_down;
    sends_the_credential_and_nothing_of_the_callers:
        through_egress_superoffice_gets_the_credential_and_nothing_of_the_callers,
        by_ext_authz_superoffice_gets_the_credential_and_nothing_of_the_callers;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_proxy_may_report_a_peer() {
    let scene = Deployment::new(EnvoyMode::ExtAuthz).await;
    let http = HttpRequest {
        method: "GET".to_owned(),
        path: PRINCIPAL.to_owned(),
        ..HttpRequest::default()
    };
    let attributes = AttributeContext {
        source: Some(Peer { principal: SYNC.to_owned(), ..Peer::default() }),
        request: Some(Request { http: Some(http), ..Request::default() }),
        ..AttributeContext::default()
    };
    // Also a caller cannot act as a proxy for itself.
    for caller in ["spiffe://example.org/ns/shop/sa/other", SYNC] {
        let mut client = AuthorizationClient::new(scene.channel(caller).await);
        let request = CheckRequest { attributes: Some(attributes.clone()) };
        let Err(refused) = client.check(request).await else {
            panic!("{caller} was accepted as a proxy")
        };
        assert_status(&refused, Code::PermissionDenied, "POLICY_DENIED");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_the_egress_listener_envoy_does_not_wait_for_a_hung_gateway() {
    does_not_wait_for_a_gateway_that_hangs(EnvoyMode::Egress).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_ext_authz_envoy_does_not_wait_for_a_hung_gateway() {
    does_not_wait_for_a_gateway_that_hangs(EnvoyMode::ExtAuthz).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_ext_authz_the_trail_names_the_service_and_envoy() {
    let mut scene = Deployment::new(EnvoyMode::ExtAuthz).await;
    let as_system = [("Gateway-Act-As", "system"), ("Gateway-Reason", "nightly sync")];
    scene.send(PRINCIPAL, &as_system).await;
    scene.world.stop().await;
    let written = StoredTrail::read(&scene.world.config_file()).await;
    written.assert_intact();
    let of = |caller: &str| -> Vec<_> {
        let records = written.of_calls().map(|event| &event.record);
        records.filter(|record| &*record.caller == caller).cloned().collect()
    };
    let [call] = &of(SYNC)[..] else { panic!("expected exactly one event of the service") };
    assert_eq!((&*call.action, call.decision), ("callWebApiAsSystemUser", Decision::Allowed));
    assert_eq!((&*call.caller_method, &*call.reason), ("mtls", "nightly sync"));
    assert_eq!(&*call.client_address, "127.0.0.1");
    let actions: Vec<_> = of(ENVOY).iter().map(|record| record.action.to_string()).collect();
    assert_eq!(actions, ["checkExternally", "revealApplicationToken"]);
}
