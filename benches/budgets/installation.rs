//! A simulated SuperOffice with its demo data, and the files of a gateway that uses it.

use std::{collections::BTreeMap, fs, path::PathBuf, time::Duration};

use futures_util::{StreamExt as _, stream};
use jiff::Timestamp;
use secrecy::ExposeSecret as _;
use superoffice_sandbox::{
    Options, Sandbox,
    demo::{self, Demo, DemoTenant},
};
use tenant_gateway::{
    app::Storage,
    config::Config,
    crypto::{DemoIssuer, Keyring},
    domain::TenantName,
    ports::TenantStore as _,
};

pub(crate) const ISSUER: &str = "https://issuer.bench.invalid";
pub(crate) const CALLER: &str = "system:serviceaccount:crm:sync-worker";

/// The section of the configuration that accepts the token.
pub(crate) const JWT_CALLERS: &str = "[[callers.jwt]]\nissuer = \"https://issuer.bench.invalid\"\n\
     audience = \"tenant-gateway\"\njwks_file = \"./jwks.json\"\n";

/// The number of tenants that are stored at a time.
pub(crate) const STORED_AT_A_TIME: usize = 64;

pub(crate) struct Installation {
    pub(crate) sandbox: Sandbox,
    pub(crate) demo: Demo,
    pub(crate) folder: tempfile::TempDir,
    /// A token of [`CALLER`].
    pub(crate) token: String,
}

impl Installation {
    /// Starts the sandbox, and writes the files except the configuration.
    pub(crate) async fn new(policy: &str) -> Self {
        let sandbox = Sandbox::start(Options::default()).await.unwrap();
        let demo = demo::populate(sandbox.control()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        fs::write(path.join("secret"), &demo.client_secret).unwrap();
        fs::write(path.join("key.xml"), &demo.private_key_xml).unwrap();
        let now = Timestamp::now();
        Keyring::generate(&path.join("keyring.toml"), now).unwrap();
        let issuer = DemoIssuer::generate(ISSUER).unwrap();
        fs::write(path.join("jwks.json"), issuer.jwks()).unwrap();
        fs::write(path.join("policy.cedar"), policy).unwrap();
        let token = issuer.token(CALLER, "tenant-gateway", now, now + Duration::from_hours(12));
        let token = token.expose_secret().to_owned();
        Self { sandbox, demo, folder, token }
    }

    /// Writes the configuration with these sections, and these keys of the application.
    pub(crate) fn configure(&self, sections: &str, application: &str) {
        let text = format!(
            "[grpc]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n\
             [lifecycle]\ndrain_delay = \"0s\"\n{sections}\
             [[applications]]\nid = \"demo\"\nenvironment = \"sod\"\nclient_id = \"{}\"\n\
             client_secret_file = \"./secret\"\nprivate_key_file = \"./key.xml\"\n\
             login_uri = \"{}\"\nallowed_api_hosts = [\"127.0.0.1\"]\n{application}",
            self.demo.client_id,
            self.sandbox.login_uri()
        );
        fs::write(self.config(), text).unwrap();
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.folder.path().join("gateway.toml")
    }

    /// Opens the store of the configuration.
    pub(crate) async fn storage(&self) -> Storage {
        Storage::open(&Config::load(&self.config()).unwrap().config).await.unwrap()
    }

    /// Returns the first demo tenant.
    pub(crate) fn tenant(&self) -> &DemoTenant {
        &self.demo.tenants[0]
    }

    /// Stores the first demo tenant and its system user token.
    pub(crate) async fn enroll(&self) {
        let tenant = self.tenant();
        self.enroll_all(vec![(tenant.id.clone(), tenant.system_user_token.clone())]).await;
    }

    /// Stores tenants with their system user tokens.
    pub(crate) async fn enroll_all(&self, tenants: Vec<(String, String)>) {
        let storage = self.storage().await;
        let store = &storage.store;
        let now = Timestamp::now();
        let enroll = |(id, token): (String, String)| async move {
            let name = tenant_name(&id);
            store.create(&name, &BTreeMap::default(), now).await.unwrap();
            store.set_system_user_token(&name, &token.into(), now).await.unwrap();
        };
        stream::iter(tenants).for_each_concurrent(STORED_AT_A_TIME, enroll).await;
        storage.close().await;
    }
}

pub(crate) fn tenant_name(id: &str) -> TenantName {
    format!("applications/demo/tenants/{id}").parse().unwrap()
}
