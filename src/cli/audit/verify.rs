//! `audit verify`: verifies the chains of the audit trail.

use std::{io::IsTerminal as _, process::ExitCode};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::{
    app::Storage,
    audit::{Progress, Verification},
    broker::BrokerError,
    cli::{
        CommandError,
        output::{Format, OutputOption, print, print_json},
        trail::{self, EventResult},
    },
    config::Config,
    domain::{AuditChainReport, AuditDamage, AuditVerification},
    ports::AuditStore as _,
};

/// The number of events from which a progress bar is shown on a terminal.
const PROGRESS_BAR_THRESHOLD: u64 = 20_000;

pub(super) async fn run(
    config: &Config,
    output: OutputOption,
    all_signatures: bool,
) -> Result<ExitCode, CommandError> {
    let storage = Storage::open(config).await?;
    // Verify even if the event cannot be stored: then a verification is especially useful.
    let recorded = trail::record(&storage, "audit.verify", "gateway", EventResult::SUCCESS).await;
    let verified = verify(&storage, all_signatures).await;
    storage.close().await;
    let verified = verified?;
    match output.output {
        Format::Json => print_json(&json!({
            "intact": verified.intact(),
            "chains": verified.chains.iter().map(as_json).collect::<Vec<_>>(),
            "damages": verified.damages.iter().map(damage_as_json).collect::<Vec<_>>(),
        }))?,
        Format::Text => print(&as_text(&verified))?,
    }
    recorded?;
    Ok(if verified.intact() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn verify(storage: &Storage, all_signatures: bool) -> Result<AuditVerification, BrokerError> {
    let mut verification = Verification::new(
        storage.audit.clone(),
        storage.store.clone(),
        storage.audit_signer.clone(),
    );
    if all_signatures {
        verification = verification.with_all_signatures();
    }
    let bar = ProgressBar::hidden();
    if let Ok(style) = ProgressStyle::with_template("events {wide_bar} {pos}/{len}") {
        bar.set_style(style);
    }
    let watched = std::io::stderr().is_terminal();
    let progress = |Progress { done, total }| {
        if watched && total >= PROGRESS_BAR_THRESHOLD {
            if bar.is_hidden() {
                bar.set_draw_target(indicatif::ProgressDrawTarget::stderr());
            }
            bar.set_length(total);
            bar.set_position(done);
        }
    };
    let chains = verification.run(progress).await;
    bar.finish_and_clear();
    Ok(AuditVerification { chains: chains?, damages: storage.audit.damaged_places() })
}

fn as_json(report: &AuditChainReport) -> Value {
    json!({
        "chain": report.chain,
        "first_sequence": report.first_sequence,
        "last_sequence": report.last_sequence,
        "intact": report.intact(),
        "fault": report.fault.map(|fault| fault.kind.as_str()),
        "fault_sequence": report.fault.map(|fault| fault.sequence),
    })
}

fn damage_as_json(damage: &AuditDamage) -> Value {
    json!({ "file": damage.file, "offset": damage.offset, "problem": damage.problem })
}

fn as_text(AuditVerification { chains: reports, damages }: &AuditVerification) -> String {
    let mut lines: Vec<String> = reports.iter().map(line).collect();
    lines.extend(damages.iter().map(|AuditDamage { file, offset, problem }| {
        format!("damaged: {}, byte {offset}: {problem}", file.escape_debug())
    }));
    let faulty = reports.iter().filter(|report| !report.intact()).count();
    let chains = if reports.len() == 1 { "chain" } else { "chains" };
    lines.push(match (faulty, damages.len()) {
        (0, 0) => format!("{} {chains}, intact", reports.len()),
        (_, places) => format!(
            "{} {chains}, {faulty} not as written, {places} damaged places in files: keep a copy of the audit directory, \
             and compare it with exported events",
            reports.len()
        ),
    });
    lines.join("\n")
}

fn line(report: &AuditChainReport) -> String {
    let AuditChainReport { chain, first_sequence: first, last_sequence: last, fault } = report;
    // A manipulated name could contain control characters for the terminal.
    let chain = chain.escape_debug();
    match fault {
        None if first > last => format!("{chain}: intact, all {last} events removed by retention"),
        None => format!("{chain}: intact, events {first} to {last}"),
        Some(fault) => {
            let (kind, sequence) = (fault.kind.as_str(), fault.sequence);
            format!("{chain}: {kind} at event {sequence}, of events {first} to {last}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{AuditFault, AuditFaultKind};

    #[test]
    fn prints_one_line_per_chain_with_the_first_fault() {
        let report = |first_sequence, last_sequence, fault| AuditChainReport {
            chain: "cli\u{1b}".into(),
            first_sequence,
            last_sequence,
            fault,
        };
        let changed = Some(AuditFault { kind: AuditFaultKind::Changed, sequence: 2 });
        let chains = vec![report(1, 3, None), report(4, 3, None), report(1, 3, changed)];
        let damage = AuditDamage { file: "cli/1.seg".into(), offset: 512, problem: "zeros" };
        let text = as_text(&AuditVerification { chains, damages: vec![damage] });
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "cli\\u{1b}: intact, events 1 to 3");
        assert_eq!(lines[1], "cli\\u{1b}: intact, all 3 events removed by retention");
        assert_eq!(lines[2], "cli\\u{1b}: CHANGED at event 2, of events 1 to 3");
        assert_eq!(lines[3], "damaged: cli/1.seg, byte 512: zeros");
        assert!(lines[4].starts_with("3 chains, 1 not as written, 1 damaged places"), "{text}");
        assert_eq!(as_text(&AuditVerification::default()), "0 chains, intact");
    }
}
