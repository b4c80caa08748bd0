//! Tests of `audit verify` and `audit export`, with the real program and a real file.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead as _, BufReader},
    process::Stdio,
};

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{
    audit::{AuditWriter, SegmentFile, event},
    binary::{Finished, Process, Site},
    name,
};

const EXPORT: [&str; 2] = ["audit", "export"];
const VERIFY: [&str; 2] = ["audit", "verify"];

/// Returns a site whose store has eight events of a server.
async fn site() -> Site {
    let site = Site::new().await;
    write(&site, "serve-test", 0..8).await;
    site
}

async fn write(site: &Site, chain: &str, numbers: std::ops::Range<usize>) {
    let audit_writer = AuditWriter::open(&site.file("gateway.toml")).await;
    let record = |number| {
        let mut record = event(&format!("r-{number}"), &name("Cust1"));
        record.reason = format!("because-of-{number}").into();
        record
    };
    audit_writer.serve(chain, numbers.map(record)).await;
    audit_writer.close().await;
}

/// Returns the lines of an export, and the cursor at its end.
fn exported(finished: &Finished) -> (Vec<Value>, Option<String>) {
    assert_eq!(finished.code, Some(0), "{finished:?}");
    let cursor = finished.stderr.lines().find_map(|line| line.split_once("--cursor "));
    let cursor = cursor.map(|(_, cursor)| cursor.to_owned());
    (lines(&finished.stdout), cursor)
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn positions(lines: &[Value]) -> Vec<(String, i64)> {
    let place = |line: &Value| {
        (line["chain"].as_str().unwrap().to_owned(), line["sequence"].as_i64().unwrap())
    };
    lines.iter().map(place).collect()
}

fn sequences(lines: &[Value], chain: &str) -> Vec<i64> {
    positions(lines)
        .into_iter()
        .filter(|(of, _)| of == chain)
        .map(|(_, sequence)| sequence)
        .collect()
}

#[tokio::test]
async fn an_intact_trail_prints_a_line_for_each_chain_and_records_the_verification() {
    let site = site().await;
    let said = site.run(&VERIFY).await.succeeded();
    let wanted =
        "serve-test: intact, events 1 to 8\ncli: intact, events 1 to 1\n2 chains, intact\n";
    assert_eq!(said, wanted);
    let report = site.run(&["audit", "verify", "--output", "json"]).await.json();
    assert_eq!(report["intact"], true);
    assert_eq!(report["chains"][0]["last_sequence"], 8);
    assert_eq!(report["chains"][1]["last_sequence"], 2);

    let (lines, _) = exported(&site.run(&EXPORT).await);
    let own: Vec<_> = lines.iter().filter(|line| line["chain"] == "cli").collect();
    let actions: Vec<_> = own.iter().map(|line| line["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["cli.audit.verify", "cli.audit.verify", "cli.audit.export"]);
    for line in own {
        assert!(line["caller"].as_str().unwrap().starts_with("cli:"), "{line}");
        assert_eq!((&line["callerMethod"], &line["resource"]), (&"cli".into(), &"gateway".into()));
        assert_eq!((&line["decision"], &line["code"]), (&"ALLOWED".into(), &0.into()));
    }
}

#[tokio::test]
async fn a_changed_event_is_detected_and_reported() {
    let site = site().await;
    let mut segment = SegmentFile::read(site.folder.path(), "serve-test");
    segment.replace("because-of-4", "because-of-5");
    segment.correct_checksums();
    segment.write();
    let verified = site.run(&VERIFY).await;
    assert_eq!((verified.code, &*verified.stderr), (Some(1), ""));
    let line = "serve-test: CHANGED at event 5, of events 1 to 8\n";
    assert!(verified.stdout.starts_with(line), "{}", verified.stdout);
    assert!(verified.stdout.contains("cli: intact"), "{}", verified.stdout);
    let verified = site.run(&["audit", "verify", "--output", "json"]).await;
    assert_eq!(verified.code, Some(1));
    let report: Value = serde_json::from_str(&verified.stdout).unwrap();
    let chain = &report["chains"][0];
    assert_eq!((&chain["fault"], &chain["fault_sequence"]), (&"CHANGED".into(), &5.into()));
    assert_eq!(report["damages"], Value::Array(Vec::new()));
}

#[tokio::test]
async fn a_damaged_file_is_reported_with_the_place() {
    let site = site().await;
    write(&site, "serve-test", 8..10).await;
    let mut segment = SegmentFile::read(site.folder.path(), "serve-test");
    let group = segment.groups()[0].start;
    segment.replace("because-of-4", "because-of-5");
    segment.write();
    let verified = site.run(&VERIFY).await;
    assert_eq!(verified.code, Some(1), "{verified:?}");
    assert!(verified.stdout.contains("serve-test: MISSING at event 1"), "{verified:?}");
    let file = "serve-test/0000000000000000001.seg";
    let line = format!("damaged: {file}, byte {group}: ");
    assert!(verified.stdout.contains(&line), "{verified:?}");
    let verified = site.run(&["audit", "verify", "--output", "json"]).await;
    let report: Value = serde_json::from_str(&verified.stdout).unwrap();
    assert_eq!(report["intact"], false);
    assert_eq!(report["damages"][0]["offset"], group);
    assert_eq!(report["damages"][0]["file"], file);
}

#[tokio::test]
async fn removed_events_are_detected_and_reported() {
    let site = Site::new().await;
    for numbers in [0..2, 2..3, 3..8] {
        write(&site, "serve-test", numbers).await;
    }
    let mut segment = SegmentFile::read(site.folder.path(), "serve-test");
    segment.remove(1);
    segment.write();
    let said = site.run(&VERIFY).await;
    assert!(said.stdout.contains("serve-test: MISSING at event 3"), "{said:?}");
    let finished = site.run(&EXPORT).await;
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert_eq!(sequences(&lines(&finished.stdout), "serve-test"), [1, 2, 4, 5, 6, 7, 8]);
    assert!(finished.stderr.contains("events 3 to 3 of chain serve-test are missing"));
}

#[tokio::test]
async fn a_removed_last_event_is_found_by_the_head_in_the_store() {
    let site = site().await;
    site.run(&VERIFY).await.succeeded();
    site.run(&VERIFY).await.succeeded();
    let mut segment = SegmentFile::read(site.folder.path(), "cli");
    segment.remove(1);
    segment.write();
    // The verification writes another second event.
    let said = site.run(&VERIFY).await;
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.stdout.contains("cli: CHANGED at event 2"), "{said:?}");
}

#[tokio::test]
async fn a_later_signature_does_not_make_a_rewritten_chain_valid() {
    let site = site().await;
    site.run(&VERIFY).await.succeeded();
    let mut segment = SegmentFile::read(site.folder.path(), "cli");
    // The last byte of the signature.
    let end = segment.groups()[0].end;
    segment.bytes[end - 9] ^= 1;
    segment.correct_checksums();
    segment.write();
    for _ in 0..2 {
        let said = site.run(&VERIFY).await;
        assert_eq!(said.code, Some(1), "{said:?}");
        assert!(said.stdout.contains("cli: BAD_SIGNATURE"), "{said:?}");
        assert!(said.stdout.contains("cli-2: intact"), "{said:?}");
    }
}

#[tokio::test]
async fn commands_leave_a_damaged_chain_and_continue_another_one() {
    let site = site().await;
    site.run(&VERIFY).await.succeeded();
    let mut segment = SegmentFile::read(site.folder.path(), "cli");
    let group = segment.groups()[0].start;
    segment.bytes[group + 100] ^= 1;
    segment.write();
    let said = site.run(&VERIFY).await;
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.stdout.contains("cli: MISSING at event 1"), "{said:?}");
    assert!(said.stdout.contains("cli-2: intact"), "{said:?}");
}

#[tokio::test]
async fn an_export_continues_after_the_last_one_without_gaps_or_duplicates() {
    let site = site().await;
    let (first, cursor) = exported(&site.run(&EXPORT).await);
    assert_eq!(sequences(&first, "serve-test"), (1..=8).collect::<Vec<_>>());
    let line = &first[3];
    assert_eq!(line["time"], "2027-01-15T08:00:03Z");
    assert_eq!((&line["requestId"], &line["reason"]), (&"r-3".into(), &"because-of-3".into()));
    assert_eq!(line["policyIds"], Value::Array(Vec::new()));
    assert_eq!(line["previousHash"], first[2]["hash"]);
    let hash = line["hash"].as_str().unwrap();
    assert!(hash.len() == 64 && hash.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')));

    write(&site, "serve-test", 8..12).await;
    write(&site, "serve-later", 0..2).await;
    let cursor = cursor.unwrap();
    let (second, cursor) = exported(&site.run(&["audit", "export", "--cursor", &cursor]).await);
    let (third, _) = exported(&site.run(&["audit", "export", "--cursor", &cursor.unwrap()]).await);
    let mut all = positions(&first);
    all.extend(positions(&second));
    all.extend(positions(&third));
    assert_eq!(all.len(), all.iter().collect::<BTreeSet<_>>().len(), "doubles");
    let chains = [("serve-test", 12), ("serve-later", 2), ("cli", 3)];
    for (chain, last) in chains {
        let of: Vec<i64> =
            all.iter().filter(|(of, _)| of == chain).map(|(_, sequence)| *sequence).collect();
        assert_eq!(of, (1..=last).collect::<Vec<_>>(), "{chain}");
    }
}

#[tokio::test]
async fn a_cursor_file_advances_also_over_filtered_events() {
    let site = site().await;
    let path = site.file("audit.cursor");
    let path = path.to_str().unwrap();
    let export = ["audit", "export", "--cursor-file", path, "--filter", "request_id = r-2"];
    let (first, told) = exported(&site.run(&export).await);
    assert_eq!((positions(&first), told), (vec![("serve-test".to_owned(), 3)], None));
    write(&site, "serve-test", 8..10).await;
    let (second, _) = exported(&site.run(&["audit", "export", "--cursor-file", path]).await);
    assert_eq!(sequences(&second, "serve-test"), [9, 10]);
    let mut left: Vec<_> = fs::read_dir(site.folder.path()).unwrap().map(|e| e.unwrap()).collect();
    left.retain(|entry| entry.file_name().to_str().unwrap().starts_with("audit.cursor"));
    assert_eq!(left.len(), 1);
}

#[tokio::test]
async fn altered_and_foreign_cursors_are_refused_with_advice() {
    let site = site().await;
    let (_, cursor) = exported(&site.run(&EXPORT).await);
    let cursor = cursor.unwrap();
    let refused = async |site: &Site, cursor: &str| {
        site.run(&["audit", "export", "--cursor", cursor]).await.failed(2)
    };
    let mut altered = cursor.clone().into_bytes();
    altered[30] = if altered[30] == b'A' { b'B' } else { b'A' };
    let altered = String::from_utf8(altered).unwrap();
    for text in ["", "x", "audit1.", "audit1.!!!", &cursor[..cursor.len() - 4], &altered] {
        let said = refused(&site, text).await;
        assert!(
            said.contains("--cursor: it is not a complete cursor") && said.contains("give the"),
            "{said}"
        );
    }
    let path = site.file("broken.cursor");
    fs::write(&path, "").unwrap();
    let path = path.to_str().unwrap();
    let said = site.run(&["audit", "export", "--cursor-file", path]).await.failed(2);
    assert!(said.contains(path), "{said}");
    let both = ["audit", "export", "--cursor", "x", "--cursor-file", path];
    assert_eq!(site.run(&both).await.code, Some(2));

    // A cursor of another store, which has no such chain, another chain of that name, or a shorter one.
    let other = Site::new().await;
    assert!(refused(&other, &cursor).await.contains("does not have"));
    write(&other, "serve-test", 0..3).await;
    other.run(&VERIFY).await.succeeded();
    let said = refused(&other, &cursor).await;
    assert!(said.contains("another store?"), "{said}");
    // Replaces a segment with an older copy.
    let older = SegmentFile::read(site.folder.path(), "serve-test");
    write(&site, "serve-test", 8..10).await;
    let (_, newer) = exported(&site.run(&["audit", "export", "--cursor", &cursor]).await);
    older.write();
    let said = refused(&site, &newer.unwrap()).await;
    assert!(said.contains("this store ends with event"), "{said}");
    let (lines, _) = exported(&site.run(&["audit", "export", "--cursor", &cursor]).await);
    assert_eq!(sequences(&lines, "serve-test"), [0; 0]);
}

#[tokio::test]
async fn events_removed_before_their_export_are_reported() {
    let site = site().await;
    let (_, cursor) = exported(&site.run(&EXPORT).await);
    write(&site, "serve-test", 8..12).await;
    let audit_writer = AuditWriter::open(&site.file("gateway.toml")).await;
    audit_writer.prune().await;
    audit_writer.serve("serve-test", [event("r-12", &name("Cust1"))]).await;
    audit_writer.close().await;
    let finished = site.run(&["audit", "export", "--cursor", &cursor.unwrap()]).await;
    let told = "warning: events 9 to 12 of chain serve-test were removed by retention";
    assert!(finished.stderr.contains(told), "{finished:?}");
    let (lines, _) = exported(&finished);
    assert_eq!(sequences(&lines, "serve-test"), [13]);
    let said = site.run(&VERIFY).await.succeeded();
    assert!(said.starts_with("serve-test: intact, events 13 to 13\n"), "{said}");
}

#[tokio::test]
async fn an_invalid_filter_is_refused_with_the_position() {
    let site = site().await;
    let said = site.run(&["audit", "export", "--filter", "caler = x"]).await.failed(2);
    assert!(said.contains("--filter: ") && said.contains("(at byte 0)"), "{said}");
}

#[tokio::test]
async fn follow_prints_new_events_and_a_signal_ends_it_gracefully() {
    for signal in [Signal::TERM, Signal::INT] {
        let site = site().await;
        let path = site.file("audit.cursor");
        let path = path.to_str().unwrap();
        let arguments = ["audit", "export", "--follow", "--cursor-file", path];
        let mut process = Process::start(site.command(&arguments));
        let until = |process: &Process, last: i64| {
            let found = lines(&whole_lines(&process.stdout()));
            sequences(&found, "serve-test").contains(&last).then_some(())
        };
        process.until("prints what is there", |process| until(process, 8)).await;
        write(&site, "serve-test", 8..10).await;
        process.until("prints what is new", |process| until(process, 10)).await;
        process.signal(signal);
        let finished = process.finished().await;
        assert_eq!((finished.code, &*finished.stderr), (Some(0), ""), "{finished:?}");
        let printed = sequences(&lines(&finished.stdout), "serve-test");
        assert_eq!(printed, (1..=10).collect::<Vec<_>>());
        let (rest, _) = exported(&site.run(&["audit", "export", "--cursor-file", path]).await);
        assert_eq!(sequences(&rest, "serve-test"), [0; 0]);
    }
}

fn whole_lines(text: &str) -> String {
    text.split_inclusive('\n').filter(|line| line.ends_with('\n')).collect()
}

#[tokio::test]
async fn follow_ends_when_its_output_is_closed() {
    let site = site().await;
    let mut command = site.command(&["audit", "export", "--follow"]);
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    assert!(line.starts_with("{\"chain\":\"serve-test\""), "{line}");
    drop(out);
    let ended = tokio::task::spawn_blocking(move || child.wait_with_output());
    let ended = tokio::time::timeout(std::time::Duration::from_secs(15), ended).await;
    let output = ended.unwrap().unwrap().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}
