//! A sandbox, a gateway and its clients.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use superoffice_sandbox as sandbox;
use superoffice_sandbox::{
    Sandbox,
    people::{Associate, People, Person},
};
use tenant_gateway::{
    app::{Gateway, Running, Runtime, ShutdownOutcome, StartError},
    config::Config,
    crypto::Keyring,
    grpc::pb::{
        self, application_service_client::ApplicationServiceClient,
        audit_service_client::AuditServiceClient, tenant_service_client::TenantServiceClient,
        token_service_client::TokenServiceClient,
    },
    ports::{Clock as _, ManualClock, SystemClock},
};
use tonic::transport::{Channel, Endpoint};

/// The application of every test.
pub(crate) const APPLICATION: &str = "crm-sync";
pub(crate) const CLIENT_ID: &str = "0123456789abcdef0123456789abcdef";
pub(crate) const CLIENT_SECRET: &str = "client-secret-of-the-tests-7f3a";
pub(crate) const PRIVATE_KEY: &str = include_str!("../../fixtures/keys/rsa-2048.pkcs8.pem");
pub(crate) const PUBLIC_KEY: &str = include_str!("../../fixtures/keys/public.pem");

/// The settings that a test changes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Options {
    /// Text to add to the configuration.
    pub(crate) extra_config: String,
    /// Text to add to `[[applications]]`.
    pub(crate) extra_application: String,
    /// Additional secret files, with their contents.
    pub(crate) files: Vec<(&'static str, &'static str)>,
    /// Caller sections instead of anonymous access: `[[callers.jwt]]`, `[callers.mtls]`.
    pub(crate) callers: Option<String>,
    /// The policy; without it, everything is permitted.
    pub(crate) policy: Option<String>,
    /// Text to add to `[grpc]`.
    pub(crate) grpc: Option<String>,
    /// Text for `[lifecycle]`; without it, there is no drain delay.
    pub(crate) lifecycle: Option<String>,
}

/// The environment of a test.
pub(crate) struct World {
    pub(crate) sandbox: Sandbox,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) folder: tempfile::TempDir,
    gateway: Option<Running>,
    moved: Duration,
}

impl World {
    /// Starts the usual environment without tenants.
    pub(crate) async fn new() -> Self {
        Self::with(Options::default()).await
    }

    pub(crate) async fn with(options: Options) -> Self {
        let mut world = Self::with_files(options).await;
        world.start().await.unwrap();
        world
    }

    /// Starts an environment with a login time-out of 1.5 s, for faults that cause time-outs.
    pub(crate) async fn with_short_timeout() -> Self {
        let extra_config = "[login]\ntimeout = \"1500ms\"".to_owned();
        Self::with(Options { extra_config, ..Default::default() }).await
    }

    /// Adds a user to a tenant. The user can sign in.
    pub(crate) fn add_user(&self, tenant: &str, id: u32, user_name: &str, role_id: u32) {
        let associate = Associate {
            id,
            name: format!("U{id}"),
            user_name: user_name.to_owned(),
            person_id: id,
            group_id: 2,
            role_id,
            can_login: true,
            ..Associate::default()
        };
        let person = Person { id, email: user_name.to_owned(), ..Person::default() };
        let change = |people: &mut People| {
            people.associates.insert(id, associate);
            people.persons.insert(id, person);
            Ok(())
        };
        self.sandbox.change_people(tenant, change).unwrap();
    }

    /// Prepares an environment without starting its gateway.
    pub(crate) async fn with_files(options: Options) -> Self {
        let sandbox = sandbox().await;
        let folder = tempfile::tempdir().unwrap();
        write_files(folder.path(), &sandbox, &options);
        let clock = Arc::new(ManualClock::new(SystemClock.now()));
        Self { sandbox, clock, folder, gateway: None, moved: Duration::ZERO }
    }

    /// Starts the gateway with the current files.
    pub(crate) async fn start(&mut self) -> Result<(), StartError> {
        let loaded = Config::load_with_secrets(&self.config_file())?;
        let clock = self.clock.clone();
        let surroundings = Runtime { clock, ..Runtime::system() };
        self.gateway = Some(Gateway::start(loaded.config, &loaded.secrets, surroundings).await?);
        Ok(())
    }

    /// Stops the gateway gracefully.
    pub(crate) async fn stop(&mut self) -> ShutdownOutcome {
        let gateway = self.gateway.take().unwrap();
        gateway.stop_token().cancel();
        gateway.wait().await
    }

    pub(crate) async fn restart(&mut self) {
        assert_eq!(self.stop().await, ShutdownOutcome::Clean);
        self.start().await.unwrap();
    }

    /// Restarts the gateway with one part of its configuration replaced.
    pub(crate) async fn reconfigure(&mut self, from: &str, to: &str) {
        assert_eq!(self.stop().await, ShutdownOutcome::Clean);
        let text = fs::read_to_string(self.config_file()).unwrap();
        assert!(text.contains(from), "not in the configuration: {from}");
        fs::write(self.config_file(), text.replace(from, to)).unwrap();
        self.start().await.unwrap();
    }

    pub(crate) fn gateway(&self) -> &Running {
        self.gateway.as_ref().unwrap()
    }

    pub(crate) fn config_file(&self) -> PathBuf {
        self.folder.path().join("gateway.toml")
    }

    /// Advances the clocks of the gateway and of SuperOffice.
    pub(crate) fn advance(&mut self, by: Duration) {
        self.moved += by;
        self.sandbox.shift_clock(i64::try_from(self.moved.as_secs()).unwrap());
        self.clock.advance(by);
    }

    /// Returns the time of the gateway's clock in Unix seconds.
    pub(crate) fn clock_seconds(&self) -> i64 {
        self.clock.now().as_second()
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        let uri = format!("http://{}", self.gateway().grpc_address);
        Channel::from_shared(uri).unwrap()
    }

    pub(crate) async fn channel(&self) -> Channel {
        self.endpoint().connect().await.unwrap()
    }

    pub(crate) async fn tokens(&self) -> TokenServiceClient<Channel> {
        TokenServiceClient::new(self.channel().await)
    }

    pub(crate) async fn tenants(&self) -> TenantServiceClient<Channel> {
        TenantServiceClient::new(self.channel().await)
    }

    pub(crate) async fn applications(&self) -> ApplicationServiceClient<Channel> {
        ApplicationServiceClient::new(self.channel().await)
    }

    pub(crate) async fn audits(&self) -> AuditServiceClient<Channel> {
        AuditServiceClient::new(self.channel().await)
    }

    /// Creates a tenant at SuperOffice, and authorizes the application there.
    pub(crate) fn make_tenant(&self, tenant: &str) -> String {
        let new = sandbox::NewTenant {
            id: tenant.to_owned(),
            company_name: format!("Company of {tenant}"),
            ..Default::default()
        };
        self.sandbox.add_tenant(new).unwrap();
        self.sandbox.authorize(CLIENT_ID, tenant).unwrap()
    }

    /// Creates a tenant at SuperOffice and enrolls it at the gateway.
    pub(crate) async fn enroll(&self, tenant: &str) {
        let token = self.make_tenant(tenant);
        self.create(tenant).await;
        self.set_token(tenant, &token).await;
    }

    /// Adds a tenant to the gateway, without a token.
    pub(crate) async fn create(&self, tenant: &str) -> pb::Tenant {
        let create = pb::CreateTenantRequest {
            parent: format!("applications/{APPLICATION}"),
            tenant_id: tenant.to_owned(),
            tenant: None,
        };
        self.tenants().await.create_tenant(create).await.unwrap().into_inner().tenant.unwrap()
    }

    pub(crate) async fn tenant(&self, tenant: &str) -> pb::Tenant {
        let get = pb::GetTenantRequest { name: super::name(tenant) };
        self.tenants().await.get_tenant(get).await.unwrap().into_inner().tenant.unwrap()
    }

    pub(crate) async fn set_token(&self, tenant: &str, token: &str) {
        let name = super::name(tenant);
        let set = pb::SetSystemUserTokenRequest { name, system_user_token: token.to_owned() };
        self.tenants().await.set_system_user_token(set).await.unwrap();
    }

    /// Requests a ticket of a tenant.
    pub(crate) async fn ticket(&self, tenant: &str) -> Result<Ticket, tonic::Status> {
        issue_with(&mut self.tokens().await, super::issue(tenant)).await
    }

    /// Returns a value of the metrics page, by its name without the prefix.
    pub(crate) async fn metric(&self, name: &str) -> i64 {
        let page = super::get(self.gateway().admin_address, "/metrics").await;
        let wanted = format!("tenantgateway_{name} ");
        let value = page.lines().find_map(|line| line.strip_prefix(&wanted));
        value.unwrap_or_else(|| panic!("no {name} in {page}")).parse().unwrap()
    }

    /// Returns the number of tickets that SuperOffice has issued.
    pub(crate) fn exchanges(&self) -> u64 {
        self.sandbox.exchanges().issued
    }
}

/// A ticket whose `Debug` output omits the secret.
#[derive(Clone, PartialEq)]
pub(crate) struct Ticket(pb::SystemTicket);

impl std::fmt::Debug for Ticket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.credential_id)
    }
}

impl std::ops::Deref for Ticket {
    type Target = pb::SystemTicket;

    fn deref(&self) -> &pb::SystemTicket {
        &self.0
    }
}

/// Requests a ticket.
pub(crate) async fn issue_with(
    client: &mut TokenServiceClient<Channel>,
    request: pb::IssueSystemTicketRequest,
) -> Result<Ticket, tonic::Status> {
    let issued = client.issue_system_ticket(request).await?;
    Ok(Ticket(issued.into_inner().ticket.unwrap()))
}

/// Starts a simulated SuperOffice that knows the application of the tests.
pub(crate) async fn sandbox() -> Sandbox {
    let sandbox = Sandbox::start(sandbox::Options::default()).await.unwrap();
    let application = sandbox::NewApplication {
        name: "Søndag Sync v1.2".to_owned(),
        client_id: CLIENT_ID.to_owned(),
        client_secret: CLIENT_SECRET.to_owned(),
        public_key: PUBLIC_KEY.to_owned(),
    };
    sandbox.add_application(application).unwrap();
    sandbox
}

/// Writes configuration, secrets and keyring of a gateway that uses this sandbox.
pub(crate) fn write_files(folder: &Path, sandbox: &Sandbox, options: &Options) {
    let write_secret = |file: &str, text: &str| {
        fs::write(folder.join(file), text).unwrap();
        let owner_only = fs::Permissions::from_mode(0o600);
        fs::set_permissions(folder.join(file), owner_only).unwrap();
    };
    write_secret("client_secret", CLIENT_SECRET);
    write_secret("private_key.pem", PRIVATE_KEY);
    for (file, text) in &options.files {
        write_secret(file, text);
    }
    Keyring::generate(&folder.join("keyring.toml"), SystemClock.now()).unwrap();
    if let Some(policy) = &options.policy {
        fs::write(folder.join("policy.cedar"), policy).unwrap();
    }
    let lifecycle = options.lifecycle.as_deref();
    let lifecycle = lifecycle.unwrap_or("drain_delay = \"0s\"\nhard_deadline = \"15s\"");
    let text = format!(
        r#"
[grpc]
listen = "127.0.0.1:0"
reflection = true
{grpc}
[admin]
listen = "127.0.0.1:0"
[lifecycle]
{lifecycle}
{callers}
{policy}
{extra_config}
[[applications]]
id = "{APPLICATION}"
environment = "sod"
client_id = "{CLIENT_ID}"
client_secret_file = "client_secret"
private_key_file = "private_key.pem"
login_uri = "{login}"
allowed_api_hosts = ["127.0.0.1"]
{extra_application}
"#,
        callers = options.callers.as_deref().unwrap_or("[callers]\ninsecure_anonymous = true"),
        policy = options.policy.as_ref().map_or("", |_| "[policy]\nfile = \"policy.cedar\""),
        login = sandbox.login_uri(),
        grpc = options.grpc.as_deref().unwrap_or_default(),
        extra_config = options.extra_config,
        extra_application = options.extra_application,
    );
    fs::write(folder.join("gateway.toml"), text).unwrap();
}
