//! A ticket with `before_response`, beside a secret of `OpenBao` with a token and a file audit device.
//!
//! This is a comparison without a budget: the file audit device does not wait for the disk.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::{
    http_caller::http_callers,
    load,
    options::Options,
    server::{Server, free_address, on_path},
    statistics::interleave,
    table::{Row, Table},
    tickets::{Gateway, Layers, cpu_row, throughput_row},
};

const IN_FLIGHT: usize = 32;

/// The pause between two attempts to initialize the server, and the number of attempts.
const START_PAUSE: Duration = Duration::from_millis(200);
const START_ATTEMPTS: u32 = 100;

/// Adds a comparison with `OpenBao`.
pub(crate) fn measure(runtime: &Runtime, options: &Options, table: &mut Table) {
    let what =
        format!("ticket, before_response against a KV secret of OpenBao, {IN_FLIGHT} in flight");
    let Some(program) = on_path(&["bao", "openbao"]) else {
        return table.push(Row::missing(what, "neither bao nor openbao is on PATH"));
    };
    eprintln!("openbao");
    let folder = tempfile::tempdir().unwrap();
    let address = free_address();
    let mut command = Command::new(program);
    command.args(["server", "-log-level=error"]);
    command.arg(format!("-config={}", write_config(&folder, address).display()));
    let server = Server::foreign(command, address);
    let token = runtime.block_on(initialize(address, folder.path()));
    let request: Arc<str> =
        format!("GET /v1/secret/crm HTTP/1.1\r\nHost: bao\r\nX-Vault-Token: {token}\r\n\r\n")
            .into();
    let gateway = Gateway::start(runtime, Layers::BeforeResponse);
    let bao_round = |length: Duration| {
        let callers = http_callers(address, &request, IN_FLIGHT);
        load::measure(runtime, server.pid(), length, callers)
    };
    gateway.round(runtime, options.round / 4, IN_FLIGHT);
    bao_round(options.round / 4);
    let audited = fs::metadata(folder.path().join("audit.log")).is_ok_and(|log| log.len() > 0);
    assert!(audited, "OpenBao does not write its audit log");
    let rounds = interleave(options.runs, 2, |contender| match contender {
        0 => gateway.round(runtime, options.round, IN_FLIGHT),
        _ => bao_round(options.round),
    });
    table.push(throughput_row(what.as_str(), &rounds[0], &rounds[1]));
    table.push(cpu_row(format!("{what}, processor time"), &rounds[0], &rounds[1]));
}

fn write_config(folder: &TempDir, address: SocketAddr) -> PathBuf {
    let path = folder.path().display();
    let text = format!(
        "storage \"file\" {{\n  path = \"{path}/data\"\n}}\n\
         listener \"tcp\" {{\n  address = \"{address}\"\n  tls_disable = true\n}}\n\
         api_addr = \"http://{address}\"\ndisable_mlock = true\n\
         audit \"file\" \"bench\" {{\n  options {{\n    file_path = \"{path}/audit.log\"\n  }}\n}}\n"
    );
    let file = folder.path().join("bao.hcl");
    fs::write(&file, text).unwrap();
    file
}

/// Initializes the server and stores a secret. Returns a token that may read it.
async fn initialize(address: SocketAddr, folder: &Path) -> String {
    let mut api = Api {
        client: reqwest::Client::builder().no_proxy().build().unwrap(),
        address,
        token: String::new(),
    };
    let shares = json!({ "secret_shares": 1, "secret_threshold": 1 });
    let keys = api.put("sys/init", &shares).await.unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    api.put("sys/unseal", &json!({ "key": text(&keys["keys"][0]) })).await.unwrap();
    api.token = text(&keys["root_token"]);
    // The server may need a moment until it is active.
    let mount = json!({ "type": "kv", "options": { "version": "1" } });
    for attempt in 1.. {
        match api.put("sys/mounts/secret", &mount).await {
            Ok(_) => break,
            Err(error) if attempt == START_ATTEMPTS => panic!("OpenBao is not active: {error}"),
            Err(_) => tokio::time::sleep(START_PAUSE).await,
        }
    }
    // Older releases do not read the audit device from the configuration. Later ones refuse this request.
    let audit_log = folder.join("audit.log");
    if !audit_log.exists() {
        let options = json!({ "file_path": audit_log.display().to_string() });
        let _ = api.put("sys/audit/file", &json!({ "type": "file", "options": options })).await;
    }
    let ticket = format!("7T:{}", "A".repeat(147));
    api.put("secret/crm", &json!({ "ticket": ticket })).await.unwrap();
    let policy = json!({ "policy": "path \"secret/crm\" { capabilities = [\"read\"] }" });
    api.put("sys/policies/acl/bench", &policy).await.unwrap();
    let wanted = json!({ "policies": ["bench"], "no_default_policy": true, "ttl": "1h" });
    let created = api.put("auth/token/create", &wanted).await.unwrap();
    text(&created["auth"]["client_token"])
}

/// The HTTP API.
struct Api {
    client: reqwest::Client,
    address: SocketAddr,
    token: String,
}

impl Api {
    /// Sends a request. Returns its answer, which is null if it is empty.
    async fn put(&self, path: &str, body: &Value) -> Result<Value, String> {
        let uri = format!("http://{}/v1/{path}", self.address);
        let request = self.client.put(uri).header("X-Vault-Token", &self.token).json(body);
        let response = request.send().await.map_err(|error| error.to_string())?;
        let status = response.status();
        let text = response.text().await.map_err(|error| error.to_string())?;
        if !status.is_success() {
            return Err(format!("{path}: {status} {text}"));
        }
        Ok(serde_json::from_str(&text).unwrap_or_default())
    }
}
