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
    /// Prints one line for each chain, with its first fault, and one for each damaged place of a file. The exit code is
    /// 1 if there is a fault or a damaged place.
    #[command(after_help = "Example:\n  tenant-gateway audit verify --config gateway.toml")]
    Verify {
        #[command(flatten)]
        config: ConfigOption,
        #[command(flatten)]
        output: OutputOption,
        /// Verify the signature behind every group of events, not only the last one of each chain and of each file.
        ///
        /// The last one covers all events before it, so each changed event is found without this option. It also finds
        /// a changed signature, and takes much longer.
        #[arg(long)]
        all_signatures: bool,
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
        AuditCommand::Verify { config, output, all_signatures } => {
            verify::run(&config.load()?, output, all_signatures).await
        }
        AuditCommand::Export(options) => export::run(&options).await.map(|()| ExitCode::SUCCESS),
    }
}
