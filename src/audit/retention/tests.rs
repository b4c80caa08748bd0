//! Retention on a store in memory, whose segments have four events and 1,000 bytes.

use std::{
    io,
    ops::RangeInclusive,
    sync::{Arc, Mutex},
    time::Duration,
};

use jiff::Timestamp;

use super::{Retention, RetentionLimits};
use crate::{
    audit::{
        Verification,
        chain::Tip,
        fakes::{MemoryAudit, keys},
    },
    crypto::AuditKeys,
    domain::{AuditChainReport, AuditRecord, Decision},
    ports::{AuditStore as _, ManualClock},
};

/// The lines that are logged while the test runs.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Lines {
    /// Logs to these lines until the guard is dropped. The test must run on one thread.
    fn collect(&self) -> tracing::subscriber::DefaultGuard {
        let lines = self.clone();
        let subscriber = tracing_subscriber::fmt().with_ansi(false);
        tracing::subscriber::set_default(subscriber.with_writer(move || lines.clone()).finish())
    }

    fn count(&self, text: &str) -> usize {
        let bytes = self.0.lock().unwrap();
        String::from_utf8_lossy(&bytes).lines().filter(|line| line.contains(text)).count()
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

struct World {
    store: Arc<MemoryAudit>,
    keys: Arc<AuditKeys>,
}

impl World {
    fn new() -> Self {
        Self { store: Arc::default(), keys: keys() }
    }

    /// Two chains with ten events each: four of `a`, then four of `b`, and so on. Each has two complete segments.
    async fn interleaved() -> Self {
        let world = Self::new();
        for (chain, seconds) in [
            ("a", 1..=4),
            ("b", 5..=8),
            ("a", 9..=12),
            ("b", 13..=16),
            ("a", 17..=18),
            ("b", 19..=20),
        ] {
            world.write(chain, seconds).await;
        }
        world
    }

    /// Writes an event for each of these seconds.
    async fn write(&self, chain: &str, seconds: RangeInclusive<i64>) {
        let mut tip = Tip::find(&*self.store, &chain.into()).await.unwrap();
        let record = |second| (AuditRecord::new("readTenants", Decision::Allowed), at(second));
        let group = tip.group(seconds.map(record), &*self.keys).sign(&*self.keys);
        let Ok(group) = group else { panic!("not signed") };
        self.store.append(&group).await.unwrap();
    }

    fn retention(&self, max_age: Option<Duration>, max_bytes: Option<u64>) -> Retention {
        let clock = Arc::new(ManualClock::new(at(1000)));
        let limits = RetentionLimits { max_age, max_bytes };
        Retention::new(self.store.clone(), self.keys.clone(), clock, limits)
    }

    fn with_size(&self, max_bytes: u64) -> Retention {
        self.retention(None, Some(max_bytes))
    }

    /// Returns the number of the first event of each chain.
    async fn firsts(&self) -> Vec<i64> {
        let chains = self.store.chains().await.unwrap();
        chains.iter().map(crate::domain::ChainState::first_sequence).collect()
    }

    async fn bytes(&self) -> u64 {
        self.store.space().await.unwrap().bytes
    }

    /// Returns the numbers of all checkpoints that were stored.
    fn checkpoints(&self) -> Vec<i64> {
        let checkpoints = self.store.checkpoints.lock().unwrap();
        checkpoints.iter().map(|checkpoint| checkpoint.point.sequence).collect()
    }

    async fn assert_intact(&self) {
        let (store, keys) = (self.store.clone(), self.keys.clone());
        let reports = Verification::new(store.clone(), store, keys).run(|_| ()).await.unwrap();
        assert!(reports.iter().all(AuditChainReport::intact), "{reports:?}");
    }
}

#[tokio::test]
async fn the_oldest_segments_of_all_chains_go_first_and_no_more_than_needed() {
    let world = World::interleaved().await;
    let steps = [(6000, [1, 1], 0), (5999, [5, 1], 4), (4000, [5, 5], 4), (2500, [9, 9], 8)];
    for (max_bytes, firsts, removed) in steps {
        let retention = world.with_size(max_bytes);
        retention.prune_by_size().await.unwrap();
        assert_eq!(world.firsts().await, firsts, "{max_bytes}");
        assert!(world.bytes().await <= max_bytes);
        assert_eq!(retention.counters().removed_by_size.get(), removed, "{max_bytes}");
    }
    world.assert_intact().await;
}

#[tokio::test]
async fn a_run_stores_one_checkpoint_for_each_chain_at_the_end_of_the_last_removed_segment() {
    let world = World::interleaved().await;
    world.with_size(2000).prune_by_size().await.unwrap();
    assert_eq!(world.checkpoints(), [8, 8]);
    world.assert_intact().await;
}

#[tokio::test]
async fn the_newest_segment_of_each_chain_stays_and_the_log_says_so_once() {
    let (world, lines) = (World::interleaved().await, Lines::default());
    let _guard = lines.collect();
    let retention = world.with_size(1);
    for _ in 0..3 {
        retention.prune_by_size().await.unwrap();
    }
    assert_eq!((world.firsts().await, world.bytes().await), (vec![9, 9], 2000));
    assert_eq!(lines.count("nothing more can be removed"), 1);
    assert_eq!(lines.count("its oldest events were removed"), 1);
    assert_eq!(lines.count("events=16 segments=4 from=2027-01-15T08:00:01Z"), 1);
    world.assert_intact().await;
}

#[tokio::test]
async fn a_damaged_chain_is_named_once_and_keeps_its_segments() {
    let (world, lines) = (World::interleaved().await, Lines::default());
    let _guard = lines.collect();
    world.store.tamper("a", |_, rows| rows[2].hash = [0; 32]);
    let retention = world.with_size(4000);
    retention.prune_by_size().await.unwrap();
    assert_eq!((world.firsts().await, world.bytes().await), (vec![1, 9], 4000));
    world.write("b", 21..=30).await;
    retention.prune_by_size().await.unwrap();
    assert_eq!((world.firsts().await, world.bytes().await), (vec![1, 17], 4000));
    let fault = "the audit chain was changed after it was written";
    assert_eq!(lines.count(fault), 1);
    // The next run by age tries it again.
    retention.prune_by_age().await.unwrap();
    world.write("b", 31..=34).await;
    retention.prune_by_size().await.unwrap();
    assert_eq!((lines.count(fault), world.firsts().await), (2, vec![1, 21]));
}

#[tokio::test]
async fn an_alarm_comes_before_anything_is_removed_and_again_after_the_journal_was_smaller() {
    let (world, lines) = (World::new(), Lines::default());
    let _guard = lines.collect();
    let retention = world.with_size(10_000);
    let alarms = || lines.count("audit_journal_size");
    world.write("a", 1..=32).await;
    assert!(!retention.is_too_large().await.unwrap());
    assert_eq!((world.bytes().await, alarms()), (8000, 0));
    world.write("a", 33..=33).await;
    for _ in 0..3 {
        assert!(!retention.is_too_large().await.unwrap());
    }
    assert_eq!(alarms(), 1);
    world.write("a", 34..=41).await;
    assert!(retention.is_too_large().await.unwrap());
    assert_eq!((world.firsts().await, alarms()), (vec![1], 1));
    retention.prune_by_size().await.unwrap();
    assert_eq!((world.firsts().await, alarms()), (vec![5], 1));
    world.store.remove("a");
    assert!(!retention.is_too_large().await.unwrap());
    world.write("b", 1..=36).await;
    assert!(!retention.is_too_large().await.unwrap());
    assert_eq!(alarms(), 2);
    let counters = retention.counters();
    assert_eq!((counters.bytes(), counters.max_bytes()), (9000, 10_000));
}

#[tokio::test]
async fn the_default_limit_is_70_percent_of_the_volume() {
    let world = World::new();
    world.write("a", 1..=40).await;
    let retention = world.retention(None, None);
    // Without its size nothing is removed.
    retention.prune_by_size().await.unwrap();
    assert_eq!((world.bytes().await, retention.counters().max_bytes()), (10_000, 0));
    *world.store.volume_bytes.lock().unwrap() = Some(10_000);
    retention.prune_by_size().await.unwrap();
    assert_eq!((world.bytes().await, retention.counters().max_bytes()), (7000, 7000));
}

#[tokio::test]
async fn events_disappear_exactly_by_their_age_and_with_one_checkpoint() {
    let world = World::new();
    world.write("a", 1..=10).await;
    world.write("b", 2..=3).await;
    let retention = world.retention(Some(Duration::from_secs(4)), None);
    retention.prune_by_age().await.unwrap();
    // The newest event of all chains is of second 10.
    assert_eq!(world.firsts().await, [6, 3]);
    assert_eq!(world.checkpoints(), [5, 2]);
    assert_eq!(retention.counters().removed_by_age.get(), 7);
    retention.prune_by_age().await.unwrap();
    assert_eq!(world.checkpoints(), [5, 2]);
    world.assert_intact().await;
}

#[tokio::test]
async fn without_an_age_no_event_is_too_old() {
    let world = World::interleaved().await;
    world.retention(None, None).prune_by_age().await.unwrap();
    assert_eq!((world.firsts().await, world.checkpoints()), (vec![1, 1], Vec::new()));
}
