//! Attacks on decisions: floods of guessed tokens, expensive certificates, and authority that was taken away.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use prost::Message as _;
use tenant_gateway::grpc::pb::{self, impersonation_service_client::ImpersonationServiceClient};
use tokio::time::{Instant, sleep};
use tonic::{Code, Request, transport::Channel};

use crate::{
    now,
    process::Usage,
    support::{
        Authority, Client, Options, assert_status,
        binary::{Served, Site},
        callers::{CALLERS, ISSUER, TestIssuer, call, with_bearer_token},
        eventually_so, get, issue, issue_with, name, replace,
    },
};

const JOBS: &str = "spiffe://test/jobs";
const GET: &str = "TenantService/GetTenant";

/// The most processor time of a handshake, whatever certificates the client sends.
const MOST_PROCESSOR_TIME: Duration = Duration::from_millis(20);

/// The time limit until the gateway notices a replaced file of certificate authorities.
const RELOADED_WITHIN: Duration = Duration::from_secs(10);

fn get_tenant() -> Vec<u8> {
    pb::GetTenantRequest { name: name("Cust1") }.encode_to_vec()
}

/// Returns the code of a call with a bearer token.
async fn code_with(channel: &Channel, token: &str) -> Code {
    let answer = call(channel, GET, with_bearer_token(token, get_tenant())).await;
    answer.map_or_else(|status| status.code(), |_| Code::Ok)
}

#[tokio::test]
async fn guessed_tokens_are_examined_at_the_configured_rate_and_known_callers_are_served() {
    const PER_SECOND: u32 = 10;
    const BURST: u32 = 20;
    let issuer = TestIssuer::new(ISSUER, "one");
    let options = Options {
        callers: Some(CALLERS.to_owned()),
        policy: Some("permit (principal, action, resource);".to_owned()),
        extra_config: format!(
            "[quotas]\nrefused_per_source = {{ per_second = {PER_SECOND}, burst = {BURST} }}\n"
        ),
        ..Options::default()
    };
    let site = Site::with(options).await;
    fs::write(site.file("jwks.json"), issuer.jwks()).unwrap();
    let served = site.serve().await;
    let channel = served.channel().await;
    assert_eq!(code_with(&channel, &issuer.token("sync", now())).await, Code::NotFound);

    let (begin, mut examined) = (Instant::now(), 0);
    let attack_time = Duration::from_secs(3);
    for guess in 0.. {
        let code = code_with(&channel, &format!("a.b.{guess}")).await;
        examined += u32::from(code == Code::Unauthenticated);
        assert!(matches!(code, Code::Unauthenticated | Code::ResourceExhausted), "{code:?}");
        if begin.elapsed() > attack_time {
            break;
        }
    }
    let refilled = begin.elapsed().as_secs_f64() * f64::from(PER_SECOND);
    println!("{examined} guessed tokens were examined in {:?}", begin.elapsed());
    assert!(f64::from(examined) <= f64::from(BURST) + refilled + 1.0, "{examined}");
    // The gateway has not seen this token yet.
    let token = issuer.token("sync", now() - 5);
    assert_eq!(code_with(&channel, &token).await, Code::NotFound);
}

/// A gateway that authenticates callers by certificates.
struct MtlsGateway {
    _site: Site,
    files: tempfile::TempDir,
    served: Served,
    server: Authority,
    trusted: Authority,
    other: Authority,
}

fn tls_section(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "[grpc.tls]\ncertificate_file = \"{folder}/tls.crt\"\nprivate_key_file = \"{folder}/tls.key\"\n\
         client_ca_file = \"{folder}/ca.crt\"\n"
    )
}

impl MtlsGateway {
    async fn start() -> Self {
        let files = tempfile::tempdir().unwrap();
        let [server, trusted, other] = std::array::from_fn(|_| Authority::new());
        server.issue().write(files.path());
        fs::write(files.path().join("ca.crt"), trusted.pem() + &other.pem()).unwrap();
        let options = Options {
            extra_config: tls_section(files.path()),
            callers: Some("[callers.mtls]\nenabled = true\n".to_owned()),
            policy: Some("permit (principal, action, resource);".to_owned()),
            ..Options::default()
        };
        let site = Site::with(options).await;
        site.enroll("Cust1").await;
        let served = site.serve().await;
        Self { _site: site, files, served, server, trusted, other }
    }

    fn client(&self, authority: &Authority) -> Client {
        self.server.client().showing(authority.issue_for(&[JOBS], &[]))
    }

    async fn code_of(&self, client: &Client) -> Option<Code> {
        let connected = client.connect(self.served.grpc).await.ok()?;
        Some(code(&connected.channel).await)
    }
}

/// Returns the code of a call without a token.
async fn code(channel: &Channel) -> Code {
    let answer = call(channel, GET, Request::new(get_tenant())).await;
    answer.map_or_else(|status| status.code(), |_| Code::Ok)
}

#[tokio::test]
async fn certificate_chains_of_any_shape_cost_little_processor_time() {
    const HANDSHAKES: u32 = 20;
    let gateway = MtlsGateway::start().await;
    let stranger = Authority::new();
    for (what, certificates) in [("one certificate", 0), ("7 others", 7), ("91 others", 91)] {
        let mut identity = stranger.issue_for(&[JOBS], &[]);
        // All authorities have the same name, so each may have signed each.
        identity.others = (0..certificates).map(|_| Authority::new().der()).collect();
        let client = gateway.server.client().showing(identity);
        let before = Usage::of(&gateway.served.process).processor;
        for _ in 0..HANDSHAKES {
            let code = gateway.code_of(&client).await;
            assert!(matches!(code, None | Some(Code::Unavailable | Code::Unknown)), "{code:?}");
        }
        let each = (Usage::of(&gateway.served.process).processor - before) / HANDSHAKES;
        println!("{what}: {each:?} of processor time for each handshake");
        assert!(each <= MOST_PROCESSOR_TIME, "{what}: {each:?}");
    }
    assert_eq!(gateway.code_of(&gateway.client(&gateway.trusted)).await, Some(Code::Ok));
}

#[tokio::test]
async fn a_removed_authority_ends_calls_and_streams_of_open_connections() {
    let gateway = MtlsGateway::start().await;
    let connect = async |authority| {
        let client = gateway.client(authority);
        client.connect(gateway.served.grpc).await.unwrap().channel
    };
    let (channel, other) = (connect(&gateway.trusted).await, connect(&gateway.other).await);
    assert_eq!(code(&channel).await, Code::Ok);
    let mut watches = ImpersonationServiceClient::new(channel.clone());
    let watch = pb::WatchGrantsRequest { parent: name("Cust1") };
    let mut events = watches.watch_grants(watch).await.unwrap().into_inner();
    // The first event says that the list is complete.
    events.message().await.unwrap().unwrap();

    replace(gateway.files.path(), "ca.crt", &gateway.other.pem());
    let begin = Instant::now();
    eventually_so("an open connection is no longer trusted", async || {
        sleep(Duration::from_millis(50)).await;
        code(&channel).await == Code::Unauthenticated
    })
    .await;
    let ended = events.message().await.unwrap_err();
    println!("calls and streams ended after {:?}", begin.elapsed());
    assert_eq!(ended.code(), Code::Unauthenticated, "{ended:?}");
    assert!(begin.elapsed() < RELOADED_WITHIN);
    assert_eq!(code(&other).await, Code::Ok);
}

/// Replaces a file with a copy, like a restored backup.
fn restore_a_copy(file: &Path) {
    let copy: PathBuf = file.with_extension("copy");
    fs::copy(file, &copy).unwrap();
    fs::rename(copy, file).unwrap();
}

#[tokio::test]
async fn a_replaced_store_file_stops_credentials_within_a_second() {
    let site = Site::new().await;
    site.enroll("Cust1").await;
    let served = site.serve().await;
    let mut tokens = served.tokens().await;
    issue_with(&mut tokens, issue("Cust1")).await.unwrap();
    restore_a_copy(&site.file("gateway.db"));
    sleep(Duration::from_secs(1)).await;
    let refused = issue_with(&mut tokens, issue("Cust1")).await.unwrap_err();
    assert_status(&refused, Code::Unavailable, "STORE_UNAVAILABLE");
    let page = get(served.admin, "/readyz").await;
    assert!(page.contains("503") && page.contains("was replaced"), "{page}");
}
