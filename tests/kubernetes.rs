//! Tests of callers with service account tokens, with the OpenID routes of a real Kubernetes API server.
//!
//! Needs Go, so `cargo test` leaves it out (`test = false`). `tools/check-kubernetes` builds the program in
//! tests/kubernetes/ and runs this, and `.ci/run` runs that.
#![cfg(test)]

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use serde_json::{Value, json};
use tenant_gateway::{
    crypto::Keyring,
    grpc::pb::{self, tenant_service_client::TenantServiceClient},
    ports::{Clock as _, SystemClock},
};
use tonic::{Code, Request, metadata::MetadataValue, transport::Channel};

/// The time limit. Every step here takes less than a second.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The caller that the policy permits.
const CALLER: &str = "system:serviceaccount:erp:sync";

/// A process whose output is read line by line, each with a time limit.
struct Program {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Program {
    fn start(child: Child, output: impl std::io::Read + Send + 'static) -> Self {
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self { child, lines }
    }

    fn line(&self) -> String {
        self.lines.recv_timeout(TIMEOUT).expect("the program ended or does not answer")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The routes and the token generator of the API server.
struct ApiServer {
    program: Program,
    stdin: ChildStdin,
    folder: tempfile::TempDir,
    start: Value,
}

impl ApiServer {
    fn start() -> Self {
        let program = std::env::var("KUBERNETES_OPENID")
            .expect("KUBERNETES_OPENID is not set: run this with tools/check-kubernetes");
        let folder = tempfile::tempdir().unwrap();
        let mut child = Command::new(program)
            .arg(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take().unwrap();
        let stdout: ChildStdout = child.stdout.take().unwrap();
        let program = Program::start(child, stdout);
        let start = serde_json::from_str(&program.line()).unwrap();
        Self { program, stdin, folder, start }
    }

    fn ask(&mut self, question: &Value) -> Value {
        writeln!(self.stdin, "{question}").unwrap();
        serde_json::from_str(&self.program.line()).unwrap()
    }

    fn token(&mut self, audience: &str, key: u32) -> String {
        let question = json!({ "token": { "audience": audience, "account": "sync", "key": key } });
        self.ask(&question)["token"].as_str().unwrap().to_owned()
    }

    fn publish(&mut self, keys: &[u32]) {
        assert_eq!(self.ask(&json!({ "publish": keys }))["published"], json!(keys));
    }
}

/// The gateway, with the issuer configured as in the chart.
struct Gateway {
    program: Program,
    _folder: tempfile::TempDir,
    channel: Channel,
}

impl Gateway {
    async fn start(server: &ApiServer) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name);
        write_secret(&file("secret"), "client-secret-of-the-tests");
        write_secret(&file("key.pem"), include_str!("fixtures/keys/rsa-2048.pkcs8.pem"));
        Keyring::generate(&file("keyring.toml"), SystemClock.now()).unwrap();
        let policy = format!("permit (principal == Caller::\"{CALLER}\", action, resource);");
        fs::write(file("policy.cedar"), policy).unwrap();
        let mounted = server.folder.path().display();
        let text = |key: &str| server.start[key].as_str().unwrap();
        let (issuer, jwks_uri) = (text("issuer"), text("jwks_uri"));
        let config = format!(
            "[grpc]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n\
             [log]\nformat = \"json\"\n[policy]\nfile = \"policy.cedar\"\n[lifecycle]\ndrain_delay = \"0s\"\n\
             [[callers.jwt]]\nissuer = \"{issuer}\"\naudience = \"tenant-gateway\"\njwks_uri = \"{jwks_uri}\"\n\
             ca_file = \"{mounted}/ca.crt\"\nbearer_token_file = \"{mounted}/token\"\n\
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
        let stderr = child.stderr.take().unwrap();
        let program = Program::start(child, stderr);
        let address = loop {
            let line = program.line();
            let read: Option<Value> = serde_json::from_str(&line).ok();
            if let Some(address) = read.as_ref().and_then(|line| line["grpc"].as_str()) {
                break address.to_owned();
            }
        };
        let channel = Channel::from_shared(format!("http://{address}")).unwrap();
        Self { program, _folder: folder, channel: channel.connect().await.unwrap() }
    }

    /// Makes a call and returns its code: NOT_FOUND if the caller is authenticated and permitted.
    async fn ask(&self, token: &str) -> Code {
        let name = "applications/crm/tenants/Cust1".to_owned();
        let mut request = Request::new(pb::GetTenantRequest { name });
        request.set_timeout(TIMEOUT);
        let value = MetadataValue::try_from(format!("Bearer {token}")).unwrap();
        request.metadata_mut().insert("authorization", value);
        let answer = TenantServiceClient::new(self.channel.clone()).get_tenant(request).await;
        answer.map_or_else(|status| status.code(), |_| Code::Ok)
    }

    /// Returns the log.
    fn log(&self) -> String {
        self.program.lines.try_iter().collect::<Vec<_>>().join("\n")
    }
}

fn write_secret(file: &Path, text: &str) {
    fs::write(file, text).unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
}

#[tokio::test]
async fn a_projected_token_is_accepted_and_one_for_another_audience_rejected() {
    let mut server = ApiServer::start();
    let gateway = Gateway::start(&server).await;
    let token = server.token("tenant-gateway", 0);
    assert_eq!(gateway.ask(&token).await, Code::NotFound, "{}", gateway.log());
    let issuer = server.start["issuer"].as_str().unwrap().to_owned();
    for audience in [issuer.as_str(), "tenant-gateway-2", "vault"] {
        let other = server.token(audience, 0);
        assert_eq!(gateway.ask(&other).await, Code::Unauthenticated, "{audience}");
    }
}

#[tokio::test]
async fn the_key_of_the_cluster_rotates_without_a_failed_call() {
    let mut server = ApiServer::start();
    let gateway = Gateway::start(&server).await;
    let old = server.token("tenant-gateway", 0);
    assert_eq!(gateway.ask(&old).await, Code::NotFound, "{}", gateway.log());
    // The administrator publishes both keys before the new one signs.
    server.publish(&[0, 1]);
    let new = server.token("tenant-gateway", 1);
    assert_eq!(gateway.ask(&new).await, Code::NotFound, "{}", gateway.log());
    assert_eq!(gateway.ask(&old).await, Code::NotFound);
}

#[tokio::test]
async fn a_key_that_the_cluster_never_published_is_rejected() {
    let mut server = ApiServer::start();
    let gateway = Gateway::start(&server).await;
    let token = server.token("tenant-gateway", 1);
    assert_eq!(gateway.ask(&token).await, Code::Unauthenticated, "{}", gateway.log());
}
