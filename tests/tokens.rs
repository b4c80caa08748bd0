//! Tests of tokens with every algorithm, created by `PyJWT`, against the real program.
//!
//! Needs Python with `PyJWT`, so `cargo test` leaves it out (`test = false`). `tools/check-tokens` installs what it
//! needs and runs it, and `.ci/run` runs that.
#![cfg(test)]

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Child, Command, Stdio},
};

use serde::Deserialize;
use serde_json::Value;
use tenant_gateway::{
    crypto::Keyring,
    grpc::pb::{self, tenant_service_client::TenantServiceClient},
    ports::{Clock as _, SystemClock},
};
use tonic::{Code, Request, metadata::MetadataValue, transport::Channel};

/// The tokens of `tests/tokens/make.py`, by their description.
#[derive(Deserialize)]
struct Tokens {
    good: BTreeMap<String, String>,
    bad: BTreeMap<String, String>,
}

/// A folder with a key set, tokens, and the configuration of a gateway that accepts them.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let python = std::env::var("TOKENS_PYTHON")
            .expect("TOKENS_PYTHON is not set: run this with tools/check-tokens");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tokens/make.py");
        let made = Command::new(python).arg(script).arg(folder.path()).status().unwrap();
        assert!(made.success());
        let file = |name: &str| folder.path().join(name);
        fs::write(file("secret"), "client-secret-of-the-tests").unwrap();
        fs::write(file("key.pem"), include_str!("fixtures/keys/rsa-2048.pkcs8.pem")).unwrap();
        for secret in ["secret", "key.pem"] {
            fs::set_permissions(file(secret), fs::Permissions::from_mode(0o600)).unwrap();
        }
        Keyring::generate(&file("keyring.toml"), SystemClock.now()).unwrap();
        let policy = "permit (principal == Caller::\"app:sync\", action, resource);";
        fs::write(file("policy.cedar"), policy).unwrap();
        Self(folder)
    }

    /// Writes the configuration, with this key set.
    fn configure(&self, jwks: &str, more: &str) {
        let config = format!(
            "[grpc]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n\
             [policy]\nfile = \"policy.cedar\"\n[lifecycle]\ndrain_delay = \"0s\"\n\
             [[callers.jwt]]\nissuer = \"https://issuer.test\"\naudiences = [\"old-name\", \"new-name\"]\n\
             caller_claim = \"azp\"\ncaller_prefix = \"app:\"\nleeway = \"1m\"\njwks_file = \"{jwks}\"\n{more}\
             [[applications]]\nid = \"crm\"\nenvironment = \"sod\"\nclient_id = \"0123\"\n\
             client_secret_file = \"secret\"\nprivate_key_file = \"key.pem\"\n"
        );
        fs::write(self.0.path().join("gateway.toml"), config).unwrap();
    }

    fn tokens(&self) -> Tokens {
        serde_json::from_slice(&fs::read(self.0.path().join("tokens.json")).unwrap()).unwrap()
    }

    fn program(&self, command: &[&str]) -> Command {
        let mut program = Command::new(env!("CARGO_BIN_EXE_tenant-gateway"));
        program.args(command).arg("--config").arg(self.0.path().join("gateway.toml"));
        program
    }

    /// Starts the gateway, and waits until it serves.
    async fn serve(&self) -> Gateway {
        let mut child = self.program(&["serve"]).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| {
                let line: Value = serde_json::from_str(&line).ok()?;
                Some(line.get("grpc")?.as_str()?.to_owned())
            })
            .expect("the gateway does not serve");
        std::thread::spawn(move || lines.for_each(drop));
        let channel = Channel::from_shared(format!("http://{address}")).unwrap();
        Gateway { child, channel: channel.connect().await.unwrap() }
    }
}

struct Gateway {
    child: Child,
    channel: Channel,
}

impl Gateway {
    /// Makes a call and returns its code: NOT_FOUND if the caller is authenticated and permitted.
    async fn ask(&self, token: &str) -> Code {
        let name = "applications/crm/tenants/Cust1".to_owned();
        let mut request = Request::new(pb::GetTenantRequest { name });
        let value = MetadataValue::try_from(format!("Bearer {token}")).unwrap();
        request.metadata_mut().insert("authorization", value);
        let answer = TenantServiceClient::new(self.channel.clone()).get_tenant(request).await;
        answer.map_or_else(|status| status.code(), |_| Code::Ok)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn tokens_of_every_algorithm_are_accepted_and_wrong_ones_are_not() {
    let files = Files::new();
    files.configure("jwks.json", "");
    let gateway = files.serve().await;
    let Tokens { good, bad } = files.tokens();
    assert!(good.len() >= 13 && bad.len() >= 15, "{} and {}", good.len(), bad.len());
    for (what, token) in &good {
        assert_eq!(gateway.ask(token).await, Code::NotFound, "{what}");
    }
    for (what, token) in &bad {
        assert_eq!(gateway.ask(token).await, Code::Unauthenticated, "{what}");
    }
}

#[tokio::test]
async fn only_the_algorithms_that_are_configured_are_accepted() {
    let files = Files::new();
    files.configure("jwks.json", "algorithms = [\"ES512\", \"PS384\"]\n");
    let gateway = files.serve().await;
    for (what, token) in files.tokens().good {
        let accepted = matches!(what.as_str(), "ES512" | "PS384");
        let wanted = if accepted { Code::NotFound } else { Code::Unauthenticated };
        assert_eq!(gateway.ask(&token).await, wanted, "{what}");
    }
}

#[tokio::test]
async fn check_reports_an_issuer_with_unsupported_keys_only_and_its_tokens_are_refused() {
    let files = Files::new();
    files.configure("unsupported.json", "");
    let checked = files.program(&["check", "--offline"]).output().unwrap();
    let text = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert_eq!(checked.status.code(), Some(1), "{text}");
    for found in ["https://issuer.test", "Ed448", "secp256k1", "RS256"] {
        assert!(text.contains(found), "{found} is not in {text}");
    }
    let gateway = files.serve().await;
    for (what, token) in files.tokens().good {
        assert_eq!(gateway.ask(&token).await, Code::Unauthenticated, "{what}");
    }
}
