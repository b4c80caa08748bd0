//! Whoever can write to the file and has no key: whatever is done is found and named.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use jiff::Timestamp;
use sqlx::{AssertSqlSafe, Connection as _, Row as _, SqliteConnection};
use tempfile::TempDir;
use tokio::task::JoinSet;

use super::{
    super::{SqliteFile, SqliteStore},
    statements::{EVENTS, NEWEST, NEWEST_AFTER},
};
use crate::{
    audit::{
        CommandTrail, Durability, EventClass, Retention, Trail, TrailPorts, TrailRules,
        Verification, certify_public_keys,
    },
    crypto::{AuditKeys, Keyring, SystemRandom},
    domain::{
        AuditChainReport, AuditEvent, AuditFaultKind, AuditRecord, AuditRow, AuditSignature,
        ChainPoint, Decision, SignedPoint, Statement,
    },
    ports::{AuditSigner as _, AuditStore as _, Clock as _, ManualClock, StoreHealth as _},
    store::contract::{TestSealer, usual_applications},
};

use AuditFaultKind::{BadSignature, Changed, Missing, Reordered, Truncated};

/// A store with chains of its own.
struct World {
    folder: TempDir,
    store: Arc<SqliteStore>,
    keys: Arc<AuditKeys>,
    clock: Arc<ManualClock>,
}

impl World {
    /// Two servers, one after the other, with eight events each, and commands between them.
    async fn new() -> Self {
        let world = Self::empty().await;
        world.serve("serve-1", 8).await;
        world.command().await;
        world.command().await;
        world.serve("serve-2", 8).await;
        world
    }

    async fn empty() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let keyring = folder.path().join("keyring.toml");
        let id = Keyring::generate(&keyring, Timestamp::UNIX_EPOCH).unwrap();
        let keys = AuditKeys::new(&Keyring::load(&keyring).unwrap(), &id).unwrap();
        let file = SqliteFile::open(&folder.path().join("gateway.db")).await.unwrap();
        let store = SqliteStore::new(file, Arc::new(TestSealer), usual_applications());
        let clock = ManualClock::new(Timestamp::from_second(1_800_000_000).unwrap());
        let (store, keys, clock) = (Arc::new(store), Arc::new(keys), Arc::new(clock));
        Self { folder, store, keys, clock }
    }

    fn trail(&self, chain: &str) -> Trail {
        let ports = TrailPorts {
            store: self.store.clone(),
            signer: self.keys.clone(),
            clock: self.clock.clone(),
            timer: self.clock.clone(),
        };
        let durability = Durability::BeforeResponse;
        let rules = TrailRules { durability, max_wait: Duration::from_secs(2) };
        Trail::new(ports, chain.into(), rules)
    }

    /// Serves so many calls, one group and one second each.
    async fn serve(&self, chain: &str, events: usize) {
        let trail = Arc::new(self.trail(chain));
        let mut tasks = JoinSet::new();
        let writer = Arc::clone(&trail);
        tasks.spawn(async move { writer.run().await });
        for _ in 0..events {
            // Far apart enough for nothing to be taken for slow.
            self.clock.advance(Duration::from_secs(1));
            trail.record(record(), EventClass::Change).unwrap().committed().await.unwrap();
        }
        trail.flush(Duration::from_mins(1)).await.unwrap();
        tasks.shutdown().await;
    }

    async fn command(&self) {
        let trail = {
            let (store, keys) = (self.store.clone(), self.keys.clone());
            CommandTrail::new(store, keys, self.clock.clone(), Arc::new(SystemRandom))
        };
        trail.write(record()).await.unwrap();
    }

    async fn reports(&self) -> Vec<AuditChainReport> {
        let verification = Verification::new(self.store.clone(), self.keys.clone());
        verification.run(|_| ()).await.unwrap()
    }

    /// All faults.
    async fn faults(&self) -> Vec<(String, AuditFaultKind, i64)> {
        let fault = |report: AuditChainReport| {
            let fault = report.fault?;
            Some((report.chain.as_ref().to_owned(), fault.kind, fault.sequence))
        };
        self.reports().await.into_iter().filter_map(fault).collect()
    }

    /// Does to the file what we never do, and says what verification finds.
    async fn found(&self, sql: &str) -> Vec<(String, AuditFaultKind, i64)> {
        self.meddle(sql).await;
        self.faults().await
    }

    async fn meddle(&self, sql: &str) {
        let path = self.folder.path().join("gateway.db");
        let mut connection = SqliteConnection::connect(path.to_str().unwrap()).await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }

    async fn prune(&self, keep: Duration) {
        let (store, keys) = (self.store.clone(), self.keys.clone());
        Retention::new(store, keys, self.clock.clone(), keep).prune().await.unwrap();
    }
}

fn record() -> AuditRecord {
    AuditRecord {
        caller: "spiffe://example.com/reports".into(),
        resource: "applications/crm-sync/tenants/Cust12345".into(),
        ..AuditRecord::new("issueSystemTicket", Decision::Allowed)
    }
}

/// The one fault that is wanted.
fn only(chain: &str, kind: AuditFaultKind, sequence: i64) -> Vec<(String, AuditFaultKind, i64)> {
    vec![(chain.to_owned(), kind, sequence)]
}

const SERVE_1: &str = "(SELECT id FROM audit_chains WHERE chain = 'serve-1')";

#[tokio::test]
async fn what_was_written_is_intact() {
    let world = World::new().await;
    let reports = world.reports().await;
    let seen: Vec<_> = reports
        .iter()
        .map(|report| (&*report.chain, report.first_sequence, report.last_sequence))
        .collect();
    assert_eq!(seen, [("serve-1", 1, 8), ("cli", 1, 2), ("serve-2", 1, 8)]);
    assert!(reports.iter().all(AuditChainReport::intact));
    let mut seen = Vec::new();
    let verification = Verification::new(world.store.clone(), world.keys.clone());
    verification.run(|progress| seen.push((progress.done, progress.total))).await.unwrap();
    assert_eq!(seen, [(8, 18), (10, 18), (18, 18)]);
}

#[tokio::test]
async fn an_altered_event_is_found() {
    for change in [
        "body = CAST(substr(body, 1, 60) || x'21' || substr(body, 62) AS BLOB)",
        "body = x''",
        "hash = x'00'",
        "hash = zeroblob(32)",
        "time = time + 1",
        "time = 9223372036854775807",
    ] {
        let world = World::new().await;
        let sql =
            format!("UPDATE audit_events SET {change} WHERE chain_id = {SERVE_1} AND sequence = 4");
        assert_eq!(world.found(&sql).await, only("serve-1", Changed, 4), "{change}");
    }
}

#[tokio::test]
async fn every_single_altered_byte_of_an_event_is_found() {
    let world = World::empty().await;
    world.serve("serve-1", 2).await;
    let rows = world.store.events("serve-1", 0, 1).await.unwrap();
    let body = &rows[0].body;
    for position in 0..body.len() {
        let mut altered = body.clone();
        altered[position] ^= 0x01;
        let update = |bytes: &[u8]| {
            format!("UPDATE audit_events SET body = x'{}' WHERE sequence = 1", hex(bytes))
        };
        let found = world.found(&update(&altered)).await;
        let [(chain, kind, 1)] = &found[..] else { panic!("{position}: {found:?}") };
        assert_eq!(chain, "serve-1");
        assert!(matches!(kind, Changed | Reordered), "{position}: {kind:?}");
        world.meddle(&update(body)).await;
    }
    assert_eq!(world.faults().await, []);
}

#[tokio::test]
async fn a_deleted_event_is_found() {
    for sequence in [1, 4] {
        let world = World::new().await;
        let sql = format!(
            "DELETE FROM audit_events WHERE chain_id = {SERVE_1} AND sequence = {sequence}"
        );
        assert_eq!(world.found(&sql).await, only("serve-1", Missing, sequence));
    }
}

#[tokio::test]
async fn swapped_events_are_found() {
    let world = World::new().await;
    let sql = format!(
        "UPDATE audit_events SET sequence = sequence + 1000 WHERE chain_id = {SERVE_1} AND sequence IN (3, 6);
         UPDATE audit_events SET sequence = 1009 - sequence WHERE chain_id = {SERVE_1} AND sequence = 1003;
         UPDATE audit_events SET sequence = 3 WHERE chain_id = {SERVE_1} AND sequence = 1006"
    );
    assert_eq!(world.found(&sql).await, only("serve-1", Reordered, 3));
}

#[tokio::test]
async fn an_event_of_another_chain_is_found() {
    let world = World::new().await;
    let sql = format!(
        "UPDATE audit_events SET (time, hash, body) = (SELECT time, hash, body FROM audit_events other \
         WHERE other.sequence = 4 AND other.chain_id <> {SERVE_1}) \
         WHERE chain_id = {SERVE_1} AND sequence = 4"
    );
    assert_eq!(world.found(&sql).await, only("serve-1", Changed, 4));
}

#[tokio::test]
async fn a_cut_end_is_found() {
    let world = World::new().await;
    let cut = format!("DELETE FROM audit_events WHERE chain_id = {SERVE_1} AND sequence > 6");
    assert_eq!(world.found(&cut).await, only("serve-1", Truncated, 7));
    // And with it the head, made to fit as far as one can who has no key.
    let fit = format!(
        "UPDATE audit_chains SET (sequence, hash, time) = (SELECT sequence, hash, time FROM audit_events \
         WHERE chain_id = {SERVE_1} AND sequence = 6) WHERE chain = 'serve-1'"
    );
    assert_eq!(world.found(&fit).await, only("serve-1", BadSignature, 6));
}

#[tokio::test]
async fn an_older_signed_head_is_found_by_a_chain_that_began_later() {
    let world = World::empty().await;
    world.serve("serve-1", 4).await;
    world.meddle("CREATE TABLE kept AS SELECT * FROM audit_chains").await;
    world.serve("serve-1", 4).await;
    world.command().await;
    let sql = "DELETE FROM audit_events WHERE chain_id = 1 AND sequence > 4; \
         UPDATE audit_chains SET (sequence, hash, time, signature) = \
         (SELECT sequence, hash, time, signature FROM kept) WHERE id = 1; DROP TABLE kept";
    assert_eq!(world.found(sql).await, only("serve-1", Truncated, 5));
}

#[tokio::test]
async fn a_chain_of_which_two_others_tell_different_things_is_found() {
    for pruned in [false, true] {
        let world = World::empty().await;
        world.serve("serve-1", 2).await;
        world.meddle("CREATE TABLE kept AS SELECT * FROM audit_chains").await;
        world.serve("serve-1", 2).await;
        world.serve("serve-2", 1).await;
        // Put back, and truly signed once more.
        let back = "DELETE FROM audit_events WHERE chain_id = 1 AND sequence > 2; \
             UPDATE audit_chains SET (sequence, hash, time, signature) = \
             (SELECT sequence, hash, time, signature FROM kept) WHERE id = 1; DROP TABLE kept";
        world.meddle(back).await;
        world.serve("serve-1", 2).await;
        world.serve("serve-3", 1).await;
        if pruned {
            let point = world.store.chain("serve-1").await.unwrap().unwrap().head.point;
            let key_id = world.keys.active_key_id();
            let bytes = world.keys.sign(&key_id, &point.message(Statement::Checkpoint, &key_id));
            let signature = AuditSignature { key_id, bytes: bytes.unwrap() };
            world.store.prune(&SignedPoint { point, signature }).await.unwrap();
        }
        assert_eq!(world.faults().await, only("serve-1", Changed, 4), "pruned: {pruned}");
    }
}

#[tokio::test]
async fn a_deleted_chain_is_found() {
    let rows = format!("DELETE FROM audit_events WHERE chain_id = {SERVE_1}");
    let head = "DELETE FROM audit_chains WHERE chain = 'serve-1'";
    let world = World::new().await;
    assert_eq!(world.found(&rows).await, only("serve-1", Truncated, 1));
    assert_eq!(world.found(head).await, only("serve-1", Missing, 8));
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
}

/// Writes a chain anew, with all hashes right, from an event on in which something else happened.
async fn rewrite(world: &World, chain: &str, from: i64) -> ChainPoint {
    let name: Arc<str> = chain.into();
    let mut previous_hash = None;
    let mut last = None;
    for row in world.store.events(chain, from - 1, 1000).await.unwrap() {
        let mut event = AuditEvent::read(&name, &row).unwrap();
        if event.sequence == from {
            event.record.caller = "somebody else".into();
        }
        event.previous_hash = previous_hash.unwrap_or(event.previous_hash);
        let AuditRow { sequence, time, hash, body } =
            event.seal(|message| world.keys.digest(message));
        previous_hash = Some(hash);
        last = Some(ChainPoint { chain: Arc::clone(&name), sequence, hash, time });
        let mut writer = world.store.file().writer().await.unwrap();
        sqlx::query(
            "UPDATE audit_events SET hash = ?1, body = ?2 WHERE sequence = ?3 AND \
             chain_id = (SELECT id FROM audit_chains WHERE chain = ?4)",
        )
        .bind(&hash[..])
        .bind(body)
        .bind(sequence)
        .bind(chain)
        .execute(writer.connection().unwrap())
        .await
        .unwrap();
    }
    last.unwrap()
}

#[tokio::test]
async fn a_chain_rewritten_with_right_hashes_and_no_key_is_found() {
    let world = World::new().await;
    rewrite(&world, "serve-1", 3).await;
    assert_eq!(world.faults().await, only("serve-1", Changed, 8));
    let head = "UPDATE audit_chains SET hash = (SELECT hash FROM audit_events \
         WHERE chain_id = id AND audit_events.sequence = 8) WHERE chain = 'serve-1'";
    assert_eq!(world.found(head).await, only("serve-1", BadSignature, 8));
    // Signed with a key that only says it is one.
    let other = World::empty().await;
    let point = world.store.chain("serve-1").await.unwrap().unwrap().head.point;
    let id = other.keys.active_key_id();
    let message = point.message(Statement::Head, &id);
    let signature = hex(&other.keys.sign(&id, &message).unwrap());
    let public_key = hex(&other.keys.public_keys()[0].1);
    let forged = format!(
        "UPDATE audit_chains SET key_id = '{id}', signature = x'{signature}' WHERE chain = 'serve-1';
         INSERT INTO audit_keys VALUES ('{id}', x'{public_key}', '{id}', zeroblob(64))"
    );
    assert_eq!(world.found(&forged).await, only("serve-1", BadSignature, 8));
}

#[tokio::test]
async fn events_behind_the_signed_head_are_found() {
    let world = World::new().await;
    let sql = format!(
        "INSERT INTO audit_events SELECT chain_id, 9, time, hash, body FROM audit_events \
         WHERE chain_id = {SERVE_1} AND sequence = 8"
    );
    assert_eq!(world.found(&sql).await, only("serve-1", Reordered, 9));
}

#[tokio::test]
async fn a_pruned_chain_verifies_and_what_is_done_to_it_is_found() {
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

    let serve_2 = "chain_id = (SELECT id FROM audit_chains WHERE chain = 'serve-2')";
    let first = format!("DELETE FROM audit_events WHERE {serve_2} AND sequence = 4");
    assert_eq!(world.found(&first).await, only("serve-2", Missing, 4));
    let checkpoint = format!(
        "UPDATE audit_chains SET (checkpoint_sequence, checkpoint_hash) = \
         (SELECT sequence, hash FROM audit_events WHERE {serve_2} AND sequence = 5) \
         WHERE chain = 'serve-2'; DELETE FROM audit_events WHERE {serve_2} AND sequence = 5"
    );
    assert_eq!(world.found(&checkpoint).await, only("serve-2", BadSignature, 5));
    // A head's signature is none of a checkpoint.
    let head_as_checkpoint = "UPDATE audit_chains SET checkpoint_sequence = sequence, \
         checkpoint_hash = hash, checkpoint_time = time, checkpoint_key_id = key_id, \
         checkpoint_signature = signature WHERE chain = 'serve-2'; DELETE FROM audit_events WHERE "
        .to_owned()
        + serve_2;
    assert_eq!(world.found(&head_as_checkpoint).await, only("serve-2", BadSignature, 8));
}

#[tokio::test]
async fn retention_signs_for_nothing_that_is_not_as_it_was_written() {
    let serve_2 = "chain_id = (SELECT id FROM audit_chains WHERE chain = 'serve-2')";
    let cut = "(SELECT hash FROM audit_events WHERE sequence = 1 AND chain_id = ";
    for (sql, kind, sequence) in [
        (format!("UPDATE audit_events SET time = 0 WHERE {serve_2} AND sequence = 7"), Changed, 7),
        (
            format!("UPDATE audit_events SET hash = zeroblob(32) WHERE {serve_2} AND sequence = 3"),
            Changed,
            3,
        ),
        (format!("DELETE FROM audit_events WHERE {serve_2} AND sequence = 2"), Missing, 2),
        (format!("DELETE FROM audit_events WHERE {serve_2} AND sequence > 2"), Truncated, 3),
        (
            format!(
                "UPDATE audit_chains SET checkpoint_sequence = 1, checkpoint_hash = {cut} id), \
                 checkpoint_time = 0, checkpoint_key_id = key_id, checkpoint_signature = signature \
                 WHERE chain = 'serve-2'; DELETE FROM audit_events WHERE {serve_2} AND sequence = 1"
            ),
            BadSignature,
            1,
        ),
    ] {
        let world = World::new().await;
        // A chain behind the bad one.
        world.serve("serve-3", 4).await;
        world.meddle(&sql).await;
        let before = world.store.events("serve-2", 0, 100).await.unwrap();
        world.prune(Duration::from_secs(2)).await;
        assert_eq!(world.store.events("serve-2", 0, 100).await.unwrap(), before, "{sql}");
        assert_eq!(world.faults().await, only("serve-2", kind, sequence), "{sql}");
        let pruned: Vec<_> =
            world.reports().await.iter().map(|report| report.first_sequence).collect();
        assert_eq!((pruned[0], pruned[1], pruned[3]), (9, 3, 2), "{sql}");
    }
}

#[tokio::test]
async fn retention_goes_on_over_more_than_one_batch() {
    let world = World::empty().await;
    world.serve("serve-1", 1003).await;
    world.prune(Duration::from_secs(1)).await;
    let seen: Vec<_> = world.reports().await.iter().map(|report| report.first_sequence).collect();
    assert_eq!((seen, world.faults().await), (vec![1002], vec![]));
}

#[tokio::test]
async fn a_clock_that_leaps_makes_nothing_old_and_what_it_stamped_freezes_nothing() {
    let mut world = World::new().await;
    let right = world.clock.now();
    world.clock.advance(Duration::from_hours(24 * 365));
    world.prune(Duration::from_hours(24)).await;
    assert!(world.reports().await.iter().all(|report| report.first_sequence == 1));
    // One event from then, and the clock is right again.
    world.serve("serve-2", 1).await;
    world.clock = Arc::new(ManualClock::new(right));
    world.serve("serve-2", 8).await;
    assert_eq!(world.faults().await, []);
    world.prune(Duration::from_secs(4)).await;
    let serve_2 = world.store.events("serve-2", 0, 100).await.unwrap();
    assert_eq!(serve_2.first().map(|row| row.sequence), Some(13));
    assert_eq!(world.faults().await, []);
}

#[tokio::test]
async fn a_chain_verifies_while_it_is_written_and_pruned() {
    let world = World::empty().await;
    world.serve("serve-1", 1).await;
    let look = async {
        for _ in 0..20 {
            assert_eq!(world.faults().await, []);
        }
    };
    let write = async {
        for _ in 0..40 {
            world.serve("serve-1", 3).await;
            world.prune(Duration::from_secs(10)).await;
        }
    };
    tokio::join!(look, write);
}

#[tokio::test]
async fn a_key_that_left_the_keyring_is_believed_because_a_later_one_certified_it() {
    let mut world = World::empty().await;
    let (store, folder) = (world.store.clone(), world.folder.path().to_owned());
    let path = folder.join("keyring.toml");
    certify_public_keys(&*store, &*world.keys).await.unwrap();
    world.serve("serve-1", 3).await;
    // Twice: the first key is then certified by one that is gone too.
    let mut id = world.keys.active_key_id().as_ref().to_owned();
    for chain in ["serve-2", "serve-3"] {
        let next = Keyring::generate_additional(&path, Timestamp::UNIX_EPOCH).unwrap();
        let keys = AuditKeys::new(&Keyring::load(&path).unwrap(), &next).unwrap();
        certify_public_keys(&*store, &keys).await.unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, without(&text, &id)).unwrap();
        let keyring = Keyring::load(&path).unwrap();
        assert!(keyring.get(&id).is_none());
        world.keys = Arc::new(AuditKeys::new(&keyring, &next).unwrap());
        certify_public_keys(&*store, &*world.keys).await.unwrap();
        world.serve(chain, 3).await;
        id = next;
    }
    assert_eq!(world.faults().await, []);
    let before = store.public_keys().await.unwrap();
    assert_eq!(before.len(), 3);
    world.meddle("DELETE FROM audit_keys").await;
    let lost = world.faults().await;
    assert_eq!(lost[..1], only("serve-1", BadSignature, 3)[..]);
    assert_eq!(lost.len(), 2);
}

/// A keyring file without one of its keys.
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
async fn commands_that_run_at_once_write_one_chain() {
    let world = World::empty().await;
    join_all((0..20).map(|_| world.command())).await;
    let events = world.store.events("cli", 0, 100).await.unwrap();
    assert_eq!(events.len(), 20);
    assert_eq!(world.faults().await, []);
}

#[tokio::test]
async fn the_trail_survives_a_full_disk_and_a_read_only_file() {
    let world = World::empty().await;
    let pragma = async |text: String| {
        let mut writer = world.store.file().writer().await.unwrap();
        let connection = writer.connection().unwrap();
        sqlx::query(AssertSqlSafe(text)).execute(connection).await.unwrap();
    };
    world.serve("serve-1", 1).await;
    for (ill, well) in [
        ("max_page_count = 1", "max_page_count = 1000000"),
        ("query_only = ON", "query_only = OFF"),
    ] {
        pragma(format!("PRAGMA {ill}")).await;
        let trail = Arc::new(world.trail(ill));
        let mut tasks = JoinSet::new();
        let writer = Arc::clone(&trail);
        tasks.spawn(async move { writer.run().await });
        let pending: Vec<_> = (0..200)
            .map(|_| trail.record(record(), EventClass::Change).unwrap().committed())
            .collect();
        while trail.counters().failures.get() == 0 {
            tokio::task::yield_now().await;
        }
        pragma(format!("PRAGMA {well}")).await;
        let healed = async {
            while trail.stalled() || trail.counters().events.get() == 0 {
                world.clock.advance(Duration::from_millis(10));
                tokio::task::yield_now().await;
            }
        };
        let (answers, ()) = tokio::join!(join_all(pending), healed);
        assert_eq!(answers.len(), 200);
        assert_eq!(world.store.events(ill, 0, 1000).await.unwrap().len(), 200);
        tasks.shutdown().await;
    }
    assert_eq!(world.faults().await, []);
    world.store.close().await;
}

#[tokio::test]
async fn lists_use_an_index_and_sort_nothing() {
    let world = World::empty().await;
    for statement in [EVENTS, NEWEST, NEWEST_AFTER] {
        let plan = sqlx::query(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {statement}")))
            .fetch_all(world.store.file().readers().unwrap())
            .await
            .unwrap();
        let plan: Vec<String> = plan.iter().map(|row| row.get("detail")).collect();
        assert!(plan[0].starts_with("SEARCH audit_events USING"), "{plan:?}");
        assert!(!plan.iter().any(|step| step.contains("TEMP B-TREE")), "{plan:?}");
    }
    assert!(world.clock.now() > Timestamp::UNIX_EPOCH);
}
