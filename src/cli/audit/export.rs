//! `audit export`: prints audit events as JSON lines.

use std::{
    io::{self, Write as _},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::cursor::CursorLocation;
use crate::{
    access::{Access, Caller, Gateway},
    app::Storage,
    broker::{BrokerError, Export, ExportBatch, ExportError, Gap},
    cli::{
        CommandError, ConfigOption,
        os_user::os_user,
        print_stderr,
        trail::{self, EventResult},
    },
    domain::{AUDIT_FIELDS, AuditEvent, Filter},
    lifecycle::StopSignals,
    ports::SystemClock,
};

/// The interval between two reads of new events.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// The longest wait for standard output to accept the current lines after a signal to stop.
const STOP_WRITE_TIMEOUT: Duration = Duration::from_secs(2);

/// Options of `audit export`.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct ExportOptions {
    #[command(flatten)]
    config: ConfigOption,
    /// Continue after an earlier export: the text that it printed at its end.
    #[arg(long, value_name = "TEXT", conflicts_with = "cursor_file")]
    cursor: Option<String>,
    /// Store the cursor in this file: it is read at the start, if it exists, and replaced after each write.
    #[arg(long, value_name = "FILE")]
    cursor_file: Option<PathBuf>,
    /// Continue with new events until SIGTERM, SIGINT, or until standard output is closed.
    #[arg(long)]
    follow: bool,
    /// Export only events that match, such as 'decision = DENIED AND time > "2026-01-01T00:00:00Z"'.
    #[arg(long, value_name = "FILTER", default_value = "", hide_default_value = true)]
    filter: String,
}

/// The reason for the end of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// All events are written, or a signal asked to stop.
    Done,
    /// Standard output was closed.
    OutputClosed,
}

/// A running export.
struct Exporting<'a> {
    export: Export,
    storage: &'a Storage,
    place: CursorLocation,
    filter: Filter,
    follow: bool,
    stop: CancellationToken,
    /// The number of events that are missing or unreadable, except those deleted by retention.
    lost: i64,
}

pub(super) async fn run(options: &ExportOptions) -> Result<(), CommandError> {
    let signals = StopSignals::listen()?;
    let config = options.config.load()?;
    let filter = Filter::parse(&options.filter, AUDIT_FIELDS)
        .map_err(|error| CommandError::Usage(format!("--filter: {error}")))?;
    let place = match &options.cursor_file {
        Some(path) => CursorLocation::File(path.clone()),
        None => CursorLocation::Text(options.cursor.clone()),
    };
    let storage = Storage::open(&config).await?;
    let stop = CancellationToken::new();
    let exported = tokio::select! {
        exported = export(options.follow, filter, place, &storage, stop.clone()) => exported,
        () = signals.cancel_until_second_signal(stop) => {
            Err(CommandError::Failed("stopped before the last lines were written".to_owned()))
        }
    };
    storage.close().await;
    exported
}

async fn export(
    follow: bool,
    filter: Filter,
    place: CursorLocation,
    storage: &Storage,
    stop: CancellationToken,
) -> Result<(), CommandError> {
    let caller = Caller::command_line(&os_user());
    let access = Access::command_line(caller.clone(), Arc::new(SystemClock));
    let authorized = access.authorize(&caller, Gateway).map_err(CommandError::other)?;
    let cursor = place.read(&*storage.audit_signer)?;
    let resumed = Export::resume(&authorized, storage.audit.clone(), cursor).await;
    let export = resumed.map_err(|error| match error {
        ExportError::Cursor(refused) => place.rejection(&refused),
        ExportError::Store(error) => BrokerError::from(error).into(),
    })?;
    trail::record(storage, "audit.export", "gateway", EventResult::SUCCESS).await?;
    let mut exporting = Exporting { export, storage, place, filter, follow, stop, lost: 0 };
    if exporting.run_to_end().await? == End::Done {
        exporting.place.print(&*storage.audit_signer, exporting.export.cursor());
    }
    match exporting.lost {
        0 => Ok(()),
        lost => {
            let message = format!(
                "{lost} events are missing or cannot be read: `tenant-gateway audit verify` names the first of each \
                 chain"
            );
            Err(CommandError::Failed(message))
        }
    }
}

impl Exporting<'_> {
    async fn run_to_end(&mut self) -> Result<End, CommandError> {
        let mut failing = false;
        while !self.stop.is_cancelled() {
            match self.export.next().await {
                Ok(Some(batch)) => {
                    if self.write_batch(&batch).await? == End::OutputClosed {
                        return Ok(End::OutputClosed);
                    }
                }
                Ok(None) if !self.follow => return Ok(End::Done),
                Ok(None) => failing = false,
                Err(error) if !self.follow => return Err(error.into()),
                // `--follow` survives an outage of the store, like the server.
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        print_stderr(&format!(
                            "warning: {}; retrying every second",
                            error.message()
                        ));
                    }
                }
            }
            if self.follow && (failing || self.export.is_up_to_date()) {
                tokio::select! {
                    () = tokio::time::sleep(POLL_INTERVAL) => {}
                    () = self.stop.cancelled() => {}
                }
                if stdout_is_closed() {
                    return Ok(End::OutputClosed);
                }
            }
        }
        Ok(End::Done)
    }

    async fn write_batch(&mut self, batch: &ExportBatch) -> Result<End, CommandError> {
        for gap in &batch.gaps {
            self.report_gap(gap);
        }
        let mut lines = Vec::new();
        for event in batch.events.iter().filter(|event| self.filter.matches(*event)) {
            serde_json::to_writer(&mut lines, &Line::from(event)).map_err(CommandError::other)?;
            lines.push(b'\n');
        }
        if !lines.is_empty() {
            match self.write(lines).await {
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                    return Ok(End::OutputClosed);
                }
                other => other?,
            }
        }
        self.place.advance(&*self.storage.audit_signer, self.export.cursor())?;
        Ok(End::Done)
    }

    /// Writes lines. A reader that does not read must not prevent the end.
    async fn write(&self, lines: Vec<u8>) -> io::Result<()> {
        let written = tokio::task::spawn_blocking(move || {
            let mut out = io::stdout().lock();
            out.write_all(&lines)?;
            out.flush()
        });
        let too_late = async {
            self.stop.cancelled().await;
            tokio::time::sleep(STOP_WRITE_TIMEOUT).await;
        };
        tokio::select! {
            written = written => written?,
            () = too_late => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "standard output does not accept the last lines; the cursor points before them",
            )),
        }
    }

    fn report_gap(&mut self, gap: &Gap) {
        let Gap { chain, sequences, by_retention } = gap;
        let (first, last) = (sequences.start(), sequences.end());
        let what = if *by_retention {
            "were removed by retention before this export"
        } else {
            self.lost = self.lost.saturating_add(last.saturating_sub(*first).saturating_add(1));
            "are missing or cannot be read"
        };
        print_stderr(&format!(
            "warning: events {first} to {last} of chain {} {what}",
            chain.escape_debug()
        ));
    }
}

/// Returns whether the reader has closed standard output. A write would fail then, but there may be none for days.
fn stdout_is_closed() -> bool {
    let out = io::stdout();
    let mut polled = [PollFd::new(&out, PollFlags::empty())];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    let gone = PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL;
    poll(&mut polled, Some(&at_once)).is_ok()
        && polled.iter().any(|polled| polled.revents().intersects(gone))
}

/// An event as a line, with the JSON names of the protobuf message and hexadecimal hashes.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    chain: &'a str,
    sequence: i64,
    time: String,
    caller: &'a str,
    caller_method: &'a str,
    caller_issuer: &'a str,
    action: &'a str,
    resource: &'a str,
    acting_as: &'a str,
    decision: &'static str,
    policy_ids: Vec<&'a str>,
    code: i32,
    error_reason: &'a str,
    reason: &'a str,
    credential_id: &'a str,
    request_id: &'a str,
    trace_id: &'a str,
    client_address: &'a str,
    method: &'a str,
    path: &'a str,
    count: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_time: Option<String>,
    resources: Vec<&'a str>,
    resource_count: u64,
    previous_hash: String,
    hash: String,
}

impl<'a> From<&'a AuditEvent> for Line<'a> {
    fn from(event: &'a AuditEvent) -> Self {
        let record = &event.record;
        let aggregate = record.aggregate.as_deref();
        Self {
            chain: &event.chain,
            sequence: event.sequence,
            time: event.time.to_string(),
            caller: &record.caller,
            caller_method: &record.caller_method,
            caller_issuer: &record.caller_issuer,
            action: &record.action,
            resource: &record.resource,
            acting_as: &record.acting_as,
            decision: record.decision.as_str(),
            policy_ids: record.policy_ids.iter().map(|id| &**id).collect(),
            code: record.code,
            error_reason: record.error_reason_name(),
            reason: &record.reason,
            credential_id: &record.credential_id,
            request_id: &record.request_id,
            trace_id: &record.trace_id,
            client_address: &record.client_address,
            method: &record.method,
            path: &record.path,
            count: aggregate.map_or(1, |denials| denials.count),
            last_time: aggregate.map(|denials| denials.last_time.to_string()),
            resources: aggregate
                .map(|denials| denials.resources.iter().map(|name| &**name).collect())
                .unwrap_or_default(),
            resource_count: aggregate.map_or(0, |denials| denials.resource_count),
            previous_hash: hex(&event.previous_hash),
            hash: hex(&event.hash),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).filter_map(digit).collect()
}

fn digit(value: u8) -> Option<char> {
    char::from_digit(value.into(), 16)
}
