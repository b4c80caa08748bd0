use std::sync::Arc;

use jiff::Timestamp;

use super::*;
use crate::domain::{AuditEvent, AuditRecord, AuditSignature, ChainPoint, Decision, SignedPoint};

fn digest(message: &[u8]) -> AuditHash {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, message);
    digest.as_ref().try_into().unwrap()
}

fn rows(count: i64) -> Vec<AuditRow> {
    let mut previous_hash = NO_HASH;
    let row = |sequence| {
        let mut event = AuditEvent {
            chain: "cli".into(),
            sequence,
            time: Timestamp::from_second(sequence).unwrap(),
            record: AuditRecord::new("readTenants", Decision::Allowed),
            links: Vec::new(),
            previous_hash,
            hash: NO_HASH,
        };
        let row = event.seal(digest);
        previous_hash = row.hash;
        row
    };
    (1..=count).map(row).collect()
}

fn signed(row: &AuditRow) -> SignedPoint {
    let AuditRow { sequence, time, hash, .. } = *row;
    let point = ChainPoint { chain: "cli".into(), sequence, hash, time };
    SignedPoint { point, signature: AuditSignature { key_id: "k".into(), bytes: Vec::new() } }
}

/// Returns the fault of a chain of five events whose rows were `altered` and whose head was not.
fn fault(altered: impl FnOnce(&mut Vec<AuditRow>)) -> Option<(AuditFaultKind, i64)> {
    let mut rows = rows(5);
    let state = ChainState { head: signed(&rows[4]), checkpoint: None };
    altered(&mut rows);
    let mut verifier = ChainVerifier::new(state, digest, false);
    for row in &rows {
        verifier.feed(row);
    }
    verifier.finish(true).0.fault.map(|fault| (fault.kind, fault.sequence))
}

#[test]
fn an_intact_chain_has_no_fault() {
    assert_eq!(fault(|_| ()), None);
}

#[test]
fn reports_the_first_fault_with_its_position() {
    use AuditFaultKind::{BadSignature, Changed, Missing, Reordered, Truncated};
    assert_eq!(fault(|rows| rows[2].body[40] ^= 1), Some((Changed, 3)));
    assert_eq!(fault(|rows| rows[2].hash[0] ^= 1), Some((Changed, 3)));
    assert_eq!(fault(|rows| rows[2].time = Timestamp::UNIX_EPOCH), Some((Changed, 3)));
    assert_eq!(fault(|rows| rows[2].body.clear()), Some((Changed, 3)));
    assert_eq!(fault(|rows| drop(rows.remove(2))), Some((Missing, 3)));
    assert_eq!(fault(|rows| drop(rows.remove(0))), Some((Missing, 1)));
    assert_eq!(fault(|rows| drop(rows.pop())), Some((Truncated, 5)));
    assert_eq!(fault(Vec::clear), Some((Truncated, 1)));
    let swap = |rows: &mut Vec<AuditRow>| {
        rows.swap(1, 3);
        (rows[1].sequence, rows[3].sequence) = (2, 4);
    };
    assert_eq!(fault(swap), Some((Reordered, 2)));
    let more = |all: &mut Vec<AuditRow>| *all = rows(6);
    assert_eq!(fault(more), Some((BadSignature, 6)));
    // The first of two faults is reported.
    let two = |rows: &mut Vec<AuditRow>| {
        rows[3].body.clear();
        rows[1].body.clear();
    };
    assert_eq!(fault(two), Some((Changed, 2)));
}

#[test]
fn an_event_with_a_reason_of_a_newer_release_is_intact_and_keeps_it() {
    let mut event = AuditEvent::read(&Arc::from("cli"), &rows(1)[0]).unwrap();
    event.record.unknown_reason = "REASON_OF_TOMORROW".into();
    let row = event.seal(digest);
    let state = ChainState { head: signed(&row), checkpoint: None };
    let mut verifier = ChainVerifier::new(state, digest, false);
    assert!(verifier.feed(&row));
    assert_eq!(verifier.finish(true).0.fault, None);
    let read = AuditEvent::read(&event.chain, &row).unwrap();
    assert_eq!((read.record.error_reason, &read), (None, &event));
    assert_eq!(read.record.error_reason_name(), "REASON_OF_TOMORROW");
}

/// Rewrites one event with a matching hash.
fn rewrite(row: &mut AuditRow) {
    let mut event = AuditEvent::read(&Arc::from("cli"), row).unwrap();
    event.record.caller = "somebody else".into();
    *row = event.seal(digest);
}

#[test]
fn the_next_event_reveals_a_rewritten_event() {
    assert_eq!(fault(|rows| rewrite(&mut rows[2])), Some((AuditFaultKind::Changed, 3)));
    assert_eq!(fault(|rows| rewrite(&mut rows[4])), Some((AuditFaultKind::Changed, 5)));
}

#[test]
fn a_pruned_chain_starts_after_a_signed_checkpoint() {
    let rows = rows(5);
    let state = ChainState { head: signed(&rows[4]), checkpoint: Some(signed(&rows[1])) };
    for (from, trusted, wanted) in [
        (2, true, None),
        (2, false, Some((AuditFaultKind::BadSignature, 2))),
        (3, true, Some((AuditFaultKind::Missing, 3))),
    ] {
        let mut verifier = ChainVerifier::new(state.clone(), digest, trusted);
        for row in &rows[from..] {
            verifier.feed(row);
        }
        let (report, _) = verifier.finish(true);
        let found = report.fault.map(|fault| (fault.kind, fault.sequence));
        assert_eq!((found, report.first_sequence, report.last_sequence), (wanted, 3, 5));
    }
    let all = ChainState { head: signed(&rows[4]), checkpoint: Some(signed(&rows[4])) };
    assert_eq!(ChainVerifier::new(all, digest, true).finish(true).0.fault, None);
}

#[test]
fn rejects_a_chain_with_an_unsigned_head() {
    let rows = rows(2);
    let state = ChainState { head: signed(&rows[1]), checkpoint: None };
    let mut verifier = ChainVerifier::new(state, digest, false);
    assert!(rows.iter().all(|row| verifier.feed(row)));
    let (report, links) = verifier.finish(false);
    let fault = AuditFault { kind: AuditFaultKind::BadSignature, sequence: 2 };
    assert_eq!((report.fault, links), (Some(fault), Vec::new()));
}

#[test]
fn a_stored_head_with_a_bad_signature_is_the_first_fault_before_a_later_one() {
    let rows = rows(4);
    let state = ChainState { head: signed(&rows[3]), checkpoint: None };
    let mut verifier = ChainVerifier::new(state, digest, false);
    verifier.feed(&rows[0]);
    verifier.feed(&rows[1]);
    verifier.feed(&rows[3]);
    verifier.reject_head(4);
    let missing = AuditFault { kind: AuditFaultKind::Missing, sequence: 3 };
    assert_eq!(verifier.fault(), Some(missing));
    verifier.reject_head(2);
    let rejected = AuditFault { kind: AuditFaultKind::BadSignature, sequence: 2 };
    assert_eq!(verifier.finish(true).0.fault, Some(rejected));
}

#[test]
fn the_record_of_a_newer_release_is_not_decoded() {
    let mut row = rows(1).remove(0);
    row.body.extend_from_slice(b"more fields");
    row.hash = digest(&[&hashed_prefix("cli")[..], &row.body].concat());
    let state = ChainState { head: signed(&row), checkpoint: None };
    let mut verifier = ChainVerifier::new(state, digest, false);
    assert!(verifier.feed(&row));
    assert!(AuditEvent::read(&Arc::from("cli"), &row).is_err());
}
