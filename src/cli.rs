//! The command line: parse, start, exit code.

mod audit;
mod check;
#[cfg(feature = "dev")]
mod dev;
mod grant;
mod keys;
mod output;
mod policy;
mod serve;
mod tenant;
mod trail;

use std::{io::Write as _, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

use crate::{
    app::{StartError, StorageError},
    broker::BrokerError,
    config::{Config, ConfigError, Loaded},
};

/// Holds the credentials that open customers' SuperOffice CRM Online tenants, and hands short-lived tokens to
/// internal services over gRPC.
///
/// Begin with `tenant-gateway dev`: it runs against a simulated SuperOffice, with demo data, and prints calls to
/// try. Then write a gateway.toml (`tenant-gateway config` prints every option), make a keyring with
/// `tenant-gateway keys generate`, and `tenant-gateway serve`.
///
/// Exit codes: 0 done, 1 failed, 2 wrong usage or configuration.
#[derive(Debug, Parser)]
#[command(name = "tenant-gateway", version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve callers until SIGTERM or SIGINT.
    ///
    /// Stops in order: not ready, `drain_delay`, GOAWAY, calls under way finish, store closes. A second signal stops
    /// at once.
    #[command(after_help = "Example:\n  tenant-gateway serve --config gateway.toml")]
    Serve(ConfigOption),
    /// Run against a simulated SuperOffice, with demo data; nothing is kept.
    ///
    /// Ctrl-C, SIGTERM and a terminal that is closed (SIGHUP) stop it in order, and its files go.
    #[cfg(feature = "dev")]
    #[command(after_help = "Example:\n  tenant-gateway dev")]
    Dev(dev::DevOptions),
    /// Look for what is wrong, where, and how to mend it; changes no data and issues no ticket.
    ///
    /// Looks at configuration, secrets, keys, store, login hosts and the status of each tenant, also beside a running
    /// server. Exit codes: 2 if the configuration, a secret, a key or the keyring is wrong, 1 if something else failed,
    /// else 0, also with warnings.
    #[command(
        after_help = "Examples:\n  tenant-gateway check --config gateway.toml\n  tenant-gateway check --offline --output json\n  tenant-gateway check --tenant Cust12345"
    )]
    Check(check::CheckOptions),
    /// Add, list, enroll, stop and remove tenants, also beside a running server.
    #[command(subcommand)]
    Tenant(tenant::TenantCommand),
    /// List and revoke what people gave: the grants by which the gateway acts as them.
    #[command(subcommand)]
    Grant(grant::GrantCommand),
    /// Make and list the keys that seal stored secrets.
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// Verify the audit trail, and hand it on.
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// Check policies and explain what they decide.
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    /// Print every option of gateway.toml with its default.
    #[command(after_help = "Example:\n  tenant-gateway config > gateway.toml")]
    Config,
}

/// Where the configuration is.
#[derive(Debug, Clone, clap::Args)]
struct ConfigOption {
    /// The configuration file.
    #[arg(long, value_name = "FILE", default_value = "gateway.toml")]
    config: PathBuf,
}

impl ConfigOption {
    /// Reads the configuration without its secrets; warnings go to standard error.
    fn load(&self) -> Result<Config, Failed> {
        let Loaded { config, warnings } = Config::load(&self.config)?;
        for warning in warnings {
            say(&format!("warning: {warning}"));
        }
        Ok(config)
    }
}

/// Why a command did not do it.
#[derive(Debug)]
enum Failed {
    /// Wrong usage or configuration.
    Usage(String),
    /// Everything else.
    Failed(String),
}

impl Failed {
    fn other(error: impl std::fmt::Display) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<ConfigError> for Failed {
    fn from(error: ConfigError) -> Self {
        Self::Usage(error.to_string())
    }
}

impl From<StorageError> for Failed {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Config(error) => error.into(),
            other => Self::other(other),
        }
    }
}

impl From<StartError> for Failed {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Config(error) => error.into(),
            other => Self::other(other),
        }
    }
}

impl From<BrokerError> for Failed {
    fn from(error: BrokerError) -> Self {
        let cause = error.cause().map(|cause| format!(" ({cause})")).unwrap_or_default();
        Self::Failed(format!("{}{cause}; {}", error.message(), error.mend()))
    }
}

impl From<std::io::Error> for Failed {
    fn from(error: std::io::Error) -> Self {
        Self::other(error)
    }
}

impl Cli {
    /// Does what was asked.
    pub async fn run(self) -> ExitCode {
        let done = match self.command {
            Command::Serve(options) => serve::serve(&options).await,
            #[cfg(feature = "dev")]
            Command::Dev(options) => dev::dev(&options).await,
            Command::Check(options) => match check::run(&options).await {
                Ok(code) => return code,
                Err(failed) => Err(failed),
            },
            Command::Tenant(command) => tenant::run(command).await,
            Command::Grant(command) => grant::run(command).await,
            Command::Keys(command) => keys::run(command).await,
            Command::Audit(command) => match audit::run(command).await {
                Ok(code) => return code,
                Err(failed) => Err(failed),
            },
            Command::Policy(command) => match policy::run(command) {
                Ok(code) => return code,
                Err(failed) => Err(failed),
            },
            Command::Config => output::print(crate::config::DEFAULT_CONFIG),
        };
        match done {
            Ok(()) => ExitCode::SUCCESS,
            Err(Failed::Usage(message)) => {
                say(&format!("error: {message}"));
                ExitCode::from(2)
            }
            Err(Failed::Failed(message)) => {
                say(&format!("error: {message}"));
                ExitCode::FAILURE
            }
        }
    }
}

/// Tells the person at the terminal. If nobody listens there is nobody to tell that to.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
