//! `audit export`.

use std::{
    io::{self, Write as _},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::cursor::Place;
use crate::{
    access::{Access, Caller, Gateway},
    app::Storage,
    broker::{BrokerError, Export, ExportBatch, ExportError, Gap},
    cli::{
        ConfigOption, Failed, say,
        tenant::os_user,
        trail::{self, Outcome},
    },
    domain::{AUDIT_FIELDS, AuditEvent, Filter},
    lifecycle::StopSignals,
    ports::{StoreWatch as _, SystemClock},
};

/// Between two looks at what has come since.
const LOOK: Duration = Duration::from_secs(1);

/// Once asked to stop, whoever reads standard output has this long to take what is being written.
const LAST_LINES: Duration = Duration::from_secs(2);

/// Options of `audit export`.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct ExportOptions {
    #[command(flatten)]
    config: ConfigOption,
    /// Go on from where an export ended: the text that it has printed at its end.
    #[arg(long, value_name = "TEXT", conflicts_with = "cursor_file")]
    cursor: Option<String>,
    /// Keep the cursor in this file: read at the start, if it is there, and replaced whenever lines have been written.
    #[arg(long, value_name = "FILE")]
    cursor_file: Option<PathBuf>,
    /// Go on with what happens from now on, until SIGTERM, SIGINT, or nobody reads any more.
    #[arg(long)]
    follow: bool,
    /// Only events that match, such as 'decision = DENIED AND time > "2026-01-01T00:00:00Z"'.
    #[arg(long, value_name = "FILTER", default_value = "", hide_default_value = true)]
    filter: String,
}

/// How an export comes to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Everything is handed on, or somebody asked to stop.
    Done,
    /// Nobody reads any more.
    Unread,
}

/// An export under way.
struct Exporting<'a> {
    export: Export,
    storage: &'a Storage,
    place: Place,
    filter: Filter,
    follow: bool,
    stop: CancellationToken,
    /// Events that could not be handed on, though nobody removed them in order.
    lost: i64,
}

pub(super) async fn run(options: &ExportOptions) -> Result<(), Failed> {
    let signals = StopSignals::listen()?;
    let config = options.config.load()?;
    let filter = Filter::parse(&options.filter, AUDIT_FIELDS)
        .map_err(|error| Failed::Usage(format!("--filter: {error}")))?;
    let place = match &options.cursor_file {
        Some(path) => Place::File(path.clone()),
        None => Place::Text(options.cursor.clone()),
    };
    let storage = Storage::open(&config).await?;
    let stop = CancellationToken::new();
    let exported = tokio::select! {
        exported = export(options.follow, filter, place, &storage, stop.clone()) => exported,
        () = signals.until_asked_twice(stop) => {
            Err(Failed::Failed("stopped before the last lines were out".to_owned()))
        }
    };
    storage.store.close().await;
    exported
}

async fn export(
    follow: bool,
    filter: Filter,
    place: Place,
    storage: &Storage,
    stop: CancellationToken,
) -> Result<(), Failed> {
    let caller = Caller::command_line(&os_user());
    let access = Access::command_line(caller.clone(), Arc::new(SystemClock));
    let authorized = access.authorize(&caller, Gateway).map_err(Failed::other)?;
    let cursor = place.read(&*storage.audit_signer)?;
    let resumed = Export::resume(&authorized, storage.store.clone(), cursor).await;
    let export = resumed.map_err(|error| match error {
        ExportError::Cursor(refused) => place.refused(&refused),
        ExportError::Store(error) => BrokerError::from(error).into(),
    })?;
    trail::record(storage, "audit.export", "gateway", Outcome::DONE).await?;
    let mut exporting = Exporting { export, storage, place, filter, follow, stop, lost: 0 };
    if exporting.until_the_end().await? == End::Done {
        exporting.place.tell(&*storage.audit_signer, exporting.export.cursor());
    }
    match exporting.lost {
        0 => Ok(()),
        lost => {
            let message = format!(
                "{lost} events are missing or cannot be read: `tenant-gateway audit verify` names the first of each \
                 chain"
            );
            Err(Failed::Failed(message))
        }
    }
}

impl Exporting<'_> {
    async fn until_the_end(&mut self) -> Result<End, Failed> {
        let mut failing = false;
        while !self.stop.is_cancelled() {
            match self.export.next().await {
                Ok(Some(batch)) => {
                    if self.hand_on(&batch).await? == End::Unread {
                        return Ok(End::Unread);
                    }
                }
                Ok(None) if !self.follow => return Ok(End::Done),
                Ok(None) => failing = false,
                Err(error) if !self.follow => return Err(error.into()),
                // A server goes on when its store does, and so does who follows it.
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        say(&format!("warning: {}; tried again each second", error.message()));
                    }
                }
            }
            if self.follow && (failing || self.export.is_up_to_date()) {
                tokio::select! {
                    () = tokio::time::sleep(LOOK) => {}
                    () = self.stop.cancelled() => {}
                }
                if nobody_reads() {
                    return Ok(End::Unread);
                }
            }
        }
        Ok(End::Done)
    }

    async fn hand_on(&mut self, batch: &ExportBatch) -> Result<End, Failed> {
        for gap in &batch.gaps {
            self.tell(gap);
        }
        let mut lines = Vec::new();
        for event in batch.events.iter().filter(|event| self.filter.matches(*event)) {
            serde_json::to_writer(&mut lines, &Line::from(event)).map_err(Failed::other)?;
            lines.push(b'\n');
        }
        if !lines.is_empty() {
            match self.write(lines).await {
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(End::Unread),
                other => other?,
            }
        }
        self.place.advance(&*self.storage.audit_signer, self.export.cursor())?;
        Ok(End::Done)
    }

    /// A reader that takes nothing must not keep us from ending.
    async fn write(&self, lines: Vec<u8>) -> io::Result<()> {
        let written = tokio::task::spawn_blocking(move || {
            let mut out = io::stdout().lock();
            out.write_all(&lines)?;
            out.flush()
        });
        let too_late = async {
            self.stop.cancelled().await;
            tokio::time::sleep(LAST_LINES).await;
        };
        tokio::select! {
            written = written => written?,
            () = too_late => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "standard output does not take the last lines; the cursor stands before them",
            )),
        }
    }

    fn tell(&mut self, gap: &Gap) {
        let Gap { chain, sequences, by_retention } = gap;
        let (first, last) = (sequences.start(), sequences.end());
        let what = if *by_retention {
            "were removed by retention before this export"
        } else {
            self.lost = self.lost.saturating_add(last.saturating_sub(*first).saturating_add(1));
            "are missing or cannot be read"
        };
        say(&format!("warning: events {first} to {last} of chain {} {what}", chain.escape_debug()));
    }
}

/// Whether the other end of standard output is closed. Writing would tell, but there may be nothing to write for days.
fn nobody_reads() -> bool {
    let out = io::stdout();
    let mut polled = [PollFd::new(&out, PollFlags::empty())];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    let gone = PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL;
    poll(&mut polled, Some(&at_once)).is_ok()
        && polled.iter().any(|polled| polled.revents().intersects(gone))
}

/// An event as a line: the names of the contract's JSON, hashes in hexadecimal.
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
    previous_hash: String,
    hash: String,
}

impl<'a> From<&'a AuditEvent> for Line<'a> {
    fn from(event: &'a AuditEvent) -> Self {
        let record = &event.record;
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
