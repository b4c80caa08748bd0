//! Changes of stored events by someone without the key: verification finds each of them, and retention signs none.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use jiff::Timestamp;
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::{
    audit::{
        CommandTrail, Durability, EventClass, Retention, RetentionLimits, Trail, TrailPorts,
        TrailRules, Verification, certify_public_keys, fakes::MemoryAudit,
    },
    crypto::{AuditKeys, Keyring, SystemRandom},
    domain::{
        AuditChainReport, AuditEvent, AuditFaultKind, AuditRecord, AuditRow, AuditSignature,
        ChainPoint, ChainState, Decision, SignedPoint, Statement, StoredPublicKey,
    },
    ports::{AuditHeadStore as _, AuditSigner as _, AuditStore as _, Clock as _, ManualClock},
};

use AuditFaultKind::{BadSignature, Changed, Missing, Reordered, Truncated};

type Faults = Vec<(String, AuditFaultKind, i64)>;

/// Chains with events, and the keys that signed them.
struct World {
    folder: TempDir,
    store: Arc<MemoryAudit>,
    keys: Arc<AuditKeys>,
    clock: Arc<ManualClock>,
}

impl World {
    /// Two servers with eight events each, and two commands between them.
    async fn new() -> Self {
        let world = Self::empty();
        world.serve("serve-1", 8).await;
        world.command().await;
        world.command().await;
        world.serve("serve-2", 8).await;
        world
    }

    fn empty() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let keyring = folder.path().join("keyring.toml");
        let id = Keyring::generate(&keyring, Timestamp::UNIX_EPOCH).unwrap();
        let keys = Arc::new(AuditKeys::new(&Keyring::load(&keyring).unwrap(), &id).unwrap());
        let clock = ManualClock::new(Timestamp::from_second(1_800_000_000).unwrap());
        Self { folder, store: Arc::default(), keys, clock: Arc::new(clock) }
    }

    /// Serves calls: one group and one second each.
    async fn serve(&self, chain: &str, events: usize) {
        let ports = TrailPorts {
            store: self.store.clone(),
            signer: self.keys.clone(),
            clock: self.clock.clone(),
            timer: self.clock.clone(),
        };
        let (durability, max_wait) = (Durability::BeforeResponse, Duration::from_secs(2));
        let trail = Arc::new(Trail::new(ports, chain.into(), TrailRules { durability, max_wait }));
        let mut tasks = JoinSet::new();
        let writer = Arc::clone(&trail);
        tasks.spawn(async move { writer.run().await });
        for _ in 0..events {
            self.clock.advance(Duration::from_secs(1));
            trail.write(record(), EventClass::Change).await.unwrap();
        }
        assert_eq!(trail.head(), Some(self.store.chain(chain).await.unwrap().unwrap().head));
        tasks.shutdown().await;
    }

    async fn command(&self) -> SignedPoint {
        let (store, keys) = (self.store.clone(), self.keys.clone());
        let trail = CommandTrail::new(store, keys, self.clock.clone(), Arc::new(SystemRandom));
        trail.write(record()).await.unwrap()
    }

    async fn reports(&self) -> Vec<AuditChainReport> {
        self.verification().run(|_| ()).await.unwrap()
    }

    fn verification(&self) -> Verification {
        Verification::new(self.store.clone(), self.store.clone(), self.keys.clone())
    }

    async fn faults(&self) -> Faults {
        let fault = |report: AuditChainReport| {
            let fault = report.fault?;
            Some((report.chain.as_ref().to_owned(), fault.kind, fault.sequence))
        };
        self.reports().await.into_iter().filter_map(fault).collect()
    }

    /// Returns the faults after a change of `serve-1`.
    async fn faults_after(
        &self,
        change: impl FnOnce(&mut ChainState, &mut Vec<AuditRow>),
    ) -> Faults {
        self.store.tamper("serve-1", change);
        self.faults().await
    }

    fn state(&self, chain: &str) -> ChainState {
        self.store.tamper(chain, |state, _| state.clone())
    }

    async fn prune(&self, keep: Duration) {
        let (store, keys) = (self.store.clone(), self.keys.clone());
        let limits = RetentionLimits { max_age: Some(keep), max_bytes: None };
        let retention = Retention::new(store, keys, self.clock.clone(), limits);
        retention.prune_by_age().await.unwrap();
    }
}

fn record() -> AuditRecord {
    AuditRecord {
        caller: "spiffe://example.com/reports".into(),
        resource: "applications/crm-sync/tenants/Cust12345".into(),
        ..AuditRecord::new("issueSystemTicket", Decision::Allowed)
    }
}

fn only(chain: &str, kind: AuditFaultKind, sequence: i64) -> Faults {
    vec![(chain.to_owned(), kind, sequence)]
}

/// Removes the events after this one, and puts the head of that time back.
fn restore(state: &mut ChainState, rows: &mut Vec<AuditRow>, head: &SignedPoint) {
    rows.retain(|row| row.sequence <= head.point.sequence);
    state.head = head.clone();
}

#[tokio::test]
async fn untouched_chains_are_intact() {
    let world = World::new().await;
    let reports = world.reports().await;
    let seen: Vec<_> = reports
        .iter()
        .map(|report| (&*report.chain, report.first_sequence, report.last_sequence))
        .collect();
    assert_eq!(seen, [("serve-1", 1, 8), ("cli", 1, 2), ("serve-2", 1, 8)]);
    assert!(reports.iter().all(AuditChainReport::intact));
    let mut seen = Vec::new();
    let verification = world.verification();
    verification.run(|progress| seen.push((progress.done, progress.total))).await.unwrap();
    assert_eq!(seen, [(8, 18), (10, 18), (18, 18)]);
}

#[tokio::test]
async fn finds_a_changed_event() {
    let changes: [fn(&mut AuditRow); 5] = [
        |row| row.body[60] ^= 1,
        |row| row.body.clear(),
        |row| row.hash = [0; 32],
        |row| row.time += Duration::from_micros(1),
        |row| row.time = Timestamp::MAX,
    ];
    for change in changes {
        let world = World::new().await;
        let found = world.faults_after(|_, rows| change(&mut rows[3])).await;
        assert_eq!(found, only("serve-1", Changed, 4));
    }
}

#[tokio::test]
async fn finds_each_changed_byte_of_an_event() {
    let world = World::empty();
    world.serve("serve-1", 2).await;
    let length = world.store.tamper("serve-1", |_, rows| rows[0].body.len());
    for position in 0..length {
        let found = world.faults_after(|_, rows| rows[0].body[position] ^= 1).await;
        let [(chain, kind, 1)] = &found[..] else { panic!("{position}: {found:?}") };
        assert_eq!(chain, "serve-1");
        assert!(matches!(kind, Changed | Reordered), "{position}: {kind:?}");
        world.store.tamper("serve-1", |_, rows| rows[0].body[position] ^= 1);
    }
    assert_eq!(world.faults().await, []);
}

#[tokio::test]
async fn finds_removed_swapped_copied_and_added_events() {
    for sequence in [1, 4] {
        let world = World::new().await;
        let found = world.faults_after(|_, rows| rows.retain(|row| row.sequence != sequence)).await;
        assert_eq!(found, only("serve-1", Missing, sequence));
    }
    let world = World::new().await;
    let swap = |_: &mut ChainState, rows: &mut Vec<AuditRow>| {
        (rows[2].sequence, rows[5].sequence) = (6, 3);
    };
    assert_eq!(world.faults_after(swap).await, only("serve-1", Reordered, 3));

    let world = World::new().await;
    let other = world.store.tamper("serve-2", |_, rows| rows[3].clone());
    let found = world.faults_after(|_, rows| rows[3] = other).await;
    assert_eq!(found, only("serve-1", Changed, 4));

    let world = World::new().await;
    let add = |_: &mut ChainState, rows: &mut Vec<AuditRow>| {
        rows.push(AuditRow { sequence: 9, ..rows[7].clone() });
    };
    assert_eq!(world.faults_after(add).await, only("serve-1", Reordered, 9));
}

#[tokio::test]
async fn finds_a_shortened_chain() {
    let world = World::new().await;
    let found = world.faults_after(|_, rows| rows.truncate(6)).await;
    assert_eq!(found, only("serve-1", Truncated, 7));
    // The head is changed to fit, without a signature.
    let fit = |state: &mut ChainState, rows: &mut Vec<AuditRow>| {
        let AuditRow { sequence, hash, time, .. } = rows[5];
        state.head.point = ChainPoint { chain: "serve-1".into(), sequence, hash, time };
    };
    assert_eq!(world.faults_after(fit).await, only("serve-1", BadSignature, 6));
}

#[tokio::test]
async fn an_older_head_is_found_by_a_later_chain_or_by_the_stored_head() {
    for by_link in [true, false] {
        let world = World::empty();
        world.serve("serve-1", 4).await;
        let older = world.state("serve-1").head;
        world.serve("serve-1", 4).await;
        if by_link {
            world.command().await;
        } else {
            world.store.put_head(&world.state("serve-1").head).await.unwrap();
        }
        assert_eq!(world.faults().await, []);
        let found = world.faults_after(|state, rows| restore(state, rows, &older)).await;
        assert_eq!(found, only("serve-1", Truncated, 5), "by link: {by_link}");
        world.store.remove("serve-1");
        assert_eq!(world.faults().await, only("serve-1", Missing, 8), "by link: {by_link}");
    }
}

#[tokio::test]
async fn a_stored_head_without_a_valid_signature_proves_nothing() {
    let world = World::new().await;
    let mut head = world.state("serve-1").head;
    head.point.sequence = 20;
    world.store.put_head(&head).await.unwrap();
    assert_eq!(world.faults().await, []);
}

#[tokio::test]
async fn finds_a_chain_to_which_two_others_link_differently() {
    for pruned in [false, true] {
        let world = World::empty();
        world.serve("serve-1", 2).await;
        let older = world.state("serve-1").head;
        world.serve("serve-1", 2).await;
        world.serve("serve-2", 1).await;
        // Restored, and then continued with valid signatures.
        world.store.tamper("serve-1", |state, rows| restore(state, rows, &older));
        world.serve("serve-1", 2).await;
        world.serve("serve-3", 1).await;
        if pruned {
            let point = world.state("serve-1").head.point;
            let key_id = world.keys.active_key_id();
            let bytes = world.keys.sign(&key_id, &point.message(Statement::Checkpoint, &key_id));
            let signature = AuditSignature { key_id, bytes: bytes.unwrap() };
            world.store.prune(&SignedPoint { point, signature }).await.unwrap();
        }
        assert_eq!(world.faults().await, only("serve-1", Changed, 4), "pruned: {pruned}");
    }
}

#[tokio::test]
async fn finds_a_removed_chain() {
    let world = World::new().await;
    let found = world.faults_after(|_, rows| rows.clear()).await;
    assert_eq!(found, only("serve-1", Truncated, 1));
    world.store.remove("serve-1");
    assert_eq!(world.faults().await, only("serve-1", Missing, 8));
}

/// Rewrites `serve-1` with correct hashes, from an event on in which something else happened.
fn rewrite(world: &World, from: i64) -> ChainPoint {
    let name: Arc<str> = "serve-1".into();
    let mut previous_hash = None;
    world.store.tamper("serve-1", |_, rows| {
        for row in rows.iter_mut().filter(|row| row.sequence >= from) {
            let mut event = AuditEvent::read(&name, row).unwrap();
            event.record.caller = "another caller".into();
            event.previous_hash = previous_hash.unwrap_or(event.previous_hash);
            *row = event.seal(|message| world.keys.digest(message));
            previous_hash = Some(row.hash);
        }
        let AuditRow { sequence, hash, time, .. } = *rows.last().unwrap();
        ChainPoint { chain: Arc::clone(&name), sequence, hash, time }
    })
}

#[tokio::test]
async fn finds_a_chain_rewritten_with_correct_hashes_and_without_the_key() {
    let world = World::new().await;
    let point = rewrite(&world, 3);
    assert_eq!(world.faults().await, only("serve-1", Changed, 8));
    let found = world.faults_after(|state, _| state.head.point = point.clone()).await;
    assert_eq!(found, only("serve-1", BadSignature, 8));
    // Signed with a stranger's key, which certifies itself.
    let other = World::empty();
    let key_id = other.keys.active_key_id();
    let bytes = other.keys.sign(&key_id, &point.message(Statement::Head, &key_id)).unwrap();
    let key = StoredPublicKey {
        key_id: key_id.as_ref().to_owned(),
        public_key: other.keys.public_keys()[0].1.clone(),
        certificate: AuditSignature { key_id: Arc::clone(&key_id), bytes: vec![0; 64] },
    };
    world.store.store_public_key(&key).await.unwrap();
    let signature = AuditSignature { key_id, bytes };
    let found = world.faults_after(|state, _| state.head.signature = signature).await;
    assert_eq!(found, only("serve-1", BadSignature, 8));
}

#[tokio::test]
async fn commands_leave_a_rewritten_chain_and_continue_another_one() {
    let world = World::new().await;
    world.store.tamper("cli", |state, _| state.head.signature.bytes[0] ^= 1);
    assert_eq!(&*world.command().await.point.chain, "cli-2");
    assert_eq!(&*world.command().await.point.chain, "cli-2");
    assert_eq!(world.faults().await, only("cli", BadSignature, 2));
}

#[tokio::test]
async fn a_pruned_chain_verifies_and_changes_of_it_are_found() {
    let world = World::new().await;
    // The events of serve-2 are from the seconds 9 to 16; now is 16.
    world.prune(Duration::from_secs(4)).await;
    let seen: Vec<_> = world
        .reports()
        .await
        .iter()
        .map(|report| (report.first_sequence, report.last_sequence, report.intact()))
        .collect();
    assert_eq!(seen, [(9, 8, true), (3, 2, true), (4, 8, true)]);
    world.prune(Duration::from_secs(4)).await;
    world.command().await;
    world.serve("serve-3", 1).await;
    assert_eq!(world.faults().await, []);

    world.store.tamper("serve-2", |_, rows| rows.retain(|row| row.sequence != 4));
    assert_eq!(world.faults().await, only("serve-2", Missing, 4));
    world.store.tamper("serve-2", |state, rows| {
        let AuditRow { sequence, hash, .. } = rows.remove(0);
        let point = &mut state.checkpoint.as_mut().unwrap().point;
        (point.sequence, point.hash) = (sequence, hash);
    });
    assert_eq!(world.faults().await, only("serve-2", BadSignature, 5));
    // The signature of a head is not one of a checkpoint.
    world.store.tamper("serve-2", |state, rows| {
        state.checkpoint = Some(state.head.clone());
        rows.clear();
    });
    assert_eq!(world.faults().await, only("serve-2", BadSignature, 8));
}

#[tokio::test]
async fn retention_signs_no_checkpoint_for_a_changed_chain() {
    type Change = fn(&mut ChainState, &mut Vec<AuditRow>);
    let changes: [(Change, AuditFaultKind, i64); 5] = [
        (|_, rows| rows[6].time = Timestamp::UNIX_EPOCH, Changed, 7),
        (|_, rows| rows[2].hash = [0; 32], Changed, 3),
        (|_, rows| drop(rows.remove(1)), Missing, 2),
        (|_, rows| rows.truncate(2), Truncated, 3),
        (
            |state, rows| {
                let AuditRow { sequence, hash, time, .. } = rows.remove(0);
                let mut forged = state.head.clone();
                forged.point = ChainPoint { sequence, hash, time, ..forged.point };
                state.checkpoint = Some(forged);
            },
            BadSignature,
            1,
        ),
    ];
    for (change, kind, sequence) in changes {
        let world = World::new().await;
        // A chain after the changed one.
        world.serve("serve-3", 4).await;
        world.store.tamper("serve-2", change);
        let before = world.store.events("serve-2", 0, 100).await.unwrap();
        world.prune(Duration::from_secs(2)).await;
        assert_eq!(world.store.events("serve-2", 0, 100).await.unwrap(), before);
        assert_eq!(world.faults().await, only("serve-2", kind, sequence));
        let pruned: Vec<_> =
            world.reports().await.iter().map(|report| report.first_sequence).collect();
        assert_eq!((pruned[0], pruned[1], pruned[3]), (9, 3, 2), "{kind:?}");
    }
}

#[tokio::test]
async fn retention_stores_one_checkpoint_for_any_number_of_events() {
    let world = World::empty();
    world.serve("serve-1", 1003).await;
    world.prune(Duration::from_secs(1)).await;
    assert_eq!(world.store.checkpoints.lock().unwrap().len(), 1);
    let seen: Vec<_> = world.reports().await.iter().map(|report| report.first_sequence).collect();
    assert_eq!((seen, world.faults().await), (vec![1002], vec![]));
}

#[tokio::test]
async fn a_clock_that_jumps_makes_no_event_old_and_stops_no_retention() {
    let mut world = World::new().await;
    let correct = world.clock.now();
    world.clock.advance(Duration::from_hours(24 * 365));
    world.prune(Duration::from_hours(24)).await;
    assert!(world.reports().await.iter().all(|report| report.first_sequence == 1));
    // One event has a future time; then the clock is correct again.
    world.serve("serve-2", 1).await;
    world.clock = Arc::new(ManualClock::new(correct));
    world.serve("serve-2", 8).await;
    assert_eq!(world.faults().await, []);
    world.prune(Duration::from_secs(4)).await;
    let serve_2 = world.store.events("serve-2", 0, 100).await.unwrap();
    assert_eq!(serve_2.first().map(|row| row.sequence), Some(13));
    assert_eq!(world.faults().await, []);
}

#[tokio::test]
async fn a_chain_verifies_while_it_is_written_and_pruned() {
    let world = World::empty();
    world.serve("serve-1", 1).await;
    let verify = async {
        for _ in 0..20 {
            assert_eq!(world.faults().await, []);
            tokio::task::yield_now().await;
        }
    };
    let write = async {
        for _ in 0..40 {
            world.serve("serve-1", 3).await;
            world.prune(Duration::from_secs(10)).await;
        }
    };
    tokio::join!(verify, write);
}

#[tokio::test]
async fn a_key_that_left_the_keyring_is_trusted_because_a_later_one_certified_it() {
    let mut world = World::empty();
    let path = world.folder.path().join("keyring.toml");
    certify_public_keys(&*world.store, &*world.keys).await.unwrap();
    world.serve("serve-1", 3).await;
    // Twice: the key that certified the first one is gone, too.
    let mut id = world.keys.active_key_id().as_ref().to_owned();
    for chain in ["serve-2", "serve-3"] {
        let next = Keyring::generate_additional(&path, Timestamp::UNIX_EPOCH).unwrap();
        let keys = AuditKeys::new(&Keyring::load(&path).unwrap(), &next).unwrap();
        certify_public_keys(&*world.store, &keys).await.unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, without(&text, &id)).unwrap();
        let keyring = Keyring::load(&path).unwrap();
        assert!(keyring.get(&id).is_none());
        world.keys = Arc::new(AuditKeys::new(&keyring, &next).unwrap());
        certify_public_keys(&*world.store, &*world.keys).await.unwrap();
        world.serve(chain, 3).await;
        id = next;
    }
    assert_eq!(world.faults().await, []);
    assert_eq!(world.store.public_keys().await.unwrap().len(), 3);
    world.store.remove_keys();
    let lost = world.faults().await;
    assert_eq!(lost[..1], only("serve-1", BadSignature, 3)[..]);
    assert_eq!(lost.len(), 2);
}

/// Returns a keyring file without one of its keys.
fn without(text: &str, id: &str) -> String {
    let mut document: toml::Table = text.parse().unwrap();
    for (_, value) in &mut document {
        if let Some(keys) = value.as_array_mut() {
            keys.retain(|key| key.get("id").and_then(|found| found.as_str()) != Some(id));
        }
    }
    document.to_string()
}

#[tokio::test]
async fn commands_that_run_at_the_same_time_write_one_chain() {
    let world = World::empty();
    join_all((0..20).map(|_| world.command())).await;
    let events = world.store.events("cli", 0, 100).await.unwrap();
    assert_eq!(events.len(), 20);
    assert_eq!(world.faults().await, []);
}
