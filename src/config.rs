//! The configuration: one TOML file, checked completely before anything starts.
//!
//! Each section has its own struct. The file contains no secrets: it names their locations, and only commands that need
//! the secrets read them ([`Config::load_with_secrets`]).

mod application;
mod callers;
mod document;
mod each_secret;
mod error;
mod limits;
mod listeners;
mod loading;
mod observability;
mod outbound;
mod secret;
mod storage;
mod tenants;
mod unbuilt;
mod value;

use std::path::{Path, PathBuf};

use secrecy::SecretString;

use self::error::Problems;
pub use self::{
    application::{Application, ApplicationSecrets, SecretSources},
    callers::{Callers, CertificateIdentity, JwtIssuer, Mtls},
    each_secret::ReadSecret,
    error::{ConfigError, Problem},
    limits::{Associates, Lifecycle, Login, Quota, Quotas, Tickets, WebApi},
    listeners::{Admin, Egress, Grpc, Http, Tls},
    observability::{Audit, AuditDurability, Envoy, Log, LogFormat, LogLevel, Policy, Telemetry},
    outbound::{Outbound, Proxy},
    secret::SecretSource,
    storage::{Crypto, CryptoProvider, Store, StoreLocation},
    tenants::Tenants,
};

/// Every option with its default, as a configuration file.
pub const DEFAULT_CONFIG: &str = include_str!("../config.default.toml");

/// A checked configuration. Paths are resolved against the folder of the file.
#[derive(Debug, Clone)]
pub struct Config {
    /// The path of the configuration file.
    pub file: PathBuf,
    /// `[grpc]`.
    pub grpc: Grpc,
    /// `[http]`, if it is there.
    pub http: Option<Http>,
    /// `[admin]`.
    pub admin: Admin,
    /// `[egress]`.
    pub egress: Option<Egress>,
    /// The outbound proxy from `[proxy]` or, without that section, from the environment.
    pub proxy: Option<Proxy>,
    /// `[outbound]`.
    pub outbound: Outbound,
    /// `[store]`.
    pub store: Store,
    /// `[crypto]`.
    pub crypto: Crypto,
    /// `[policy]`.
    pub policy: Policy,
    /// `[audit]`.
    pub audit: Audit,
    /// `[quotas]`.
    pub quotas: Quotas,
    /// `[tenants]`.
    pub tenants: Tenants,
    /// `[tickets]`.
    pub tickets: Tickets,
    /// `[associates]`.
    pub associates: Associates,
    /// `[login]`.
    pub login: Login,
    /// `[web_api]`.
    pub web_api: WebApi,
    /// `[lifecycle]`.
    pub lifecycle: Lifecycle,
    /// `[log]`.
    pub log: Log,
    /// `[telemetry]`.
    pub telemetry: Telemetry,
    /// `[envoy]`.
    pub envoy: Envoy,
    /// `[callers]`.
    pub callers: Callers,
    /// `[[applications]]`, at least one.
    pub applications: Vec<Application>,
}

/// A configuration without its secrets.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Warnings about settings that are valid but probably unintended, one line each.
    pub warnings: Vec<String>,
}

/// A configuration with all its secrets.
#[derive(Debug, Clone)]
pub struct LoadedWithSecrets {
    /// The configuration.
    pub config: Config,
    /// The secrets.
    pub secrets: Secrets,
    /// Warnings about settings that are valid but probably unintended, one line each.
    pub warnings: Vec<String>,
}

/// All secrets that the configuration names.
#[derive(Debug, Clone)]
pub struct Secrets {
    /// The secrets of each application, in the order of [`Config::applications`].
    pub applications: Vec<ApplicationSecrets>,
    /// The database's password.
    pub store_password: Option<SecretString>,
    /// The password for the outbound proxy, if a user name is configured.
    pub proxy_password: Option<SecretString>,
}

/// Returns the log filter of the environment variable `RUST_LOG`, if it is set.
#[must_use]
pub fn environment_filter() -> Option<String> {
    observability::environment_filter()
}

impl Config {
    /// Reads and checks the file; reads no secret.
    ///
    /// # Errors
    /// With all problems.
    pub fn load(file: &Path) -> Result<Loaded, ConfigError> {
        let (config, (), warnings) = loading::load(file, |_, _| Some(()))?;
        Ok(Loaded { config, warnings })
    }

    /// Checks a text like the content of a file.
    #[cfg(fuzzing)]
    pub(crate) fn check(file: &Path, text: &str) -> Result<Loaded, ConfigError> {
        let (config, (), warnings) =
            loading::read(file, text, Problems::default(), |_, _| Some(()))?;
        Ok(Loaded { config, warnings })
    }

    /// Reads and checks the file and every secret that it names.
    ///
    /// # Errors
    /// With all problems of the file and the secrets.
    pub fn load_with_secrets(file: &Path) -> Result<LoadedWithSecrets, ConfigError> {
        let (config, secrets, warnings) = loading::load(file, loading::read_secrets)?;
        Ok(LoadedWithSecrets { config, secrets, warnings })
    }

    /// Reads the password for the outbound proxy. Returns `None` if there is none or it cannot be read.
    #[must_use]
    pub fn read_proxy_password(&self) -> Option<SecretString> {
        self.proxy.as_ref()?.read_password(&mut Problems::default())
    }

    /// Checks that `serve` can start with this configuration.
    ///
    /// # Errors
    /// With all problems that prevent the start.
    pub fn check_servable(&self) -> Result<(), ConfigError> {
        let mut problems = Problems::default();
        let Callers { insecure_anonymous, jwt, mtls } = &self.callers;
        let proven = !jwt.is_empty() || mtls.enabled;
        if !insecure_anonymous && !proven {
            problems.add(
                "callers",
                "no caller can authenticate: add [[callers.jwt]] for callers with tokens (a Kubernetes cluster is such \
                 an issuer) or enable [callers.mtls] for callers with certificates; only for trials on this machine, \
                 insecure_anonymous = true lets every local process act for every tenant",
            );
        }
        if proven && self.policy.file.is_none() {
            problems.add(
                "policy.file",
                "is missing: without a policy every call is denied; examples/policies has examples, and \
                 `tenant-gateway policy check` checks a policy",
            );
        }
        problems.finish(&self.file, |_| None).map(drop)
    }
}

#[cfg(test)]
mod tests;
