//! Test with a real OpenID provider whose refresh tokens work once: a token that is used twice ends the grant.
//!
//! Needs Node.js and packages from npm, so `cargo test` leaves it out (`test = false`). `tools/check-openid` installs
//! what it needs and runs it, and `.ci/run` runs that.
#![cfg(test)]

#[expect(dead_code, unused_imports, reason = "shared with all tests of this folder")]
mod support;

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tenant_gateway::grpc::pb::{
    self, impersonation_service_client::ImpersonationServiceClient,
    issue_access_token_request::Subject,
};
use tokio::{task::JoinSet, time::Instant};
use tonic::{Code, Status, transport::Channel};

use self::support::{
    CLIENT_ID, CLIENT_SECRET, assert_status,
    binary::{Served, Site},
    http::send,
    name,
};

const PEOPLE: i32 = 50;
const CALLERS: i32 = 50;
const REFRESHES: u64 = 1000;

/// The lifetime of the provider's access tokens.
const TOKEN_LIFE: Duration = Duration::from_secs(2);
const TIMEOUT: Duration = Duration::from_mins(3);

/// The provider as a process.
struct Provider {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    origin: String,
}

impl Provider {
    /// Starts the provider before the simulated login host.
    fn start(site: &Site) -> Self {
        let modules = std::env::var("ROTATING_PROVIDER").expect("run this with tools/check-openid");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rotation/provider.mjs");
        let mut child = Command::new("node")
            .arg(script)
            .args([&modules, &site.sandbox.login_uri(), CLIENT_ID, CLIENT_SECRET, "Cust1"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let mut provider = Self { child, stdin, stdout, origin: String::new() };
        provider.origin = provider.line()["origin"].as_str().unwrap().to_owned();
        provider
    }

    fn line(&mut self) -> Value {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("the provider says {line:?}"))
    }

    fn ask(&mut self, question: &Value) -> Value {
        writeln!(self.stdin, "{question}").unwrap();
        self.line()
    }

    /// Returns the number of refreshes, of revoked sign-ins, and of refused refreshes.
    fn counts(&mut self) -> [u64; 3] {
        let told = self.ask(&json!({ "tell": true }));
        ["refreshes", "revoked", "refused"].map(|field| told[field].as_u64().unwrap())
    }

    /// Uses a refresh token like an attacker who has it.
    async fn use_token(&self, refresh_token: &str) -> u16 {
        let form = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", "refresh_token")
            .append_pair("client_id", CLIENT_ID)
            .append_pair("client_secret", CLIENT_SECRET)
            .append_pair("refresh_token", refresh_token)
            .finish();
        let to = self.origin.strip_prefix("http://").unwrap().parse().unwrap();
        let form_type = ("Content-Type", "application/x-www-form-urlencoded");
        send(to, "POST", "/login/common/oauth/tokens", &[form_type], form.as_bytes()).await.status
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts a gateway whose login host is the provider.
async fn serve(site: &Site, provider: &Provider) -> Served {
    let config = site.read("gateway.toml");
    let config = config.replace(&site.sandbox.login_uri(), &provider.origin);
    fs::write(site.file("gateway.toml"), config).unwrap();
    site.serve().await
}

async fn issue(
    client: &mut ImpersonationServiceClient<Channel>,
    associate_id: i32,
) -> Result<(), Status> {
    let subject = Some(Subject::AssociateId(associate_id));
    let tenant = name("Cust1");
    let request = pb::IssueAccessTokenRequest { tenant, subject, ..Default::default() };
    let token = client.issue_access_token(request).await?.into_inner().token.unwrap();
    assert_eq!(token.associate_id, associate_id);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_refreshes_by_fifty_callers_use_each_token_once() {
    let site = Site::new().await;
    site.enroll("Cust1").await;
    let mut provider = Provider::start(&site);
    let served = serve(&site, &provider).await;
    let client = ImpersonationServiceClient::new(served.channel().await);

    let people: Vec<_> = (1..=PEOPLE).map(|id| json!([id, format!("u{id}@example.com")])).collect();
    let signed_in = provider.ask(&json!({ "people": people }));
    let tokens = signed_in["refresh_tokens"].as_array().unwrap();
    for token in tokens {
        let refresh_token = token.as_str().unwrap().to_owned();
        let import =
            pb::ImportGrantRequest { tenant: name("Cust1"), refresh_token, ..Default::default() };
        client.clone().import_grant(import).await.unwrap();
    }

    // Each caller requests the tokens of all people, starting with a different person.
    let stop = Arc::new(AtomicBool::new(false));
    let mut callers = JoinSet::new();
    for first in 0..CALLERS {
        let (mut client, stop) = (client.clone(), Arc::clone(&stop));
        callers.spawn(async move {
            let mut next = first;
            while !stop.load(Ordering::Relaxed) {
                issue(&mut client, next % PEOPLE + 1).await.unwrap();
                next += 7;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
    }
    let deadline = Instant::now() + TIMEOUT;
    let [imported, ..] = provider.counts();
    while provider.counts()[0] < imported + REFRESHES {
        assert!(Instant::now() < deadline, "{:?}", provider.counts());
        if let Some(ended) = callers.try_join_next() {
            ended.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    stop.store(true, Ordering::Relaxed);
    callers.join_all().await;
    let [_, revoked, refused] = provider.counts();
    assert_eq!((revoked, refused), (0, 0), "a token was spent twice");
    let list = pb::ListGrantsRequest { parent: name("Cust1"), ..Default::default() };
    let grants = client.clone().list_grants(list).await.unwrap().into_inner().grants;
    assert_eq!(i32::try_from(grants.len()), Ok(PEOPLE));
    assert!(grants.iter().all(|grant| grant.state() == pb::GrantState::Active), "{grants:?}");

    // Checks that the provider detects a reused token.
    assert_eq!(provider.use_token(tokens[0].as_str().unwrap()).await, 400);
    let [_, revoked, refused] = provider.counts();
    assert_eq!((revoked, refused), (1, 1));
    tokio::time::sleep(TOKEN_LIFE).await;
    let lost = issue(&mut client.clone(), 1).await.unwrap_err();
    assert_status(&lost, Code::FailedPrecondition, "CONSENT_REQUIRED");
    issue(&mut client.clone(), 2).await.unwrap();
    served.stop().await;
}
