//! An unchecked entry of `[[applications]]`.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::SecretSources;
use crate::config::{
    error::Problems,
    secret::{Requirement, SecretSource},
    value,
};

/// One entry of `[[applications]]`, unchecked.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct ApplicationEntry {
    pub(super) id: String,
    pub(super) environment: String,
    pub(super) client_id: String,
    pub(super) client_secret_file: Option<PathBuf>,
    pub(super) client_secret_env: Option<String>,
    pub(super) next_client_secret_file: Option<PathBuf>,
    pub(super) next_client_secret_env: Option<String>,
    pub(super) private_key_file: Option<PathBuf>,
    pub(super) private_key_env: Option<String>,
    pub(super) next_private_key_file: Option<PathBuf>,
    pub(super) next_private_key_env: Option<String>,
    pub(super) redirect_uri: Option<String>,
    pub(super) redirect_uris: Vec<String>,
    pub(super) return_uri_prefixes: Vec<String>,
    #[serde(deserialize_with = "value::some_origin")]
    pub(super) login_uri: Option<String>,
    #[serde(deserialize_with = "value::some_origin")]
    pub(super) issuer: Option<String>,
    pub(super) allowed_api_hosts: Vec<String>,
    pub(super) calls_per_second: u32,
    pub(super) burst: Option<u32>,
    pub(super) allow_reveal_application_token: bool,
    pub(super) webhook_secret_file: Option<PathBuf>,
    pub(super) webhook_secret_env: Option<String>,
}

impl Default for ApplicationEntry {
    fn default() -> Self {
        Self {
            id: String::new(),
            environment: String::new(),
            client_id: String::new(),
            client_secret_file: None,
            client_secret_env: None,
            next_client_secret_file: None,
            next_client_secret_env: None,
            private_key_file: None,
            private_key_env: None,
            next_private_key_file: None,
            next_private_key_env: None,
            redirect_uri: None,
            redirect_uris: Vec::new(),
            return_uri_prefixes: Vec::new(),
            login_uri: None,
            issuer: None,
            allowed_api_hosts: vec!["superoffice.com".to_owned()],
            calls_per_second: 10, // SuperOffice's limit for custom applications
            burst: None,
            allow_reveal_application_token: false,
            webhook_secret_file: None,
            webhook_secret_env: None,
        }
    }
}

impl ApplicationEntry {
    /// Returns the built-in defaults that the example in `config.default.toml` must show.
    #[cfg(test)]
    pub(in crate::config) fn options_with_defaults(&self) -> (&[String], u32, bool) {
        let Self { allowed_api_hosts, calls_per_second, allow_reveal_application_token, .. } = self;
        (allowed_api_hosts, *calls_per_second, *allow_reveal_application_token)
    }

    /// Returns the locations of the secrets; `None` if a required one is missing.
    pub(super) fn secret_sources(
        &self,
        key: &str,
        folder: &Path,
        problems: &mut Problems,
    ) -> Option<SecretSources> {
        let mut either = |name: &str, file: &Option<PathBuf>, env: &Option<String>, need| {
            let given = (file.clone(), env.clone());
            SecretSource::from_file_or_env(&format!("{key}.{name}"), given, need, folder, problems)
        };
        let client_secret = either(
            "client_secret",
            &self.client_secret_file,
            &self.client_secret_env,
            Requirement::Required,
        );
        let next_client_secret = either(
            "next_client_secret",
            &self.next_client_secret_file,
            &self.next_client_secret_env,
            Requirement::Optional,
        );
        let private_key = either(
            "private_key",
            &self.private_key_file,
            &self.private_key_env,
            Requirement::Required,
        );
        let next_private_key = either(
            "next_private_key",
            &self.next_private_key_file,
            &self.next_private_key_env,
            Requirement::Optional,
        );
        let webhook_secret = either(
            "webhook_secret",
            &self.webhook_secret_file,
            &self.webhook_secret_env,
            Requirement::Optional,
        );
        Some(SecretSources {
            client_secret: client_secret?,
            next_client_secret,
            private_key: private_key?,
            next_private_key,
            webhook_secret,
        })
    }
}
