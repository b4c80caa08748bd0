//! Test of SuperOffice's own client library, unchanged, through the gateway with another base address.
//!
//! Needs Node.js and a package from npm, so `cargo test` leaves it out (`test = false`). `tools/check-client` installs
//! it and runs this, and `.ci/run` runs that.
#![cfg(test)]

#[expect(dead_code, unused_imports, reason = "shared with all tests of this folder")]
mod support;

use std::{
    net::SocketAddr,
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
};

use serde_json::{Value, json};
use superoffice_sandbox::ApiHost;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use self::support::{
    CLIENT_SECRET, Options,
    api_host::{address, set_tenant_api},
    binary::Process,
    callers::AuthenticatedGateway,
};

const POLICY: &str = r#"
permit (principal == Caller::"admin", action, resource);
permit (principal == Caller::"jobs", action in Action::"callWebApi", resource)
when { context.method == "POST" && context.path like "/api/v1/agents/*" };
"#;

/// A relay before the sandbox's API host that records the requests.
struct Relay {
    address: SocketAddr,
    arrived: Arc<Mutex<Vec<u8>>>,
    _serving: JoinSet<()>,
}

impl Relay {
    async fn start(to: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, arrived) = (listener.local_addr().unwrap(), Arc::<Mutex<Vec<u8>>>::default());
        let (mut serving, kept) = (JoinSet::new(), Arc::clone(&arrived));
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((caller, _)) = listener.accept().await {
                let host = TcpStream::connect(&to).await.unwrap();
                connections.spawn(pass_on(caller, host, Arc::clone(&kept)));
            }
        });
        Self { address, arrived, _serving: serving }
    }

    /// Returns the bytes that arrived since the last call.
    fn arrived(&self) -> String {
        String::from_utf8(std::mem::take(&mut self.arrived.lock().unwrap())).unwrap()
    }
}

async fn pass_on(caller: TcpStream, host: TcpStream, kept: Arc<Mutex<Vec<u8>>>) {
    let ((mut from, mut back), (mut answers, mut to)) = (caller.into_split(), host.into_split());
    let there = async {
        let mut bytes = vec![0; 64 * 1024];
        while let Ok(read @ 1..) = from.read(&mut bytes).await {
            kept.lock().unwrap().extend(&bytes[..read]);
            to.write_all(&bytes[..read]).await.unwrap();
        }
    };
    tokio::select! {
        () = there => {}
        _ = copy(&mut answers, &mut back) => {}
    }
}

/// Runs the library and returns its result.
async fn run(given: Value) -> Value {
    let modules = std::env::var("SUPEROFFICE_CLIENT").expect("run this with tools/check-client");
    let mut node = Command::new("node");
    node.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/client/client.mjs"));
    node.args([modules, given.to_string()]);
    let said = Process::start(node).finished().await.succeeded();
    serde_json::from_str(&said).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn superoffices_own_client_library_works_with_another_base_address_and_no_credential() {
    let extra_config = "[egress]\nlisten = \"127.0.0.1:0\"\n".to_owned();
    let guarded =
        AuthenticatedGateway::with(POLICY, Options { extra_config, ..Options::default() }).await;
    let sandbox = &guarded.world.sandbox;
    let api = sandbox.api_uri(ApiHost::A);
    let relay = Relay::start(api.strip_prefix("http://").unwrap().to_owned()).await;
    guarded.enroll("admin", "Cust1").await;
    set_tenant_api(sandbox, "Cust1", &format!("http://{}/Cust1/api", relay.address));
    let (person, _) = guarded.person("admin", "Cust1").await;
    let people = sandbox.people("Cust1").unwrap();
    let ids: Vec<_> = people.associates.keys().copied().take(3).collect();
    let token = guarded.token("jobs");
    let base = format!("http://{}/crm-sync/Cust1", address(guarded.world.gateway()));
    let as_person = format!("associates/{person}");
    let bearer = format!("Bearer {token}");
    relay.arrived();
    for (given, scheme) in [
        (json!({ "token": token, "headers": { "Gateway-Act-As": "system" } }), "SOTicket"),
        (json!({ "token": token, "headers": { "Gateway-Act-As": as_person } }), "Bearer"),
        // The library gets its own credentials, which must not reach SuperOffice.
        (
            json!({
                "ticket": "of-the-library",
                "headers": { "Gateway-Act-As": as_person, "Proxy-Authorization": bearer }
            }),
            "Bearer",
        ),
    ] {
        let mut given = given;
        given["base"] = base.clone().into();
        given["associates"] = json!(ids);
        let came = run(given).await;
        let first = &people.associates[&ids[0]];
        assert_eq!(came["one"]["associateId"], ids[0]);
        assert_eq!(came["one"]["fullName"], people.full_name(first));
        assert_eq!(came["list"], json!(ids));
        let denied = json!({ "status": 403, "reason": "PATH_NOT_ALLOWED" });
        assert_eq!(came["denied"], denied);
        let arrived = relay.arrived();
        let count = |text: &str| arrived.matches(text).count();
        assert_eq!(count("POST /Cust1/api/v1/Agents/Associate/"), 2, "{arrived}");
        assert_eq!(count(&format!("\r\nauthorization: {scheme} ")), 2, "{arrived}");
        let secrets = if scheme == "SOTicket" { 2 } else { 0 };
        assert_eq!(count(&format!("\r\nso-apptoken: {CLIENT_SECRET}")), secrets, "{arrived}");
        assert!(arrived.contains("user-agent: SO-TS-WebApi/"), "{arrived}");
        for theirs in [&*token, "of-the-library", "gateway-", "proxy-"] {
            assert!(!arrived.contains(theirs), "{theirs}: {arrived}");
        }
    }
}
