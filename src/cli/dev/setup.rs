//! The files of a run, and the demo data in its store.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    net::{Ipv4Addr, TcpListener},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use secrecy::{ExposeSecret as _, SecretString};
use superoffice_sandbox::{
    Sandbox,
    demo::{Demo, DemoUser},
};

use crate::{
    access::CallerMethod,
    app::Storage,
    cli::CommandError,
    config::LoadedWithSecrets,
    crypto::{DemoIssuer, Keyring, SystemRandom},
    domain::{CallerRecord, Consent, ConsentId, TenantName},
    ports::{
        Clock as _, ConsentLimits, ConsentStore as _, Random as _, SystemClock, TenantStore as _,
    },
};

/// The demo application's id.
pub(super) const APPLICATION: &str = "demo";

/// The caller in the printed example calls.
pub(super) const CALLER: &str = "demo-service";
/// The issuer and audience of its tokens. The host does not exist and is not needed, because the keys are in a file.
const ISSUER: &str = "https://issuer.demo.invalid";
const AUDIENCE: &str = "tenant-gateway";
/// The lifetime of its token: longer than a demonstration.
const TOKEN_LIFETIME: Duration = Duration::from_hours(12);

/// The lifetime of the printed consent link: longer than that of the token.
const LINK_LIFETIME: Duration = Duration::from_hours(24);

/// Options of `dev`.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_field_names, reason = "each is the name of an option")]
pub(in crate::cli) struct DevOptions {
    /// Port of the gRPC listener; without it, 50051 or, if that is in use, another port.
    #[arg(long, value_name = "PORT")]
    grpc_port: Option<u16>,
    /// Port of the consent pages; without it, 8080 or another port.
    #[arg(long, value_name = "PORT")]
    http_port: Option<u16>,
    /// Port of the admin pages; without it, 9090 or another port.
    #[arg(long, value_name = "PORT")]
    admin_port: Option<u16>,
    /// Port of the egress proxy for Web API calls; without it, 8081 or another port.
    #[arg(long, value_name = "PORT")]
    egress_port: Option<u16>,
}

/// The prepared consent of one person.
pub(super) struct ConsentLink<'a> {
    /// The person to ask for consent.
    pub(super) user: &'a DemoUser,
    /// The link to the consent page.
    pub(super) link: String,
}

/// Writes the files of the run, and returns the configuration file.
pub(super) fn write_files(
    folder: &Path,
    options: &DevOptions,
    sandbox: &Sandbox,
    demo: &Demo,
) -> Result<PathBuf, CommandError> {
    write_secret(&folder.join("client_secret"), &demo.client_secret)?;
    write_secret(&folder.join("private_key.xml"), &demo.private_key_xml)?;
    Keyring::generate(&folder.join("keyring.toml"), SystemClock.now())
        .map_err(CommandError::other)?;
    let forbidden = demo.tenants.last().map(|tenant| tenant.id.as_str()).unwrap_or_default();
    fs::write(folder.join("policy.cedar"), policy(forbidden))?;
    write_token(folder)?;
    let (grpc, admin) = (port(options.grpc_port, 50051), port(options.admin_port, 9090));
    // Links contain its address, so the port must be known before anything listens.
    let http = match port(options.http_port, 8080) {
        0 => TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port(),
        known => known,
    };
    let egress = port(options.egress_port, 8081);
    let text = format!(
        r#"
[grpc]
listen = "127.0.0.1:{grpc}"
reflection = true
[http]
listen = "127.0.0.1:{http}"
public_uri = "http://127.0.0.1:{http}"
[admin]
listen = "127.0.0.1:{admin}"
[egress]
listen = "127.0.0.1:{egress}"
[proxy]
[lifecycle]
drain_delay = "0s"
hard_deadline = "12s"
[policy]
file = "policy.cedar"
[[callers.jwt]]
issuer = "{ISSUER}"
audience = "{AUDIENCE}"
jwks_file = "jwks.json"
[[applications]]
id = "{APPLICATION}"
environment = "sod"
client_id = "{client_id}"
client_secret_file = "client_secret"
private_key_file = "private_key.xml"
redirect_uri = "http://127.0.0.1:{http}/oauth/callback"
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

/// Returns the demo policy: the caller may use tickets, users, grants and tenants, and may send GET requests as the
/// system user, but is denied the tickets of one tenant.
fn policy(forbidden: &str) -> String {
    format!(
        r#"@id("demo-service")
permit (
    principal == Caller::"{CALLER}",
    action in [
        Action::"issueSystemTicket", Action::"manageTenants", Action::"readAssociates",
        Action::"issueAccessToken", Action::"manageGrants", Action::"readGrants", Action::"callWebApiAsUser"
    ],
    resource in Application::"applications/{APPLICATION}"
);

@id("demo-service-reads")
permit (
    principal == Caller::"{CALLER}",
    action in [Action::"readTenants", Action::"readAudit"],
    resource in Gateway::"gateway"
);

@id("demo-service-calls")
permit (
    principal == Caller::"{CALLER}",
    action == Action::"callWebApiAsSystemUser",
    resource in Application::"applications/{APPLICATION}"
)
when {{ context.method == "GET" && context.path like "/api/v1/*" }};

@id("hands-off")
forbid (
    principal,
    action in [Action::"issueSystemTicket", Action::"callWebApi"],
    resource in Tenant::"applications/{APPLICATION}/tenants/{forbidden}"
);
"#
    )
}

/// Writes the keys and one token of a new issuer. The issuer's private key is dropped immediately.
fn write_token(folder: &Path) -> Result<(), CommandError> {
    let issuer = DemoIssuer::generate(ISSUER).map_err(CommandError::other)?;
    fs::write(folder.join("jwks.json"), issuer.jwks())?;
    let now = SystemClock.now();
    let token = issuer.token(CALLER, AUDIENCE, now, now + TOKEN_LIFETIME);
    write_secret(&folder.join("token"), token.expose_secret())
}

fn write_secret(file: &Path, secret: &str) -> Result<(), CommandError> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?;
    Ok(file.write_all(secret.as_bytes())?)
}

/// Returns the requested port, else the usual one, or 0 (any free port) if that is in use.
fn port(asked: Option<u16>, usual: u16) -> u16 {
    let free = || TcpListener::bind((Ipv4Addr::LOCALHOST, usual)).is_ok();
    asked.unwrap_or_else(|| if free() { usual } else { 0 })
}

/// Enrolls the tenants, and begins a consent for one person of the first tenant.
pub(super) async fn fill_store<'a>(
    loaded: &LoadedWithSecrets,
    demo: &'a Demo,
) -> Result<ConsentLink<'a>, CommandError> {
    let storage = Storage::open(&loaded.config).await?;
    let (store, now) = (&storage.store, SystemClock.now());
    let mut names = Vec::new();
    for tenant in &demo.tenants {
        let name = format!("applications/{APPLICATION}/tenants/{}", tenant.id);
        let name: TenantName = name.parse().map_err(CommandError::other)?;
        let labels = [("demo".to_owned(), "true".to_owned())].into();
        store.create(&name, &labels, now).await.map_err(CommandError::other)?;
        let token = SecretString::from(tenant.system_user_token.clone());
        store.set_system_user_token(&name, &token, now).await.map_err(CommandError::other)?;
        names.push(name);
    }
    let first = names.into_iter().next();
    let public_uri = loaded.config.http.as_ref().and_then(|http| http.public_uri.as_deref());
    let user = demo.users.iter().find(|user| !user.administrator);
    let (Some(TenantName { application, tenant }), Some(public_uri), Some(user)) =
        (first, public_uri, user)
    else {
        return Err(CommandError::other("the demo data has no person to act as"));
    };
    let consent = Consent {
        id: ConsentId::new(SystemRandom.bytes()),
        application,
        tenant: Some(tenant),
        caller: CallerRecord {
            id: CALLER.to_owned(),
            method: CallerMethod::Jwt.as_str().to_owned(),
            issuer: Some(ISSUER.to_owned()),
        },
        return_uri: None,
        redirect_uri: None,
        login_hint: None,
        enroll_system_user: false,
        expected_user_principal_name: Some(user.user_name.clone()),
        reason: "to try it out".to_owned(),
        create_time: now,
        expire_time: now + LINK_LIFETIME,
        outcome: None,
    };
    let limits = ConsentLimits { open_per_caller: 1, total: 1 };
    store.begin(&consent, limits).await.map_err(CommandError::other)?;
    storage.close().await;
    Ok(ConsentLink { user, link: format!("{public_uri}/consent/{}", consent.id) })
}
