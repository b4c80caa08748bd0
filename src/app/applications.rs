//! From configured applications to applications that can talk to SuperOffice.

use std::sync::Arc;

use super::{StartError, Surroundings};
use crate::{
    broker::{Application, Applications, History},
    config::{self, ApplicationSecrets, Config, ConfigError, Problem, Secrets},
    crypto::SigningKey,
    superoffice::{Client, ClientOptions, Credentials, SuperOffice},
};

/// Reads every private key and makes every connection; opens none.
pub(super) fn applications(
    config: &Config,
    secrets: &Secrets,
    surroundings: &Surroundings,
) -> Result<Applications, StartError> {
    let keys = signing_keys(config, secrets)?;
    let mut applications = Vec::new();
    for ((configured, secrets), key) in
        config.applications.iter().zip(&secrets.applications).zip(keys)
    {
        applications.push(application(config, configured, secrets, key, surroundings)?);
    }
    Ok(Applications::new(applications))
}

/// All keys, or everything that is wrong with any of them.
fn signing_keys(config: &Config, secrets: &Secrets) -> Result<Vec<SigningKey>, ConfigError> {
    let mut keys = Vec::new();
    let mut problems = Vec::new();
    for (application, secrets) in config.applications.iter().zip(&secrets.applications) {
        match SigningKey::parse(&secrets.private_key) {
            Ok(key) => keys.push(key),
            Err(error) => {
                let source = application.secrets.private_key();
                let message = format!("{}: {error}", source.place());
                problems.push(Problem { key: source.key().to_owned(), line: None, message });
            }
        }
    }
    if problems.is_empty() {
        Ok(keys)
    } else {
        Err(ConfigError { file: config.file.clone(), problems })
    }
}

fn application(
    config: &Config,
    configured: &config::Application,
    secrets: &ApplicationSecrets,
    key: SigningKey,
    surroundings: &Surroundings,
) -> Result<Application, StartError> {
    let options = ClientOptions {
        timeout: config.login.timeout,
        allow_loopback: configured.allowed_api_hosts.allow_loopback(),
    };
    let key_ids = vec![key.key_id().to_owned()];
    let credentials = Credentials {
        login_uri: configured.login_uri.clone(),
        client_secret: secrets.client_secret.clone(),
        signer: Arc::new(key),
        allowed_api_hosts: configured.allowed_api_hosts.clone(),
    };
    let Surroundings { clock, random } = surroundings;
    let client = Client::new(options)?;
    let superoffice = SuperOffice::new(client, credentials, Arc::clone(clock), Arc::clone(random));
    let superoffice = Arc::new(superoffice);
    Ok(Application {
        id: configured.id.clone(),
        environment: configured.environment,
        client_id: configured.client_id.clone(),
        key_ids,
        allow_reveal_application_token: configured.allow_reveal_application_token,
        login: Arc::<SuperOffice>::clone(&superoffice),
        tenant_status: Arc::<SuperOffice>::clone(&superoffice),
        probe: superoffice,
        history: History::default(),
    })
}
