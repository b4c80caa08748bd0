//! SuperOffice applications: `[[applications]]`.

mod entry;
mod rules;

use std::{collections::HashMap, num::NonZeroU32, path::Path};

use secrecy::SecretString;

pub(super) use self::entry::ApplicationEntry;
use super::{
    error::Problems,
    secret::{Form, SecretSource},
};
use crate::domain::{AllowedApiHosts, ApplicationId, Environment, Redirects};

const EXAMPLE: &str = "there must be at least one application, such as: [[applications]] id = \"crm-sync\", \
    environment = \"sod\", client_id = \"…\", client_secret_file = \"client-secret\", private_key_file = \
    \"private-key.xml\" (each key on a line of its own)";

/// One `[[applications]]`, checked.
#[derive(Debug, Clone)]
pub struct Application {
    /// Our name for it.
    pub id: ApplicationId,
    /// Where it lives.
    pub environment: Environment,
    /// SuperOffice's name for it (public).
    pub client_id: String,
    /// Where its secrets are.
    pub secrets: SecretSources,
    /// Where browsers may be sent while a person consents.
    pub redirects: Redirects,
    /// The login host, without a trailing slash.
    pub login_uri: String,
    /// Who issues its tokens, without a trailing slash.
    pub issuer: String,
    /// Hosts that tenant status may name.
    pub allowed_api_hosts: AllowedApiHosts,
    /// Web API calls a second and tenant, for the whole fleet.
    pub calls_per_second: NonZeroU32,
    /// Calls at once after a pause.
    pub burst: NonZeroU32,
    /// Whether callers may be given the client secret as `SO-AppToken`.
    pub allow_reveal_application_token: bool,
}

/// Where the secrets of an application are.
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
    /// Proves the application to SuperOffice; also the `SO-AppToken`.
    pub client_secret: SecretString,
    /// Tried when SuperOffice refuses the first.
    pub next_client_secret: Option<SecretString>,
    /// RSA key that signs system user tokens, as text: `RSAKeyValue` XML or PEM.
    pub private_key: SecretString,
    /// Tried when SuperOffice refuses the first.
    pub next_private_key: Option<SecretString>,
    /// Authenticates associate webhooks.
    pub webhook_secret: Option<SecretString>,
}

impl SecretSources {
    /// Where the private key is, for messages about what is in it.
    #[must_use]
    pub fn private_key(&self) -> &SecretSource {
        &self.private_key
    }

    /// Where the next private key is, if there is one.
    #[must_use]
    pub fn next_private_key(&self) -> Option<&SecretSource> {
        self.next_private_key.as_ref()
    }

    /// Where the secret of webhooks is, if there is one.
    pub(super) fn webhook_secret(&self) -> Option<&SecretSource> {
        self.webhook_secret.as_ref()
    }

    /// Reads them all, so that one run tells of every one that is wrong.
    pub(super) fn read(&self, problems: &mut Problems) -> Option<ApplicationSecrets> {
        let mut optional = |source: &Option<SecretSource>, form| match source {
            Some(source) => source.read(form, problems).map(Some),
            None => Some(None),
        };
        let next_client_secret = optional(&self.next_client_secret, Form::Line);
        let next_private_key = optional(&self.next_private_key, Form::Text);
        let webhook_secret = optional(&self.webhook_secret, Form::Line);
        let client_secret = self.client_secret.read(Form::Line, problems);
        let private_key = self.private_key.read(Form::Text, problems);
        Some(ApplicationSecrets {
            client_secret: client_secret?,
            next_client_secret: next_client_secret?,
            private_key: private_key?,
            next_private_key: next_private_key?,
            webhook_secret: webhook_secret?,
        })
    }
}

/// What checking the entries leaves: each application, and every secret that could be read whatever else is wrong.
#[derive(Debug, Default)]
pub(super) struct Checked {
    pub(super) applications: Vec<Application>,
    pub(super) secrets: Vec<SecretSources>,
}

/// Checks all entries, each by itself and against the others.
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
            let message = format!("is that of applications[{first}] too; each needs its own");
            problems.add(format!("{key}.id"), message);
        }
        let client = (entry.environment.clone(), entry.client_id.clone());
        if let Some(first) = clients.insert(client, index)
            && !entry.client_id.is_empty()
        {
            problems.add(
                format!("{key}.client_id"),
                format!("is that of applications[{first}] in the same environment too; one application is enough"),
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
