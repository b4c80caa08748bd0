//! Tests of client libraries that retry unsafe calls through the gateway: one call must be executed once at
//! SuperOffice.
//!
//! Needs Python, Node.js, Go and packages, so `cargo test` leaves it out (`test = false`). `tools/check-retries`
//! installs them and runs this, and `.ci/run` runs that.
#![cfg(test)]

#[expect(dead_code, unused_imports, reason = "shared with all tests of this folder")]
mod support;

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use futures_util::future::join_all;
use prost::Message as _;
use serde_json::Value;
use superoffice_sandbox::{Endpoint, Fault, FaultScope};
use tenant_gateway::grpc::pb;

use self::support::{
    Options, World,
    api_host::{address, set_tenant_api},
    binary::Process,
    get, name,
};

const ORDER: &str = "api/v1/Agents/Associate/GetAssociateList";

/// Longer than the time-out of the gateway in these tests.
const SLOW: Duration = Duration::from_millis(1500);
const CONFIG: &str = "[egress]\nlisten = \"127.0.0.1:0\"\n[web_api]\ntimeout = \"1s\"\n";

const OVER_HTTP: [&str; 4] = ["urllib3", "requests", "requests as documented", "retryablehttp"];
const OVER_GRPC: [&str; 2] = ["grpcio", "grpc-js"];

/// Sends one unsafe call to a tenant with a client library, and returns the result.
async fn order(world: &World, tenant: &str, library: &str) -> String {
    let home = std::env::var("RETRYING_CLIENTS").expect("run this with tools/check-retries");
    let (home, scripts) =
        (PathBuf::from(home), Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/retries"));
    let uri = format!("http://{}/crm-sync/{tenant}/{ORDER}", address(world.gateway()));
    let grpc = world.gateway().grpc_address.to_string();
    let call = pb::CallRequest {
        tenant: name(tenant),
        method: "POST".to_owned(),
        path: format!("/{ORDER}"),
        body: br#"{"associateIds": [1]}"#.to_vec(),
        ..Default::default()
    };
    let call = BASE64_STANDARD.encode(call.encode_to_vec());
    let mut command = match library {
        "retryablehttp" => {
            let mut command = Command::new(home.join("retryablehttp"));
            command.arg(uri);
            command
        }
        "grpc-js" => {
            let mut command = Command::new("node");
            command.arg(scripts.join("client.mjs")).arg(home).args([grpc, call]);
            command
        }
        _ => {
            let mut command = Command::new(home.join("venv/bin/python"));
            command.arg(scripts.join("clients.py")).args([library, &uri, &grpc, &call]);
            command
        }
    };
    // Calls bypass any HTTP proxy.
    command.env("no_proxy", "127.0.0.1").env_remove("http_proxy").env_remove("HTTP_PROXY");
    let said = Process::start(command).finished().await.succeeded();
    let said: Value = serde_json::from_str(&said).unwrap();
    said["ended"].as_str().unwrap().to_owned()
}

/// Returns the number of calls that reached the gateway.
async fn calls(world: &World) -> u64 {
    let page = get(world.gateway().admin_address, "/metrics").await;
    let of_calls = |line: &&str| {
        line.contains("requests_total{")
            && (line.contains("WebApiService") || line.contains("/api/{path}"))
    };
    let numbers = page.lines().filter(of_calls).map(|line| line.rsplit(' ').next().unwrap());
    numbers.map(|number| number.parse::<u64>().unwrap()).sum()
}

/// Starts a gateway. Each library has its own tenant, so that its calls can be counted.
async fn world(tenants: impl Iterator<Item = String>) -> World {
    let extra_config = CONFIG.to_owned();
    let world = World::with(Options { extra_config, ..Options::default() }).await;
    for tenant in tenants {
        world.enroll(&tenant).await;
    }
    world
}

fn tenant(index: usize) -> String {
    format!("Cust{}", index + 1)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_call_is_executed_once_with_any_result_and_library() {
    let world = world((0..OVER_HTTP.len() + OVER_GRPC.len()).map(tenant)).await;
    let broken = ["504"; 4];
    for (fault, over_http, over_grpc) in [
        (Fault::delay(SLOW), broken, ["DEADLINE_EXCEEDED"; 2]),
        (Fault::after_effect(Fault::Hang), broken, ["DEADLINE_EXCEEDED"; 2]),
        (Fault::after_effect(Fault::Close), broken, ["ABORTED"; 2]),
        (Fault::after_effect(Fault::Reset), broken, ["ABORTED"; 2]),
        // The head was forwarded. Each library reports the truncated body differently.
        (
            Fault::after_effect(Fault::Truncate),
            ["ProtocolError", "ChunkedEncodingError", "ChunkedEncodingError", "200"],
            ["ABORTED"; 2],
        ),
    ] {
        let what = format!("{fault:?}");
        world.sandbox.inject(Endpoint::AssociateAgent, fault, FaultScope::always()).unwrap();
        world.sandbox.reset_counts();
        let libraries = || OVER_HTTP.into_iter().chain(OVER_GRPC).enumerate();
        let wanted: Vec<_> = over_http.into_iter().chain(over_grpc).collect();
        let all =
            libraries().map(async |(index, library)| order(&world, &tenant(index), library).await);
        let ended = join_all(all).await;
        assert_eq!(ended, wanted, "{what}");
        for (index, library) in libraries() {
            let orders = world.sandbox.calls_for(Endpoint::AssociateAgent, &tenant(index));
            assert_eq!(orders, 1, "{library}: {what}");
        }
        world.sandbox.clear_faults();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_libraries_retry_a_call_that_was_not_sent() {
    let world = world(std::iter::empty()).await;
    // The port is closed after this.
    let nowhere = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    set_tenant_api(&world.sandbox, "Cust1", &format!("http://{nowhere}/Cust1/api"));
    world.enroll("Cust1").await;
    let libraries = ["urllib3", "requests", "retryablehttp", "grpcio", "grpc-js"];
    let ended =
        join_all(libraries.map(async |library| order(&world, "Cust1", library).await)).await;
    assert_eq!(ended, ["503", "503", "503", "UNAVAILABLE", "UNAVAILABLE"]);
    assert_eq!(calls(&world).await, 3 * libraries.len() as u64);
}
