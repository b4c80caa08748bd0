//! `cargo bench --bench audit`: the cost of the audit trail, by the number of events that are committed together.
//!
//! Three variants alternate in one run: the whole trail (queueing, encoding, hashing, signing, committing, waking the
//! waiters); only the store, with prepared rows; and a bare SQLite file with one row per group, which is the minimum
//! cost of storing it. Each runs on the disk of the temporary folder, with fsync, and in memory (`/dev/shm`), without.
//! Only the ratios are meaningful.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    reason = "a bench is a script: it prints, and panics on errors"
)]

use std::{fs, path::Path, sync::Arc, time::Duration, time::Instant};

use aws_lc_rs::digest;
use jiff::Timestamp;
use sqlx::{
    ConnectOptions as _, Connection as _, Executor as _, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};
use tempfile::TempDir;
use tenant_gateway::{
    audit::{Durability, EventClass, Trail, TrailPorts, TrailRules},
    crypto::{AuditKeys, EnvelopeSealer, Keyring},
    domain::{
        AuditEvent, AuditRecord, AuditRow, AuditSignature, ChainPoint, Decision, NO_HASH,
        SignedPoint,
    },
    ports::{AuditGroup, AuditStore as _, StoreHealth as _, SystemClock},
    store::{SqliteFile, SqliteStore},
};
use tokio::runtime::Runtime;

const SIZES: [usize; 5] = [1, 8, 32, 128, 512];
const ROUNDS: usize = 3;
/// The number of events in a round, and the maximum number of groups.
const EVENTS: usize = 30_000;
const GROUPS: usize = 1_000;

fn main() {
    let runtime = Runtime::new().unwrap();
    for (medium, folder) in [("disk", None), ("memory", Some(Path::new("/dev/shm")))] {
        if folder.is_some_and(|folder| !folder.is_dir()) {
            println!("no {medium} to measure on");
            continue;
        }
        println!(
            "\n{medium:6}  events  what          µs a group  µs CPU an event  events/s  bytes an event  of bare"
        );
        for size in SIZES {
            runtime.block_on(measure(medium, folder, size));
        }
    }
}

/// The measurements of a round.
#[derive(Clone, Copy)]
struct Took {
    wall: Duration,
    cpu: f64,
    bytes: u64,
}

async fn measure(medium: &str, folder: Option<&Path>, size: usize) {
    let groups = (EVENTS / size).min(GROUPS);
    let mut took: [Vec<Took>; 3] = Default::default();
    for _ in 0..ROUNDS {
        for (contender, took) in took.iter_mut().enumerate() {
            let folder = folder.map_or_else(TempDir::new, TempDir::new_in).unwrap();
            took.push(match contender {
                0 => bare(folder.path(), groups, size).await,
                1 => rows(folder.path(), groups, size).await,
                _ => trail(folder.path(), groups, size).await,
            });
        }
    }
    let events = (groups * size) as f64;
    let reference = median(&took[0]).wall;
    for (what, took) in ["bare SQLite", "store", "trail"].iter().zip(&took) {
        let Took { wall, cpu, bytes } = median(took);
        println!(
            "{medium:6}  {size:6}  {what:12}  {:10.0}  {:15.2}  {:8.0}  {:14.0}  {:6.2}x",
            wall.as_secs_f64() * 1e6 / groups as f64,
            cpu * 1e6 / events,
            events / wall.as_secs_f64(),
            bytes as f64 / events,
            wall.as_secs_f64() / reference.as_secs_f64(),
        );
    }
}

fn median(rounds: &[Took]) -> Took {
    let mut rounds = rounds.to_vec();
    rounds.sort_by_key(|took| took.wall);
    rounds[rounds.len() / 2]
}

/// A stopwatch for wall-clock and CPU time.
struct Watch {
    begin: Instant,
    cpu: f64,
}

impl Watch {
    fn start() -> Self {
        Self { begin: Instant::now(), cpu: cpu() }
    }

    fn stop(&self) -> (Duration, f64) {
        (self.begin.elapsed(), cpu() - self.cpu)
    }
}

/// Returns the CPU time of this process so far in seconds, with a resolution of 10 ms.
fn cpu() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    fields[11..13].iter().map(|field| field.parse::<f64>().unwrap() * 0.01).sum()
}

fn record() -> AuditRecord {
    AuditRecord {
        caller: "spiffe://prod.example.com/ns/crm/sa/sync".into(),
        caller_method: "jwt".into(),
        caller_issuer: "https://kubernetes.default.svc.cluster.local".into(),
        resource: "applications/crm-sync/tenants/Cust12345".into(),
        acting_as: "system".into(),
        policy_ids: ["sync-issues-tickets".into()].into(),
        credential_id: "t-0123456789abcdef0123456789abcdef".into(),
        request_id: "01890a5d-ac96-774b-bcce-b302099a8057".into(),
        client_address: "10.1.2.3".into(),
        ..AuditRecord::new("issueSystemTicket", Decision::Allowed)
    }
}

/// Returns encoded events, numbered from `first`.
fn encoded(first: i64, size: usize) -> Vec<AuditRow> {
    let hash = |message: &[u8]| {
        let mut hash = NO_HASH;
        hash.copy_from_slice(digest::digest(&digest::SHA256, message).as_ref());
        hash
    };
    let row = |sequence| {
        let mut event = AuditEvent {
            chain: "serve-bench".into(),
            sequence,
            time: Timestamp::now(),
            record: record(),
            links: Vec::new(),
            previous_hash: [7; 32],
            hash: NO_HASH,
        };
        event.seal(hash)
    };
    (first..).take(size).map(row).collect()
}

/// Returns all groups of a round, ready to be stored.
fn groups_of(groups: usize, size: usize) -> Vec<AuditGroup> {
    let group = |number: usize| {
        let rows = encoded(i64::try_from(number * size + 1).unwrap(), size);
        let AuditRow { sequence, time, hash, .. } = rows[size - 1].clone();
        let point = ChainPoint { chain: "serve-bench".into(), sequence, hash, time };
        let signature = AuditSignature { key_id: "k-bench".into(), bytes: vec![7; 64] };
        AuditGroup { rows, head: SignedPoint { point, signature } }
    };
    (0..groups).map(group).collect()
}

async fn store(folder: &Path) -> (Arc<SqliteStore>, AuditKeys) {
    let path = folder.join("keyring.toml");
    let id = Keyring::generate(&path, Timestamp::now()).unwrap();
    let keyring = Keyring::load(&path).unwrap();
    let file = SqliteFile::open(&folder.join("gateway.db")).await.unwrap();
    let sealer = Arc::new(EnvelopeSealer::new(&keyring, &id).unwrap());
    let keys = AuditKeys::new(&keyring, &id).unwrap();
    (Arc::new(SqliteStore::new(file, sealer, std::iter::empty().collect())), keys)
}

async fn trail(folder: &Path, groups: usize, size: usize) -> Took {
    let (store, keys) = store(folder).await;
    let ports = TrailPorts {
        store: store.clone(),
        signer: Arc::new(keys),
        clock: Arc::new(SystemClock),
        timer: Arc::new(SystemClock),
    };
    let (durability, max_wait) = (Durability::BeforeResponse, Duration::from_mins(1));
    let trail = Trail::new(ports, "serve-bench".into(), TrailRules { durability, max_wait });
    let watch = Watch::start();
    let work = async {
        for _ in 0..groups {
            let pending: Vec<_> =
                (0..size).map(|_| trail.record(record(), EventClass::Change).unwrap()).collect();
            for pending in pending {
                pending.committed().await.unwrap();
            }
        }
    };
    tokio::select! {
        () = trail.run() => unreachable!(),
        () = work => {}
    }
    let (wall, cpu) = watch.stop();
    store.close().await;
    Took { wall, cpu, bytes: fs::metadata(folder.join("gateway.db")).unwrap().len() }
}

async fn rows(folder: &Path, groups: usize, size: usize) -> Took {
    let (store, _) = store(folder).await;
    let groups = groups_of(groups, size);
    let watch = Watch::start();
    for group in &groups {
        store.append(group).await.unwrap();
    }
    let (wall, cpu) = watch.stop();
    store.close().await;
    Took { wall, cpu, bytes: fs::metadata(folder.join("gateway.db")).unwrap().len() }
}

async fn bare(folder: &Path, groups: usize, size: usize) -> Took {
    let path = folder.join("bare.db");
    let mut connection: SqliteConnection = SqliteConnectOptions::new()
        .filename(&path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .connect()
        .await
        .unwrap();
    connection
        .execute("CREATE TABLE packed (last INTEGER PRIMARY KEY, time INTEGER NOT NULL, bodies BLOB NOT NULL) STRICT")
        .await
        .unwrap();
    let packed: Vec<(i64, i64, Vec<u8>)> = groups_of(groups, size)
        .into_iter()
        .map(|AuditGroup { rows, head }| {
            let bodies: Vec<_> =
                rows.iter().map(|row| [&row.hash[..], &row.body].concat()).collect();
            (head.point.sequence, head.point.time.as_microsecond(), bodies.concat())
        })
        .collect();
    let watch = Watch::start();
    for (last, time, bodies) in &packed {
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.unwrap();
        sqlx::query("INSERT INTO packed VALUES (?, ?, ?)")
            .bind(last)
            .bind(time)
            .bind(bodies)
            .execute(&mut *transaction)
            .await
            .unwrap();
        transaction.commit().await.unwrap();
    }
    let (wall, cpu) = watch.stop();
    connection.close().await.unwrap();
    Took { wall, cpu, bytes: fs::metadata(path).unwrap().len() }
}
