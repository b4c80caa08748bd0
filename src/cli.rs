//! The command line: parses the arguments, runs the command, and returns the exit code.

mod audit;
mod check;
#[cfg(feature = "dev")]
mod dev;
mod grant;
mod keys;
mod os_user;
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

/// Holds the credentials for customers' SuperOffice CRM Online tenants, and issues short-lived tokens to internal
/// services over gRPC.
///
/// Start with `tenant-gateway dev`: it runs against a simulated SuperOffice with demo data, and prints example calls.
/// Then write a gateway.toml (`tenant-gateway config` prints every option), create a keyring with
/// `tenant-gateway keys generate`, and run `tenant-gateway serve`.
///
/// Exit codes: 0 success, 1 failure, 2 wrong usage or configuration.
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
    /// Shutdown order: not ready, `drain_delay`, GOAWAY, running calls finish, store closes. A second signal stops
    /// immediately.
    #[command(after_help = "Example:\n  tenant-gateway serve --config gateway.toml")]
    Serve(ConfigOption),
    /// Run against a simulated SuperOffice with demo data; nothing is kept.
    ///
    /// Ctrl-C, SIGTERM and closing the terminal (SIGHUP) stop it and delete its files.
    #[cfg(feature = "dev")]
    #[command(after_help = "Example:\n  tenant-gateway dev")]
    Dev(dev::DevOptions),
    /// Find problems and their solutions; changes no data and issues no ticket.
    ///
    /// Checks configuration, secrets, keys, store, login hosts and the status of each tenant. It can run while a server
    /// runs. Exit codes: 2 if the configuration, a secret, a key or the keyring is wrong, 1 if another check failed,
    /// else 0, even with warnings.
    #[command(
        after_help = "Examples:\n  tenant-gateway check --config gateway.toml\n  tenant-gateway check --offline --output json\n  tenant-gateway check --tenant Cust12345"
    )]
    Check(check::CheckOptions),
    /// Add, list, enroll, disable and remove tenants, also while a server runs.
    #[command(subcommand)]
    Tenant(tenant::TenantCommand),
    /// List and revoke grants: the consents with which the gateway acts as people.
    #[command(subcommand)]
    Grant(grant::GrantCommand),
    /// Create and list the keys that encrypt stored secrets.
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// Verify and export the audit trail.
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// Check policies and explain what they decide.
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    /// Print every option of gateway.toml with its default.
    #[command(after_help = "Example:\n  tenant-gateway config > gateway.toml")]
    Config,
}

/// The option for the configuration file.
#[derive(Debug, Clone, clap::Args)]
struct ConfigOption {
    /// The configuration file.
    #[arg(long, value_name = "FILE", default_value = "gateway.toml")]
    config: PathBuf,
}

impl ConfigOption {
    /// Reads the configuration without its secrets; warnings go to standard error.
    fn load(&self) -> Result<Config, CommandError> {
        let Loaded { config, warnings } = Config::load(&self.config)?;
        for warning in warnings {
            print_stderr(&format!("warning: {warning}"));
        }
        Ok(config)
    }
}

/// An error that ends a command.
#[derive(Debug)]
enum CommandError {
    /// Wrong usage or configuration.
    Usage(String),
    /// Any other failure.
    Failed(String),
}

impl CommandError {
    fn other(error: impl std::fmt::Display) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<ConfigError> for CommandError {
    fn from(error: ConfigError) -> Self {
        Self::Usage(error.to_string())
    }
}

impl From<StorageError> for CommandError {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Config(error) => error.into(),
            other => Self::other(other),
        }
    }
}

impl From<StartError> for CommandError {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Config(error) => error.into(),
            other => Self::other(other),
        }
    }
}

impl From<BrokerError> for CommandError {
    fn from(error: BrokerError) -> Self {
        let cause = error.cause().map(|cause| format!(" ({cause})")).unwrap_or_default();
        Self::Failed(format!("{}{cause}; {}", error.message(), error.mend()))
    }
}

impl From<std::io::Error> for CommandError {
    fn from(error: std::io::Error) -> Self {
        Self::other(error)
    }
}

impl Cli {
    /// Runs the command.
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
            Err(CommandError::Usage(message)) => {
                print_stderr(&format!("error: {message}"));
                ExitCode::from(2)
            }
            Err(CommandError::Failed(message)) => {
                print_stderr(&format!("error: {message}"));
                ExitCode::FAILURE
            }
        }
    }
}

/// Prints a line to standard error. Errors are ignored, because they could not be reported.
fn print_stderr(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
