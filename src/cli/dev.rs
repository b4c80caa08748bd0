//! `dev`: sandbox and gateway in one process, with demo data that goes when it ends.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use secrecy::SecretString;
use superoffice_sandbox::{
    Options, Sandbox,
    demo::{self, Demo},
};

use super::{Failed, output::print, serve};
use crate::{
    app::Storage,
    config::{Config, LoadedWithSecrets},
    crypto::Keyring,
    domain::TenantName,
    lifecycle::StopSignals,
    ports::{Clock as _, StoreWatch as _, SystemClock, TenantStore as _},
    telemetry::{LogFormat, start_logging},
};

/// The demo application's id.
const APPLICATION: &str = "demo";

/// Calls, and what goes wrong; the banner says what else one wants to know.
const LOG_FILTER: &str = "warn,tenant_gateway::grpc=info";

/// Options of `dev`.
#[derive(Debug, clap::Args)]
pub(super) struct DevOptions {
    /// Where gRPC listens; if it is taken and was not asked for, another port is chosen.
    #[arg(long, value_name = "PORT")]
    grpc_port: Option<u16>,
    /// Where the admin pages are; likewise.
    #[arg(long, value_name = "PORT")]
    admin_port: Option<u16>,
}

pub(super) async fn dev(options: &DevOptions) -> Result<(), Failed> {
    let filter = crate::config::environment_filter().unwrap_or_else(|| LOG_FILTER.to_owned());
    let _log = start_logging(LogFormat::Pretty, &filter)
        .map_err(|error| Failed::Usage(error.to_string()))?;
    // Before there is a folder that would be left behind.
    let signals = StopSignals::listen()?;
    let sandbox = Sandbox::start(Options::default()).await.map_err(Failed::other)?;
    let demo = demo::populate(sandbox.control()).map_err(Failed::other)?;
    let folder = tempfile::Builder::new().prefix("tenant-gateway-dev-").tempdir()?;
    let file = write_files(folder.path(), options, &sandbox, &demo)?;
    let loaded = Config::load_with_secrets(&file)?;
    enroll(&loaded, &demo).await?;
    let served = serve::serve_loaded(loaded, signals, None, |grpc, admin| {
        print(&banner(grpc, admin, &sandbox, &demo))
    })
    .await;
    sandbox.shutdown().await;
    folder.close()?;
    served
}

fn write_files(
    folder: &Path,
    options: &DevOptions,
    sandbox: &Sandbox,
    demo: &Demo,
) -> Result<std::path::PathBuf, Failed> {
    write_secret(&folder.join("client_secret"), &demo.client_secret)?;
    write_secret(&folder.join("private_key.xml"), &demo.private_key_xml)?;
    Keyring::generate(&folder.join("keyring.toml"), SystemClock.now()).map_err(Failed::other)?;
    let (grpc, admin) = (port(options.grpc_port, 50051), port(options.admin_port, 9090));
    let text = format!(
        r#"
[grpc]
listen = "127.0.0.1:{grpc}"
reflection = true
[admin]
listen = "127.0.0.1:{admin}"
[lifecycle]
drain_delay = "0s"
hard_deadline = "12s"
[callers]
insecure_anonymous = true
[[applications]]
id = "{APPLICATION}"
environment = "sod"
client_id = "{client_id}"
client_secret_file = "client_secret"
private_key_file = "private_key.xml"
login_uri = "{login}"
allowed_api_hosts = ["127.0.0.1"]
"#,
        client_id = demo.client_id,
        login = sandbox.login_uri(),
    );
    let file = folder.join("gateway.toml");
    fs::write(&file, text)?;
    Ok(file)
}

fn write_secret(file: &Path, secret: &str) -> Result<(), Failed> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?;
    Ok(file.write_all(secret.as_bytes())?)
}

/// The port asked for; else the usual one, or any if that is taken.
fn port(asked: Option<u16>, usual: u16) -> u16 {
    let free = || TcpListener::bind((Ipv4Addr::LOCALHOST, usual)).is_ok();
    asked.unwrap_or_else(|| if free() { usual } else { 0 })
}

async fn enroll(loaded: &LoadedWithSecrets, demo: &Demo) -> Result<(), Failed> {
    let storage = Storage::open(&loaded.config).await?;
    let (store, now) = (&storage.store, SystemClock.now());
    for tenant in &demo.tenants {
        let name = format!("applications/{APPLICATION}/tenants/{}", tenant.id);
        let name: TenantName = name.parse().map_err(Failed::other)?;
        let labels = [("demo".to_owned(), "true".to_owned())].into();
        store.create(&name, &labels, now).await.map_err(Failed::other)?;
        let token = SecretString::from(tenant.system_user_token.clone());
        store.set_system_user_token(&name, &token, now).await.map_err(Failed::other)?;
    }
    store.close().await;
    Ok(())
}

fn banner(grpc: SocketAddr, admin: SocketAddr, sandbox: &Sandbox, demo: &Demo) -> String {
    let of = |index: usize| {
        let tenant = demo.tenants.get(index);
        tenant.map(|t| (t.id.as_str(), format!("{:?}", t.state))).unwrap_or_default()
    };
    let ((first, first_state), (second, second_state), (third, third_state)) =
        (of(0), of(1), of(2));
    let issue = |tenant: &str| {
        format!(
            "  grpcurl -plaintext -d '{{\"tenant\":\"applications/{APPLICATION}/tenants/{tenant}\"}}' {grpc} \
             tenantgateway.v1.TokenService/IssueSystemTicket"
        )
    };
    format!(
        "Tenant Gateway with a simulated SuperOffice. Ctrl-C ends both, and nothing is kept.
  gRPC     {grpc} (plaintext, reflection, every caller is anonymous and permitted)
  admin    http://{admin}/readyz and http://{admin}/metrics
  sandbox  {login} (login), {control} (control)
  tenants  {first} {first_state}, {second} {second_state}, {third} {third_state}
In another terminal:
  # a ticket
{a}
  # no ticket, and why
{b}
  # what there is to call, and whether it serves
  grpcurl -plaintext {grpc} list
  grpcurl -plaintext {grpc} describe tenantgateway.v1.TokenService
  grpcurl -plaintext {grpc} grpc.health.v1.Health/Check
  # stop handing out tickets of a tenant
  grpcurl -plaintext -d '{{\"name\":\"applications/{APPLICATION}/tenants/{first}\"}}' {grpc} tenantgateway.v1.TenantService/DisableTenant",
        login = sandbox.login_uri(),
        control = sandbox.control_uri(),
        a = issue(first),
        b = issue(second),
    )
}
