//! `audit`: whether the audit trail is whole, and handing it on.

mod cursor;
mod export;
mod verify;

use std::process::ExitCode;

use super::{ConfigOption, Failed, output::OutputOption};

#[derive(Debug, clap::Subcommand)]
pub(super) enum AuditCommand {
    /// Verify every chain: hashes, order, signatures. Also beside a running server.
    ///
    /// Prints a line for each chain and names its first fault. Exit code 1 if there is any.
    #[command(after_help = "Example:\n  tenant-gateway audit verify --config gateway.toml")]
    Verify {
        #[command(flatten)]
        config: ConfigOption,
        #[command(flatten)]
        output: OutputOption,
    },
    /// Print every event once, as lines of JSON, from the beginning or from where an export ended.
    ///
    /// Chain by chain, each in order. Where an export is cut off, its last lines may come again in the next.
    #[command(
        after_help = "Examples:\n  tenant-gateway audit export --cursor-file audit.cursor >> audit.jsonl\n  tenant-gateway audit export --cursor-file audit.cursor --follow | log-shipper\n  tenant-gateway audit export --filter 'decision = DENIED'"
    )]
    Export(export::ExportOptions),
}

pub(super) async fn run(command: AuditCommand) -> Result<ExitCode, Failed> {
    match command {
        AuditCommand::Verify { config, output } => verify::run(&config.load()?, output).await,
        AuditCommand::Export(options) => export::run(&options).await.map(|()| ExitCode::SUCCESS),
    }
}
