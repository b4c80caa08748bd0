//! Lists over several segments, retention, roles, and the thread that writes.

use std::{path::Path, sync::Arc, time::Duration};

use tempfile::TempDir;

use super::{Author, Role, at, open_in, ports, root, settings, sign, verify};
use crate::{
    domain::{AuditChainReport, AuditRow, AuditSignature, ChainPoint, SignedPoint, Statement},
    journal::{
        Journal, OpenError,
        files::{Disk, simulated::Simulated},
        names,
    },
    ports::{AuditGroup, AuditPosition, AuditStore, StoreError, TimeSpan},
};

fn group(chain: &str, times: &[(i64, i64)]) -> AuditGroup {
    let row = |(sequence, time): &(i64, i64)| AuditRow {
        sequence: *sequence,
        time: at(*time),
        hash: [u8::try_from(*sequence).unwrap(); 32],
        body: vec![b'x'; 2000],
    };
    let rows: Vec<AuditRow> = times.iter().map(row).collect();
    let AuditRow { sequence, time, hash, .. } = *rows.last().unwrap();
    let point = ChainPoint { chain: chain.into(), sequence, hash, time };
    let signature = AuditSignature { key_id: "k".into(), bytes: vec![1; 64] };
    AuditGroup { rows, head: SignedPoint { point, signature } }
}

/// Lists everything in pages.
async fn pages(journal: &Journal, span: TimeSpan, limit: u32) -> Vec<(String, i64)> {
    let mut listed = Vec::new();
    let mut position: Option<AuditPosition> = None;
    loop {
        let page = journal.newest_events(span, position.as_ref(), limit).await.unwrap();
        let Some(last) = page.last() else { return listed };
        position = Some(last.position());
        listed.extend(page.iter().map(|event| (event.chain.to_string(), event.row.sequence)));
    }
}

#[tokio::test]
async fn a_clock_that_was_set_back_changes_no_order_within_a_chain_and_hides_nothing() {
    let disk = Simulated::default();
    let journal = open_in(Arc::new(disk), &root(), Role::Command);
    // The clock of `a` was an hour ahead for two events.
    let times = [10, 20, 3600, 3610, 30, 40, 50];
    for (sequence, time) in (1..).zip(times) {
        journal.append(&group("a", &[(sequence, time)])).await.unwrap();
    }
    for (sequence, time) in (1..).zip([15, 25, 35, 45, 3605]) {
        journal.append(&group("b", &[(sequence, time)])).await.unwrap();
    }
    for limit in [1, 2, 3, 5, 100] {
        let all = pages(&journal, TimeSpan::default(), limit).await;
        assert_eq!(all.len(), 12, "{all:?}");
        for chain in ["a", "b"] {
            let numbers: Vec<i64> =
                all.iter().filter(|(name, _)| name == chain).map(|(_, number)| *number).collect();
            assert!(numbers.is_sorted_by(|one, next| one > next), "{limit}: {all:?}");
        }
        let span = TimeSpan { from: at(20), to: at(45) };
        let mut within = pages(&journal, span, limit).await;
        within.sort();
        let wanted = [("a", 2), ("a", 5), ("a", 6), ("b", 2), ("b", 3), ("b", 4)];
        assert_eq!(within, wanted.map(|(chain, number)| (chain.to_owned(), number)));
    }
}

async fn fill(journal: &Journal, groups: i64) -> Vec<AuditGroup> {
    let mut author = Author::new("serve-1");
    let groups: Vec<AuditGroup> = (0..groups).map(|_| author.group(10, 1500)).collect();
    for group in &groups {
        journal.append(group).await.unwrap();
    }
    groups
}

fn segments(directory: &Path) -> Vec<(String, u64)> {
    let mut names: Vec<(String, u64)> = std::fs::read_dir(directory.join("serve-1"))
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), entry.metadata().unwrap().len()))
        .filter(|(name, _)| names::first_of_segment(name).is_some())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn several_segments_are_one_chain_and_retention_removes_whole_ones() {
    let directory = TempDir::new().unwrap();
    let settings = settings(directory.path(), Role::Server);
    let journal = Journal::open(settings.clone(), ports()).unwrap();
    let groups = fill(&journal, 250).await;
    let before = segments(directory.path());
    assert!(before.len() >= 4, "{before:?}");
    // Only the newest one has zeros at its end.
    assert!(before[..before.len() - 1].iter().all(|(_, length)| length % 4096 != 0), "{before:?}");
    let rows: Vec<AuditRow> = groups.iter().flat_map(|group| group.rows.clone()).collect();
    assert_eq!(journal.events("serve-1", 0, 10_000).await.unwrap(), rows);
    assert_eq!(journal.events("serve-1", 1234, 3).await.unwrap(), rows[1234..1237]);
    assert_eq!(journal.events("serve-1", i64::MAX, 3).await.unwrap(), []);
    assert_eq!(journal.events("serve-1", i64::MIN, 1).await.unwrap(), rows[..1]);
    let span = TimeSpan { from: at(600), to: at(1400) };
    let listed = pages(&journal, span, 300).await;
    assert!(listed.iter().map(|(_, number)| *number).eq((600..=1400).rev()));

    let AuditRow { sequence, hash, time, .. } = rows[1499];
    let point = ChainPoint { chain: "serve-1".into(), sequence, hash, time };
    journal.prune(&sign(point, Statement::Checkpoint)).await.unwrap();
    let after = segments(directory.path());
    assert!(after.len() < before.len() && before.ends_with(&after), "{after:?}");
    assert_eq!(journal.events("serve-1", 0, 10_000).await.unwrap(), rows[1500..]);
    assert_eq!(pages(&journal, TimeSpan::default(), 1000).await.len(), 1000);
    let reports = verify(&journal).await;
    assert!(reports.iter().all(AuditChainReport::intact), "{reports:?}");
    assert_eq!(journal.damages(), []);
    // The rest of the last segment is given back.
    journal.close().await.unwrap();
    drop(journal);
    assert_ne!(segments(directory.path()).last().unwrap().1 % 4096, 0);
    let journal = Journal::open(settings, ports()).unwrap();
    assert_eq!(journal.events("serve-1", 0, 10_000).await.unwrap(), rows[1500..]);
}

#[tokio::test]
async fn compressed_segments_are_read_and_continued_like_others() {
    let directory = TempDir::new().unwrap();
    let journal = Journal::open(settings(directory.path(), Role::Server), ports()).unwrap();
    let mut author = Author::new("serve-1");
    let mut rows: Vec<AuditRow> = Vec::new();
    for _ in 0..150 {
        let group = author.group(10, 1500);
        journal.append(&group).await.unwrap();
        rows.extend(group.rows);
    }
    let before = segments(directory.path());
    assert_eq!(before.len(), 3);
    assert_eq!(journal.compress(at(1_000_000)).await.unwrap(), 2, "the last one is being written");
    assert_eq!(journal.compress(at(1_000_000)).await.unwrap(), 0);
    let after = segments(directory.path());
    assert!(
        before[..2].iter().zip(&after).all(|(plain, small)| small.1 < plain.1 / 4),
        "{after:?}"
    );
    assert_eq!(journal.events("serve-1", 0, 10_000).await.unwrap(), rows);
    assert_eq!(journal.events("serve-1", 333, 2).await.unwrap(), rows[333..335]);
    journal.close().await.unwrap();
    drop(journal);
    // Another process: the last segment is idle, and the next group begins a new one.
    let journal = open_in(Arc::new(Disk), directory.path(), Role::Command);
    assert_eq!(journal.compress(at(0)).await.unwrap(), 0, "it is not idle for long enough");
    assert_eq!(journal.compress(at(1_000_000)).await.unwrap(), 1);
    assert_eq!(journal.events("serve-1", 0, 10_000).await.unwrap(), rows);
    let group = author.group(1, 10);
    journal.append(&group).await.unwrap();
    rows.extend(group.rows);
    assert_eq!(segments(directory.path()).len(), 4);
    assert_eq!(journal.events("serve-1", 0, 10_000).await.unwrap(), rows);
    let reports = verify(&journal).await;
    assert!(reports.iter().all(AuditChainReport::intact), "{reports:?}");
    assert_eq!(journal.damages(), []);
    // A changed byte of a compressed segment is named.
    let file = directory.path().join("serve-1").join(&after[1].0);
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[5000] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let journal = open_in(Arc::new(Disk), directory.path(), Role::Command);
    let reports = verify(&journal).await;
    assert!(!reports[0].intact(), "{reports:?}");
    assert!(journal.damages()[0].file == file, "{:?}", journal.damages());
}

#[tokio::test]
async fn the_next_segment_is_prepared_before_it_is_needed() {
    let directory = TempDir::new().unwrap();
    let journal = Journal::open(settings(directory.path(), Role::Server), ports()).unwrap();
    fill(&journal, 40).await;
    let next = directory.path().join("serve-1/next.new");
    while !next.exists() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    journal.close().await.unwrap();
    assert!(!next.exists());
}

#[tokio::test]
async fn two_servers_on_one_directory_are_refused() {
    let directory = TempDir::new().unwrap();
    let server = Journal::open(settings(directory.path(), Role::Server), ports()).unwrap();
    let second = Journal::open(settings(directory.path(), Role::Server), ports());
    assert!(matches!(second, Err(OpenError::AlreadyServed { .. })), "{second:?}");
    // A command writes its own chain, and not that of the server.
    let command = open_in(Arc::new(Disk), directory.path(), Role::Command);
    server.append(&group("serve-1", &[(1, 1)])).await.unwrap();
    command.append(&group("cli", &[(1, 2)])).await.unwrap();
    assert_eq!(command.chains().await.unwrap().len(), 2);
    let chain = server.chain("cli").await.unwrap().unwrap();
    assert_eq!(chain.head.point.sequence, 1);
    drop(server);
    let mut again = Journal::open(settings(directory.path(), Role::Server), ports());
    for _ in 0..100 {
        // The thread of the first one may still be ending.
        if again.is_ok() {
            break;
        }
        again = Journal::open(settings(directory.path(), Role::Server), ports());
    }
    again.unwrap();
}

#[tokio::test]
async fn a_removed_or_replaced_journal_is_noticed_and_nothing_is_written_elsewhere() {
    let folder = TempDir::new().unwrap();
    let (directory, away) = (folder.path().join("audit"), folder.path().join("away"));
    let journal = Journal::open(settings(&directory, Role::Server), ports()).unwrap();
    let mut author = Author::new("serve-1");
    journal.append(&author.group(2, 10)).await.unwrap();
    let next = author.group(2, 10);
    let lost = |checked: Result<(), StoreError>| matches!(checked, Err(StoreError::Lost(_)));
    for chain_only in [false, true] {
        let part = if chain_only { directory.join("serve-1") } else { directory.clone() };
        journal.check_files().unwrap();
        std::fs::rename(&part, &away).unwrap();
        assert!(lost(journal.check_files()) && lost(journal.append(&next).await));
        assert!(!part.exists());
        // An empty directory or another server's does not count.
        std::fs::create_dir(&part).unwrap();
        std::fs::write(part.join("server.lock"), "").unwrap();
        assert!(lost(journal.check_files()) && lost(journal.append(&next).await));
        std::fs::remove_dir_all(&part).unwrap();
        std::fs::rename(&away, &part).unwrap();
        journal.check_files().unwrap();
    }
    journal.append(&next).await.unwrap();
    assert_eq!(journal.events("serve-1", 0, 10).await.unwrap().len(), 4);
    // Segments that replace each other are no loss.
    for _ in 0..150 {
        journal.append(&author.group(10, 1500)).await.unwrap();
    }
    journal.check_files().unwrap();
    journal.close().await.unwrap();
    std::fs::remove_dir_all(&directory).unwrap();
    journal.check_files().unwrap();
}

#[tokio::test]
async fn names_and_groups_that_cannot_be_stored_are_refused() {
    let disk = Simulated::default();
    let journal = open_in(Arc::new(disk), &root(), Role::Command);
    let long = "x".repeat(65);
    for chain in ["", &long] {
        let refused = journal.append(&group(chain, &[(1, 1)])).await;
        assert!(matches!(refused, Err(StoreError::Corrupt(_))), "{refused:?}");
        assert_eq!(journal.chain(chain).await.unwrap(), None);
    }
    let mut wrong = group("a", &[(1, 1), (2, 2)]);
    wrong.head.point.sequence = 1;
    assert!(matches!(journal.append(&wrong).await, Err(StoreError::Corrupt(_))));
    let mut wrong = group("a", &[(1, 1), (3, 2)]);
    wrong.head.point.sequence = 3;
    assert!(matches!(journal.append(&wrong).await, Err(StoreError::Corrupt(_))));
    let mut long = group("a", &[(1, 1)]);
    long.rows[0].body = vec![0; 16 * 1024 * 1024];
    assert!(matches!(journal.append(&long).await, Err(StoreError::Corrupt(_))));
    // One that is longer than a segment gets a segment of its own.
    let mut long = group("a", &[(1, 1)]);
    long.rows[0].body = vec![b'y'; 3 * 1024 * 1024];
    journal.append(&long).await.unwrap();
    journal.append(&group("a", &[(2, 2)])).await.unwrap();
    assert_eq!(journal.events("a", 0, 10).await.unwrap().len(), 2);
}
