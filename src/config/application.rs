//! SuperOffice applications: `[[applications]]`.

mod entry;
mod rules;

use std::{collections::HashMap, num::NonZeroU32, path::Path};

use secrecy::SecretString;

pub(super) use self::entry::ApplicationEntry;
use super::{
    error::Problems,
    secret::{SecretFormat, SecretSource},
};
use crate::domain::{AllowedApiHosts, ApplicationId, Environment, RedirectUris};

const EXAMPLE: &str = "there must be at least one application, such as: [[applications]] id = \"crm-sync\", \
    environment = \"sod\", client_id = \"…\", client_secret_file = \"client-secret\", private_key_file = \
    \"private-key.xml\" (one key per line)";

/// One `[[applications]]`, checked.
#[derive(Debug, Clone)]
pub struct Application {
    /// The application's id in the gateway.
    pub id: ApplicationId,
    /// The SuperOffice environment.
    pub environment: Environment,
    /// The OAuth client id (public).
    pub client_id: String,
    /// The locations of its secrets.
    pub secrets: SecretSources,
    /// The URIs to which browsers may be redirected during a consent.
    pub redirects: RedirectUris,
    /// The login host, without a trailing slash.
    pub login_uri: String,
    /// The issuer of its tokens, without a trailing slash.
    pub issuer: String,
    /// The Web API hosts that a tenant status may name.
    pub allowed_api_hosts: AllowedApiHosts,
    /// Web API calls per second and tenant, for all replicas together.
    pub calls_per_second: NonZeroU32,
    /// The burst size of that rate limit.
    pub burst: NonZeroU32,
    /// Whether callers may receive the client secret as `SO-AppToken`.
    pub allow_reveal_application_token: bool,
}

/// The locations of an application's secrets.
#[derive(Debug, Clone)]
pub struct SecretSources {
    pub(super) client_secret: SecretSource,
    pub(super) next_client_secret: Option<SecretSource>,
    pub(super) private_key: SecretSource,
    pub(super) next_private_key: Option<SecretSource>,
    pub(super) webhook_secret: Option<SecretSource>,
}

/// The secrets of one application. Redacted when printed, zeroed when dropped.
#[derive(Debug, Clone)]
pub struct ApplicationSecrets {
    /// The OAuth client secret, which is also the `SO-AppToken`.
    pub client_secret: SecretString,
    /// The client secret to try when SuperOffice rejects `client_secret`.
    pub next_client_secret: Option<SecretString>,
    /// The RSA key that signs system user tokens, as text: `RSAKeyValue` XML or PEM.
    pub private_key: SecretString,
    /// The private key to try when SuperOffice rejects `private_key`.
    pub next_private_key: Option<SecretString>,
    /// The secret that authenticates associate webhooks.
    pub webhook_secret: Option<SecretString>,
}

impl SecretSources {
    /// Returns the location of the private key, for messages about its content.
    #[must_use]
    pub fn private_key(&self) -> &SecretSource {
        &self.private_key
    }

    /// Returns the location of the next private key, if there is one.
    #[must_use]
    pub fn next_private_key(&self) -> Option<&SecretSource> {
        self.next_private_key.as_ref()
    }

    /// Returns the location of the webhook secret, if there is one.
    pub(super) fn webhook_secret(&self) -> Option<&SecretSource> {
        self.webhook_secret.as_ref()
    }

    /// Reads all secrets, so that one run reports every problem.
    pub(super) fn read(&self, problems: &mut Problems) -> Option<ApplicationSecrets> {
        let mut optional = |source: &Option<SecretSource>, form| match source {
            Some(source) => source.read(form, problems).map(Some),
            None => Some(None),
        };
        let next_client_secret = optional(&self.next_client_secret, SecretFormat::Line);
        let next_private_key = optional(&self.next_private_key, SecretFormat::Text);
        let webhook_secret = optional(&self.webhook_secret, SecretFormat::Line);
        let client_secret = self.client_secret.read(SecretFormat::Line, problems);
        let private_key = self.private_key.read(SecretFormat::Text, problems);
        Some(ApplicationSecrets {
            client_secret: client_secret?,
            next_client_secret: next_client_secret?,
            private_key: private_key?,
            next_private_key: next_private_key?,
            webhook_secret: webhook_secret?,
        })
    }
}

/// The valid applications, and the secret locations of all entries, valid or not.
#[derive(Debug, Default)]
pub(super) struct Checked {
    pub(super) applications: Vec<Application>,
    pub(super) secrets: Vec<SecretSources>,
}

/// Checks all entries, individually and against each other.
pub(super) fn check(
    entries: Vec<ApplicationEntry>,
    folder: &Path,
    problems: &mut Problems,
) -> Checked {
    if entries.is_empty() {
        problems.add("applications", EXAMPLE);
    }
    let mut ids = HashMap::new();
    let mut clients = HashMap::new();
    let mut checked = Checked::default();
    for (index, entry) in entries.into_iter().enumerate() {
        let key = format!("applications[{index}]");
        if let Some(first) = ids.insert(entry.id.clone(), index)
            && !entry.id.is_empty()
        {
            let message = format!("is also used by applications[{first}]; give each its own");
            problems.add(format!("{key}.id"), message);
        }
        let client = (entry.environment.clone(), entry.client_id.clone());
        if let Some(first) = clients.insert(client, index)
            && !entry.client_id.is_empty()
        {
            problems.add(
                format!("{key}.client_id"),
                format!("is also used by applications[{first}] in the same environment; remove one of them"),
            );
        }
        let secrets = entry.secret_sources(&key, folder, problems);
        checked.secrets.extend(secrets.clone());
        checked.applications.extend(entry.check(&key, secrets, problems));
    }
    checked
}

#[cfg(test)]
mod tests;
