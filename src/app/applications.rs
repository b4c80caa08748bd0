//! Builds the applications from their configuration, with clients for SuperOffice.

use std::{collections::BTreeMap, sync::Arc};

use secrecy::SecretString;

use crate::{
    broker::{Application, Applications, CallRate, History, Runtime},
    config::{self, ApplicationSecrets, Config, ConfigError, Problem, SecretSource, Secrets},
    crypto::{SigningKey, SigningKeyError},
    outbound::Network,
    ports::Signer,
    superoffice::{
        Client, ClientOptions, Credentials, LoginHost, LoginHostCheck, PeopleRequests,
        Registration, SuperOffice,
    },
};

/// Applications with clients for SuperOffice, and the login hosts that they share.
pub(super) struct ConnectedApplications {
    pub(super) applications: Applications,
    pub(super) login_hosts: LoginHosts,
}

/// The login hosts by address. Applications of one login host share its concurrency limit and circuit breaker.
pub(super) type LoginHosts = BTreeMap<String, Arc<LoginHost>>;

/// The private keys of one application.
struct Keys {
    first: SigningKey,
    next: Option<SigningKey>,
}

/// Parses every private key and creates every client; opens no connection.
pub(super) fn applications(
    config: &Config,
    secrets: &Secrets,
    runtime: &Runtime,
    network: &Network,
) -> Result<ConnectedApplications, ConfigError> {
    let keys = signing_keys(config, secrets)?;
    let mut login_hosts = LoginHosts::new();
    let mut applications = Vec::new();
    let with_secrets = config.applications.iter().zip(&secrets.applications);
    for ((configured, secrets), keys) in with_secrets.zip(keys) {
        let connection = connect(config, configured, runtime, network, &mut login_hosts);
        applications.push(application(configured, secrets, keys, connection, runtime));
    }
    Ok(ConnectedApplications { applications: Applications::new(applications), login_hosts })
}

/// Returns diagnoses of the login hosts of all applications, in their order. They use no credential.
pub(crate) fn login_host_diagnoses(
    config: &Config,
    runtime: &Runtime,
    network: &Network,
) -> Vec<LoginHostCheck> {
    let mut login_hosts = LoginHosts::new();
    let diagnosis = |configured: &config::Application| {
        let (_, login) = connect(config, configured, runtime, network, &mut login_hosts);
        let allowed_api_hosts = configured.allowed_api_hosts.clone();
        LoginHostCheck::new(login, allowed_api_hosts, Arc::clone(&runtime.clock))
    };
    config.applications.iter().map(diagnosis).collect()
}

fn connect(
    config: &Config,
    configured: &config::Application,
    runtime: &Runtime,
    network: &Network,
    login_hosts: &mut LoginHosts,
) -> (Client, Arc<LoginHost>) {
    let options = ClientOptions {
        timeout: config.login.timeout,
        allow_loopback: configured.allowed_api_hosts.allow_loopback(),
    };
    let client = Client::new(network, options);
    let Runtime { clock, random, .. } = runtime.clone();
    let (uri, cap) = (configured.login_uri.clone(), config.login.max_concurrent);
    let new = || Arc::new(LoginHost::new(client.clone(), uri.clone(), cap, clock, random));
    let login = Arc::clone(login_hosts.entry(uri.clone()).or_insert_with(new));
    (client, login)
}

/// Parses all private keys. Returns all errors at once.
fn signing_keys(config: &Config, secrets: &Secrets) -> Result<Vec<Keys>, ConfigError> {
    let mut all = Vec::new();
    let mut problems = Vec::new();
    let mut parse = |text: &SecretString, source: Option<&SecretSource>| {
        let problem = |error: SigningKeyError| {
            let key = source.map(|source| source.key().to_owned()).unwrap_or_default();
            let place = source.map(SecretSource::place).unwrap_or_default();
            problems.push(Problem { key, line: None, message: format!("{place}: {error}") });
        };
        SigningKey::parse(text).map_err(problem).ok()
    };
    for (application, secrets) in config.applications.iter().zip(&secrets.applications) {
        let sources = &application.secrets;
        let first = parse(&secrets.private_key, Some(sources.private_key()));
        let next = secrets.next_private_key.as_ref();
        let next = next.and_then(|text| parse(text, sources.next_private_key()));
        all.extend(first.map(|first| Keys { first, next }));
    }
    if problems.is_empty() {
        Ok(all)
    } else {
        Err(ConfigError { file: config.file.clone(), problems })
    }
}

fn application(
    configured: &config::Application,
    secrets: &ApplicationSecrets,
    keys: Keys,
    (client, login): (Client, Arc<LoginHost>),
    runtime: &Runtime,
) -> Application {
    let key_ids = std::iter::once(&keys.first).chain(&keys.next);
    let key_ids = key_ids.map(|key| key.key_id().to_owned()).collect();
    let next: Option<Arc<dyn Signer>> = keys.next.map(|key| Arc::new(key) as _);
    let credentials = Credentials::new(
        secrets.client_secret.clone(),
        secrets.next_client_secret.clone(),
        Arc::new(keys.first),
        next,
    );
    let Runtime { clock, random, .. } = runtime.clone();
    let allowed_api_hosts = configured.allowed_api_hosts.clone();
    let registration =
        Registration { client_id: configured.client_id.clone(), issuer: configured.issuer.clone() };
    let superoffice = Arc::new(SuperOffice::new(
        client,
        login,
        credentials,
        registration,
        allowed_api_hosts,
        clock,
        random,
    ));
    Application {
        id: configured.id.clone(),
        environment: configured.environment,
        client_id: configured.client_id.clone(),
        key_ids,
        allow_reveal_application_token: configured.allow_reveal_application_token,
        redirects: configured.redirects.clone(),
        login: Arc::<SuperOffice>::clone(&superoffice),
        tenant_status: Arc::<SuperOffice>::clone(&superoffice),
        probe: Arc::<SuperOffice>::clone(&superoffice),
        oauth: Arc::<SuperOffice>::clone(&superoffice),
        notifications: Arc::<SuperOffice>::clone(&superoffice),
        web_api: superoffice,
        people: Arc::new(PeopleRequests),
        call_rate: CallRate { per_second: configured.calls_per_second, burst: configured.burst },
        history: History::default(),
    }
}
