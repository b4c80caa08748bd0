//! What operators configure: one TOML file, checked as a whole before anything starts.
//!
//! Each section is a struct of its own. Secrets are not part of it: the file says where they are, and only
//! commands that need them read them ([`Config::load_with_secrets`]).

mod application;
mod callers;
mod document;
mod each_secret;
mod error;
mod limits;
mod listeners;
mod loading;
mod outbound;
mod oversight;
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
    outbound::{Outbound, Proxy},
    oversight::{Audit, AuditDurability, Envoy, Log, LogFormat, LogLevel, Policy, Telemetry},
    secret::SecretSource,
    storage::{Crypto, CryptoProvider, Store, StoreLocation},
    tenants::Tenants,
};

/// Every option with its default, as a configuration file.
pub const DEFAULT_CONFIG: &str = include_str!("../config.default.toml");

/// A checked configuration. Paths are resolved against the folder of the file.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where it was read from.
    pub file: PathBuf,
    /// `[grpc]`.
    pub grpc: Grpc,
    /// `[http]`, if it is there.
    pub http: Option<Http>,
    /// `[admin]`.
    pub admin: Admin,
    /// `[egress]`.
    pub egress: Option<Egress>,
    /// The outbound proxy: that of `[proxy]`, or of the environment where there is no such section.
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

/// A configuration whose secrets were not looked at.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// What works but is probably not meant, one line each.
    pub warnings: Vec<String>,
}

/// A configuration with all its secrets.
#[derive(Debug, Clone)]
pub struct LoadedWithSecrets {
    /// The configuration.
    pub config: Config,
    /// What its secret sources hold.
    pub secrets: Secrets,
    /// What works but is probably not meant, one line each.
    pub warnings: Vec<String>,
}

/// Everything secret that the configuration names.
#[derive(Debug, Clone)]
pub struct Secrets {
    /// In the order of [`Config::applications`], and as many.
    pub applications: Vec<ApplicationSecrets>,
    /// The database's password.
    pub store_password: Option<SecretString>,
    /// The password for the outbound proxy, if a user name is configured.
    pub proxy_password: Option<SecretString>,
}

/// The log filter of the environment variable `RUST_LOG`, if it is set.
#[must_use]
pub fn environment_filter() -> Option<String> {
    oversight::environment_filter()
}

impl Config {
    /// Reads and checks the file; looks at no secret.
    ///
    /// # Errors
    /// With everything that is wrong.
    pub fn load(file: &Path) -> Result<Loaded, ConfigError> {
        let (config, (), warnings) = loading::load(file, |_, _| Some(()))?;
        Ok(Loaded { config, warnings })
    }

    /// Checks a text as if it stood in the file.
    #[cfg(fuzzing)]
    pub(crate) fn check(file: &Path, text: &str) -> Result<Loaded, ConfigError> {
        let (config, (), warnings) =
            loading::read(file, text, Problems::default(), |_, _| Some(()))?;
        Ok(Loaded { config, warnings })
    }

    /// Reads and checks the file and every secret that it names.
    ///
    /// # Errors
    /// With everything that is wrong with either.
    pub fn load_with_secrets(file: &Path) -> Result<LoadedWithSecrets, ConfigError> {
        let (config, secrets, warnings) = loading::load(file, loading::read_secrets)?;
        Ok(LoadedWithSecrets { config, secrets, warnings })
    }

    /// Reads the password for the outbound proxy. `None` if it cannot be read, or there is none.
    #[must_use]
    pub fn read_proxy_password(&self) -> Option<SecretString> {
        self.proxy.as_ref()?.read_password(&mut Problems::default())
    }

    /// Whether this configuration may be served with what is built today.
    ///
    /// # Errors
    /// With each reason not to.
    pub fn check_servable(&self) -> Result<(), ConfigError> {
        let mut problems = Problems::default();
        let Callers { insecure_anonymous, jwt, mtls } = &self.callers;
        let proven = !jwt.is_empty() || mtls.enabled;
        if !insecure_anonymous && !proven {
            problems.add(
                "callers",
                "nobody could call: add [[callers.jwt]] for callers with tokens (a Kubernetes cluster is such an \
                 issuer) or enable [callers.mtls] for callers with certificates; to try things out on this machine \
                 alone, insecure_anonymous = true lets every process on it act for every tenant",
            );
        }
        if proven && self.policy.file.is_none() {
            problems.add(
                "policy.file",
                "is missing: without a policy nobody may do anything; docs/policies has examples to begin with, and \
                 `tenant-gateway policy check` tries one",
            );
        }
        problems.finish(&self.file, |_| None).map(drop)
    }
}

#[cfg(test)]
mod tests;
