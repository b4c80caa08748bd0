//! Tests of callers with tokens of a real OpenID provider, found by discovery: keys change during calls.
//!
//! Needs Node.js and a package from npm, so `cargo test` leaves it out (`test = false`). `tools/check-openid` installs
//! what it needs and runs it, and `.ci/run` runs that.
#![cfg(test)]

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tenant_gateway::{
    crypto::Keyring,
    grpc::pb::{self, tenant_service_client::TenantServiceClient},
    ports::{Clock as _, SystemClock},
};
use tonic::{Code, Request, metadata::MetadataValue, transport::Channel};

/// The provider as a process.
struct Provider {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    issuer: String,
}

impl Provider {
    fn start() -> Self {
        let modules = std::env::var("OPENID_PROVIDER")
            .expect("OPENID_PROVIDER is not set: run this with tools/check-openid");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/openid/provider.mjs");
        let mut child = Command::new("node")
            .args([script.as_os_str(), modules.as_ref()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let mut provider = Self { child, stdin, stdout, issuer: String::new() };
        provider.issuer = provider.line()["issuer"].as_str().unwrap().to_owned();
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

    fn token(&mut self, key: &str) -> String {
        self.ask(&json!({ "sign": key, "sub": "sync" }))["token"].as_str().unwrap().to_owned()
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The gateway as a process. Its application is never used.
struct Gateway {
    child: Child,
    _folder: tempfile::TempDir,
    channel: Channel,
}

impl Gateway {
    async fn start(issuer: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name);
        fs::write(file("secret"), "client-secret-of-the-tests").unwrap();
        fs::write(file("key.pem"), include_str!("fixtures/keys/rsa-2048.pkcs8.pem")).unwrap();
        for secret in ["secret", "key.pem"] {
            fs::set_permissions(file(secret), fs::Permissions::from_mode(0o600)).unwrap();
        }
        Keyring::generate(&file("keyring.toml"), SystemClock.now()).unwrap();
        let policy = "permit (principal == Caller::\"oidc:sync\", action, resource) \
                      when { principal.method == \"jwt\" };";
        fs::write(file("policy.cedar"), policy).unwrap();
        let config = format!(
            "[grpc]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n\
             [policy]\nfile = \"policy.cedar\"\n[lifecycle]\ndrain_delay = \"0s\"\n\
             [[callers.jwt]]\nissuer = \"{issuer}\"\naudience = \"tenant-gateway\"\ncaller_prefix = \"oidc:\"\n\
             [[applications]]\nid = \"crm\"\nenvironment = \"sod\"\nclient_id = \"0123\"\n\
             client_secret_file = \"secret\"\nprivate_key_file = \"key.pem\"\n"
        );
        fs::write(file("gateway.toml"), config).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_tenant-gateway"))
            .args(["serve", "--config"])
            .arg(file("gateway.toml"))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let said = Arc::new(Mutex::new(String::new()));
        let address = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| {
                *said.lock().unwrap() += &line;
                let line: Value = serde_json::from_str(&line).ok()?;
                Some(line.get("grpc")?.as_str()?.to_owned())
            })
            .unwrap_or_else(|| panic!("does not serve: {}", said.lock().unwrap()));
        std::thread::spawn(move || lines.for_each(drop));
        let channel = Channel::from_shared(format!("http://{address}")).unwrap();
        Self { child, _folder: folder, channel: channel.connect().await.unwrap() }
    }

    /// Makes a call and returns its code: NOT_FOUND if the caller is authenticated and permitted.
    async fn ask(&self, token: &str) -> Code {
        ask(self.channel.clone(), token).await
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn ask(channel: Channel, token: &str) -> Code {
    let name = "applications/crm/tenants/Cust1".to_owned();
    let mut request = Request::new(pb::GetTenantRequest { name });
    let value = MetadataValue::try_from(format!("Bearer {token}")).unwrap();
    request.metadata_mut().insert("authorization", value);
    let answer = TenantServiceClient::new(channel).get_tenant(request).await;
    answer.map_or_else(|status| status.code(), |_| Code::Ok)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_valid_call_fails_while_keys_change() {
    let mut provider = Provider::start();
    let gateway = Gateway::start(&provider.issuer).await;
    let current = Arc::new(Mutex::new(provider.token("one")));
    let (stop, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let callers: Vec<_> = (0..8)
        .map(|_| {
            let (current, stop, calls) = (current.clone(), stop.clone(), calls.clone());
            let channel = gateway.channel.clone();
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let token = current.lock().unwrap().clone();
                    assert_eq!(ask(channel.clone(), &token).await, Code::NotFound);
                    calls.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    // Tokens signed with new keys, one of each algorithm, in quick succession.
    for (key, alg) in [("two", "ES256"), ("three", "EdDSA"), ("four", "RS256")] {
        provider.ask(&json!({ "key": key, "alg": alg }));
        *current.lock().unwrap() = provider.token(key);
        let before = calls.load(Ordering::Relaxed);
        let begin = Instant::now();
        while calls.load(Ordering::Relaxed) < before + 100 {
            assert!(begin.elapsed() < Duration::from_secs(20), "{key}: calls do not continue");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    stop.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_stay_valid_during_an_outage_and_a_withdrawn_key_ends_at_the_next_fetch() {
    let mut provider = Provider::start();
    let gateway = Gateway::start(&provider.issuer).await;
    let old = provider.token("one");
    assert_eq!(gateway.ask(&old).await, Code::NotFound);
    provider.ask(&json!({ "key": "two", "alg": "ES256" }));
    let new = provider.token("two");
    provider.ask(&json!({ "publish": ["two"] }));
    // The unknown key makes the gateway fetch the key set, which replaces the old one.
    assert_eq!(gateway.ask(&new).await, Code::NotFound);
    assert_eq!(gateway.ask(&old).await, Code::Unauthenticated);
    let more = provider.token("two");
    provider.ask(&json!({ "down": true }));
    assert_eq!(gateway.ask(&new).await, Code::NotFound);
    assert_eq!(gateway.ask(&more).await, Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_starts_while_an_issuer_is_down_and_reports_it_to_callers() {
    let mut provider = Provider::start();
    let token = provider.token("one");
    let issuer = provider.issuer.clone();
    drop(provider);
    let gateway = Gateway::start(&issuer).await;
    assert_eq!(gateway.ask(&token).await, Code::Unavailable);
}
