//! `audit`: verification and export of the audit trail.

mod cursor;
mod export;
mod verify;

use std::process::ExitCode;

use super::{CommandError, ConfigOption, output::OutputOption};

#[derive(Debug, clap::Subcommand)]
pub(super) enum AuditCommand {
    /// Verify every chain: hashes, order, signatures. It can run while a server runs.
    ///
    /// Prints one line for each chain, with its first fault. The exit code is 1 if there is a fault.
    #[command(after_help = "Example:\n  tenant-gateway audit verify --config gateway.toml")]
    Verify {
        #[command(flatten)]
        config: ConfigOption,
        #[command(flatten)]
        output: OutputOption,
    },
    /// Print every event once, as lines of JSON, from the beginning or from the end of an earlier export.
    ///
    /// Prints chain by chain, each in order. After an aborted export, the next one may repeat its last lines.
    #[command(
        after_help = "Examples:\n  tenant-gateway audit export --cursor-file audit.cursor >> audit.jsonl\n  tenant-gateway audit export --cursor-file audit.cursor --follow | log-shipper\n  tenant-gateway audit export --filter 'decision = DENIED'"
    )]
    Export(export::ExportOptions),
}

pub(super) async fn run(command: AuditCommand) -> Result<ExitCode, CommandError> {
    match command {
        AuditCommand::Verify { config, output } => verify::run(&config.load()?, output).await,
        AuditCommand::Export(options) => export::run(&options).await.map(|()| ExitCode::SUCCESS),
    }
}
