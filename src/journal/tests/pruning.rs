//! Removing segments: behind a checkpoint, after a crash, and on a full volume.

use std::{path::PathBuf, sync::Arc};

use tempfile::TempDir;

use super::{Author, Role, at, open_in, ports, root, settings, sign, verify};
use crate::{
    domain::{AuditRow, ChainPoint, SignedPoint, Statement},
    journal::{
        Journal,
        files::{
            Files as _,
            simulated::{Failure, PowerLoss, Simulated},
        },
        names::{NEXT_SEGMENT, RESERVE, segment_name},
    },
    ports::{AuditStore as _, TimeSpan},
};

const CHAIN: &str = "serve-1";

/// A chain of four segments. Each has two groups with one event.
struct Site {
    disk: Simulated,
    journal: Journal,
    author: Author,
    rows: Vec<AuditRow>,
}

impl Site {
    async fn new(role: Role) -> Self {
        let disk = Simulated::default();
        let journal = open_in(Arc::new(disk.clone()), &root(), role);
        let mut site = Self { disk, journal, author: Author::new(CHAIN), rows: Vec::new() };
        for _ in 0..7 {
            site.append().await;
        }
        assert_eq!(site.segments(), [1, 3, 5, 7]);
        site
    }

    async fn append(&mut self) {
        let group = self.author.group(1, 400_000);
        self.journal.append(&group).await.unwrap();
        self.rows.extend(group.rows);
    }

    /// Opens the journal as another process.
    fn reopen(&self) -> Journal {
        open_in(Arc::new(self.disk.clone()), &root(), Role::Command)
    }

    /// Returns a checkpoint at an event.
    fn checkpoint(&self, sequence: usize) -> SignedPoint {
        let AuditRow { sequence, hash, time, .. } = self.rows[sequence - 1];
        sign(ChainPoint { chain: CHAIN.into(), sequence, hash, time }, Statement::Checkpoint)
    }

    fn files(&self) -> Vec<String> {
        self.disk.list(&root().join(CHAIN)).unwrap()
    }

    /// Returns the numbers with which the segments begin.
    fn segments(&self) -> Vec<i64> {
        let names = self.files();
        let numbers = names.iter().filter_map(|name| name.strip_suffix(".seg"));
        numbers.map(|number| number.parse().unwrap()).collect()
    }
}

fn segment(first: i64) -> PathBuf {
    root().join(CHAIN).join(segment_name(first))
}

/// Checks that the journal has exactly these events, and that nothing is damaged.
async fn check(journal: &Journal, rows: &[AuditRow], what: &str) {
    assert!(journal.events(CHAIN, 0, 100).await.unwrap() == rows, "{what}");
    let listed = journal.newest_events(TimeSpan::default(), None, 100).await.unwrap();
    assert!(listed.iter().rev().map(|listed| &listed.row).eq(rows), "{what}");
    let reports = verify(journal).await;
    assert!(reports.len() == 1 && reports[0].intact(), "{what}: {reports:?}");
    assert_eq!(journal.damages(), [], "{what}");
}

#[tokio::test]
async fn segments_are_known_with_their_last_event_and_their_length() {
    let site = Site::new(Role::Server).await;
    let known = async || {
        let segments = site.journal.segments().await.unwrap();
        assert!(segments.iter().all(|segment| &*segment.chain == CHAIN));
        let facts = segments.iter().map(|one| (one.last_sequence, one.bytes, one.latest));
        facts.collect::<Vec<_>>()
    };
    let length = |first| site.disk.content(&segment(first)).unwrap().len() as u64;
    // The one that is written is not among them.
    let all = [(2, length(1), at(2)), (4, length(3), at(4)), (6, length(5), at(6))];
    assert_eq!(known().await, all);
    // A checkpoint within a segment removes nothing of the file.
    site.journal.prune(&site.checkpoint(3)).await.unwrap();
    assert_eq!((known().await, site.segments()), (all[1..].to_vec(), vec![3, 5, 7]));
    site.journal.prune(&site.checkpoint(4)).await.unwrap();
    assert_eq!((known().await, site.segments()), (all[2..].to_vec(), vec![5, 7]));
    check(&site.reopen(), &site.rows[4..], "pruned").await;
}

#[tokio::test]
async fn the_segment_with_the_head_stays_and_the_chain_goes_on() {
    let mut site = Site::new(Role::Server).await;
    site.journal.prune(&site.checkpoint(7)).await.unwrap();
    assert_eq!(site.segments(), [7]);
    check(&site.reopen(), &[], "all removed").await;
    site.append().await;
    site.append().await;
    check(&site.reopen(), &site.rows[7..], "continued").await;
    site.journal.prune(&site.checkpoint(8)).await.unwrap();
    assert_eq!(site.segments(), [9]);
    check(&site.reopen(), &site.rows[8..], "pruned again").await;
}

/// A chain that no process writes, whose last segment has two groups.
async fn idle_site() -> Site {
    let mut site = Site::new(Role::Command).await;
    site.append().await;
    assert_eq!(site.segments(), [1, 3, 5, 7]);
    site
}

#[tokio::test]
async fn a_chain_without_a_writer_keeps_only_its_last_group_when_all_events_are_removed() {
    for compressed in [false, true] {
        let mut site = idle_site().await;
        if compressed {
            assert_eq!(site.journal.compress(at(1000)).await.unwrap(), 4);
        }
        site.journal.prune(&site.checkpoint(8)).await.unwrap();
        assert_eq!(site.segments(), [8]);
        let state = site.reopen().chain(CHAIN).await.unwrap().unwrap();
        assert_eq!((state.head.point.sequence, state.length()), (8, 0));
        let length = site.disk.content(&segment(8)).unwrap().len();
        site.journal.finish_prune(CHAIN).await.unwrap();
        assert_eq!(site.disk.content(&segment(8)).unwrap().len(), length);
        check(&site.reopen(), &[], "shortened").await;
        site.append().await;
        check(&site.reopen(), &site.rows[8..], "continued").await;
    }
}

#[tokio::test]
async fn a_process_that_ends_while_it_shortens_a_chain_leaves_a_valid_chain() {
    for loss in [PowerLoss::KeepsAll, PowerLoss::LosesUnsynced] {
        for operation in 0..24 {
            let what = format!("halt at {operation}, {loss:?}");
            let mut site = idle_site().await;
            site.disk.fail(operation, Failure::Halt);
            let pruned = site.journal.prune(&site.checkpoint(8)).await.is_ok();
            site.disk.lose_power(loss);
            let journal = site.reopen();
            let checkpoint = journal.chain(CHAIN).await.unwrap().unwrap().checkpoint;
            assert!(checkpoint.is_some() || !pruned, "{what}");
            let first = if checkpoint.is_some() { 8 } else { 0 };
            check(&journal, &site.rows[first..], &what).await;
            journal.finish_prune(CHAIN).await.unwrap();
            let left = if checkpoint.is_some() { vec![8] } else { vec![1, 3, 5, 7] };
            assert_eq!(site.segments(), left, "{what}");
            site.append().await;
            check(&site.reopen(), &site.rows[first..], &what).await;
        }
    }
}

#[tokio::test]
async fn the_space_is_that_of_all_files_of_chains() {
    let site = Site::new(Role::Server).await;
    site.disk.put(&root().join(CHAIN).join(NEXT_SEGMENT), vec![0; 100]);
    site.disk.put(&root().join("public.keys"), vec![0; 100]);
    let lengths = [1, 3, 5, 7].map(|first| site.disk.content(&segment(first)).unwrap().len());
    let space = site.journal.space().await.unwrap();
    assert_eq!(space.bytes, lengths.iter().sum::<usize>() as u64 + 100);

    let directory = TempDir::new().unwrap();
    let journal = Journal::open(settings(directory.path(), Role::Server), ports()).unwrap();
    let space = journal.space().await.unwrap();
    assert!(space.bytes == 0 && space.volume_bytes.unwrap() > 1024 * 1024, "{space:?}");
}

#[tokio::test]
async fn a_process_that_ends_while_it_prunes_loses_nothing_and_the_next_one_finishes() {
    for loss in [PowerLoss::KeepsAll, PowerLoss::LosesUnsynced] {
        for operation in 0..14 {
            let what = format!("halt at {operation}, {loss:?}");
            let site = Site::new(Role::Command).await;
            site.disk.fail(operation, Failure::Halt);
            let pruned = site.journal.prune(&site.checkpoint(4)).await.is_ok();
            site.disk.lose_power(loss);
            let journal = site.reopen();
            let checkpoint = journal.chain(CHAIN).await.unwrap().unwrap().checkpoint;
            assert!(checkpoint.is_some() || !pruned, "{what}");
            let first = if checkpoint.is_some() { 4 } else { 0 };
            check(&journal, &site.rows[first..], &what).await;
            journal.finish_prune(CHAIN).await.unwrap();
            let left = if checkpoint.is_some() { vec![5, 7] } else { vec![1, 3, 5, 7] };
            assert_eq!(site.segments(), left, "{what}");
            check(&site.reopen(), &site.rows[first..], &what).await;
        }
    }
}

#[tokio::test]
async fn a_removed_segment_that_is_put_back_is_not_read_and_is_removed_again() {
    let site = Site::new(Role::Server).await;
    let older = site.disk.content(&segment(1)).unwrap();
    site.journal.prune(&site.checkpoint(4)).await.unwrap();
    site.disk.put(&segment(1), older);
    let journal = site.reopen();
    assert!(journal.events(CHAIN, 0, 100).await.unwrap() == site.rows[4..]);
    let listed = journal.newest_events(TimeSpan::default(), None, 100).await.unwrap();
    assert_eq!(listed.len(), 3);
    assert!(verify(&journal).await[0].intact());
    journal.finish_prune(CHAIN).await.unwrap();
    assert_eq!(site.segments(), [5, 7]);
}

#[tokio::test]
async fn a_full_volume_does_not_prevent_that_segments_are_removed() {
    let site = Site::new(Role::Server).await;
    let reserve = root().join(RESERVE);
    let bytes = || site.disk.content(&reserve).map(|content| content.len());
    assert_eq!(bytes(), Some(64 * 1024));
    // The first write of the checkpoint.
    site.disk.fail(1, Failure::Full(0));
    site.journal.prune(&site.checkpoint(2)).await.unwrap();
    assert_eq!((site.segments(), bytes()), (vec![3, 5, 7], Some(64 * 1024)));
    // Without the reserve the error is reported, and nothing is removed.
    site.disk.remove_all(&reserve);
    site.disk.fail(1, Failure::Full(0));
    site.journal.prune(&site.checkpoint(4)).await.unwrap_err();
    assert_eq!((site.segments(), bytes()), (vec![3, 5, 7], None));
    site.disk.mend();
    site.journal.prune(&site.checkpoint(4)).await.unwrap();
    assert_eq!((site.segments(), bytes()), (vec![5, 7], Some(64 * 1024)));
    check(&site.reopen(), &site.rows[4..], "pruned").await;
}

#[tokio::test]
async fn a_compression_that_fails_leaves_no_copy() {
    let site = Site::new(Role::Server).await;
    for operation in [1, 2, 3] {
        site.disk.fail(operation, Failure::Full(0));
        site.journal.compress(at(0)).await.unwrap_err();
        site.disk.mend();
        assert!(site.files().iter().all(|name| !name.contains(".new")), "{:?}", site.files());
    }
    // A copy that another process has left goes with its segment.
    let copy = root().join(CHAIN).join(format!("{}.new", segment_name(1)));
    site.disk.put(&copy, vec![0; 100]);
    site.journal.prune(&site.checkpoint(2)).await.unwrap();
    assert!(site.disk.content(&copy).is_none());
    check(&site.reopen(), &site.rows[2..], "pruned").await;
}

#[tokio::test]
async fn a_prepared_segment_of_a_killed_process_is_removed() {
    let site = Site::new(Role::Server).await;
    let prepared = |chain: &str| root().join(chain).join(NEXT_SEGMENT);
    for chain in [CHAIN, "killed"] {
        site.disk.put(&prepared(chain), vec![0; 100]);
    }
    site.journal.compress(at(0)).await.unwrap();
    assert!(site.disk.content(&prepared("killed")).is_none());
    // This server writes that chain.
    assert!(site.disk.content(&prepared(CHAIN)).is_some());
}
