//! Verification over several segments, by blocks of events with heads, and chains that are prepared and have no event.

use std::{path::Path, sync::Arc};

use tempfile::TempDir;

use super::{Author, KEYS, Role, at, open_in, ports, root, settings, verify};
use crate::{
    audit::{Verification, fakes::MemoryAudit},
    crypto::AuditKeys,
    domain::{AuditFault, AuditFaultKind, AuditRow, SignedPoint},
    journal::{
        Journal,
        files::simulated::Simulated,
        names::{first_of_segment, segment_name},
        probe::correct_checksums,
    },
    ports::{AuditGroup, AuditStore as _, EventBlock, StoredHeads},
};

const CHAIN: &str = "serve-1";

/// Writes a chain of several segments.
async fn write(journal: &Journal) -> Vec<AuditGroup> {
    let mut author = Author::new(CHAIN);
    let groups: Vec<AuditGroup> = (0..200).map(|_| author.group(10, 2000)).collect();
    for group in &groups {
        journal.append(group).await.unwrap();
    }
    groups
}

async fn blocks(journal: &Journal, heads: StoredHeads) -> Vec<EventBlock> {
    let (mut blocks, mut after) = (Vec::new(), 0);
    loop {
        let block = journal.event_block(CHAIN, after, heads).await.unwrap();
        let Some(last) = block.last_sequence() else { return blocks };
        assert!(last > after);
        after = last;
        blocks.push(block);
    }
}

fn heads(blocks: &[EventBlock]) -> Vec<SignedPoint> {
    let chain: Arc<str> = CHAIN.into();
    blocks.iter().flat_map(|block| block.heads(&chain).collect::<Vec<_>>()).collect()
}

/// The first numbers of the segments in a directory.
fn firsts(directory: &Path) -> Vec<i64> {
    let entries = std::fs::read_dir(directory.join(CHAIN)).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut firsts: Vec<i64> = names.filter_map(|name| first_of_segment(&name)).collect();
    firsts.sort_unstable();
    firsts
}

#[tokio::test]
async fn blocks_have_all_events_and_the_last_head_of_each_segment() {
    let directory = TempDir::new().unwrap();
    let journal = Journal::open(settings(directory.path(), Role::Server), ports()).unwrap();
    let groups = write(&journal).await;
    let rows: Vec<AuditRow> = groups.iter().flat_map(|group| group.rows.clone()).collect();
    let firsts = firsts(directory.path());
    assert!(firsts.len() > 2, "{firsts:?}");
    for round in 0..3 {
        // Read anew, read again, and compressed.
        if round == 2 {
            assert_ne!(journal.compress(at(0)).await.unwrap(), 0);
        }
        let ends = blocks(&journal, StoredHeads::LastOfFiles).await;
        assert!(ends.len() > 3);
        assert!(ends.iter().flat_map(EventBlock::events).eq(rows.iter().map(AuditRow::view)));
        assert!(ends.iter().all(|block| block.body_bytes() < 1_100_000));
        let wanted: Vec<SignedPoint> = groups
            .iter()
            .map(|group| group.head.clone())
            .filter(|head| {
                let next = head.point.sequence + 1;
                firsts.contains(&next) || next > 2_000
            })
            .collect();
        assert_eq!(heads(&ends), wanted);
        let all = heads(&blocks(&journal, StoredHeads::All).await);
        assert!(all.iter().eq(groups.iter().map(|group| &group.head)));
    }
    // Another process, which has read only the ends.
    let reader = Journal::open(settings(directory.path(), Role::Command), ports()).unwrap();
    assert_eq!(reader.chains().await.unwrap()[0].head, groups[199].head);
    let ends = blocks(&reader, StoredHeads::LastOfFiles).await;
    assert!(ends.iter().flat_map(EventBlock::events).eq(rows.iter().map(AuditRow::view)));
    assert_eq!(journal.damages(), []);
}

#[tokio::test]
async fn the_last_head_of_each_segment_is_verified() {
    let directory = TempDir::new().unwrap();
    let journal = Journal::open(settings(directory.path(), Role::Server), ports()).unwrap();
    write(&journal).await;
    journal.close().await.unwrap();
    let path = |first: i64| directory.path().join(CHAIN).join(segment_name(first));
    let second = firsts(directory.path())[1];
    let mut bytes = std::fs::read(path(1)).unwrap();
    // The last byte of the signature behind the last group.
    let signature = bytes.len() - 9;
    bytes[signature] ^= 1;
    correct_checksums(&mut bytes);
    std::fs::write(path(1), bytes).unwrap();
    let journal = Journal::open(settings(directory.path(), Role::Command), ports()).unwrap();
    let report = &verify(&journal).await[0];
    let fault = AuditFault { kind: AuditFaultKind::BadSignature, sequence: second - 1 };
    assert_eq!(report.fault, Some(fault));
}

#[tokio::test]
async fn progress_counts_each_event_once() {
    let disk = Simulated::default();
    let journal = open_in(Arc::new(disk), &root(), Role::Server);
    write(&journal).await;
    let keys: Arc<AuditKeys> = Arc::clone(&KEYS);
    let heads = Arc::new(MemoryAudit::default());
    let verification = Verification::new(Arc::new(journal.clone()), heads, keys);
    let mut seen = Vec::new();
    let reports = verification.run(|progress| seen.push(progress.done)).await.unwrap();
    assert!(reports[0].intact(), "{reports:?}");
    assert!(seen.len() > 3 && seen.is_sorted() && seen.last() == Some(&2_000), "{seen:?}");
}

#[tokio::test]
async fn a_prepared_chain_is_no_chain_before_its_first_group() {
    let directory = TempDir::new().unwrap();
    let journal = Journal::open(settings(directory.path(), Role::Server), ports()).unwrap();
    let next = directory.path().join(CHAIN).join("next.new");
    let name: Arc<str> = CHAIN.into();
    for _ in 0..2 {
        journal.prepare(&name).await.unwrap();
        assert_eq!(std::fs::metadata(&next).unwrap().len(), 1024 * 1024);
        assert_eq!(journal.chains().await.unwrap(), []);
        assert_eq!(journal.chain(CHAIN).await.unwrap(), None);
        assert_eq!(verify(&journal).await, []);
        assert_eq!(journal.compress(at(0)).await.unwrap(), 0);
        // An unused file is removed.
        journal.close().await.unwrap();
        assert!(!next.exists());
    }
    journal.prepare(&name).await.unwrap();
    let group = Author::new(CHAIN).group(2, 10);
    journal.append(&group).await.unwrap();
    assert!(!next.exists());
    assert_eq!(firsts(directory.path()), [1]);
    assert_eq!(journal.events(CHAIN, 0, 10).await.unwrap(), group.rows);
    // A chain that has events needs no preparation, and a command prepares nothing.
    journal.prepare(&name).await.unwrap();
    let command = Journal::open(settings(directory.path(), Role::Command), ports()).unwrap();
    command.prepare(&"cli".into()).await.unwrap();
    assert!(!next.exists() && !directory.path().join("cli").exists());
    assert_eq!(journal.damages(), []);
}
