//! `cargo bench --bench audit`: the cost of the audit trail, by the number of events that are committed together.
//!
//! Three variants alternate in one run: the whole trail (queueing, encoding, hashing, signing, committing, waking the
//! waiters); only the journal, with prepared rows; and a bare file with one `pwrite` and one `fdatasync` per group, which
//! is the minimum cost of storing it. Each runs on the disk of the temporary folder and in memory (`/dev/shm`).
//! Only the ratios are meaningful.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    reason = "a bench is a script: it prints, and panics on errors"
)]

use std::{fs, os::unix::fs::FileExt as _, path::Path, sync::Arc, time::Duration, time::Instant};

use aws_lc_rs::digest;
use jiff::Timestamp;
use tempfile::TempDir;
use tenant_gateway::{
    audit::{Durability, EventClass, Trail, TrailPorts, TrailRules},
    crypto::{AuditKeys, Keyring, SystemRandom},
    domain::{
        AuditEvent, AuditRecord, AuditRow, AuditSignature, ChainPoint, Decision, NO_HASH,
        SignedPoint,
    },
    journal::{Journal, JournalPorts, JournalSettings, Role},
    ports::{AuditGroup, AuditStore as _, SystemClock},
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
                0 => bare(folder.path(), groups, size),
                1 => journal(folder.path(), groups, size).await,
                _ => trail(folder.path(), groups, size).await,
            });
        }
    }
    let events = (groups * size) as f64;
    let reference = median(&took[0]).wall;
    for (what, took) in ["bare file", "journal", "trail"].iter().zip(&took) {
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

/// The size of a segment.
const SEGMENT_BYTES: u64 = 64 * 1024 * 1024;

fn open(folder: &Path) -> (Journal, Arc<AuditKeys>) {
    let path = folder.join("keyring.toml");
    let id = Keyring::generate(&path, Timestamp::now()).unwrap();
    let keys = Arc::new(AuditKeys::new(&Keyring::load(&path).unwrap(), &id).unwrap());
    let directory = folder.join("audit");
    let settings = JournalSettings { directory, segment_bytes: SEGMENT_BYTES, role: Role::Server };
    let ports = JournalPorts {
        signer: keys.clone(),
        clock: Arc::new(SystemClock),
        random: Arc::new(SystemRandom),
    };
    (Journal::open(settings, ports).unwrap(), keys)
}

/// Returns the bytes of all segments.
fn segment_bytes(folder: &Path) -> u64 {
    let segments = fs::read_dir(folder.join("audit/serve-bench")).unwrap();
    segments.map(|segment| segment.unwrap().metadata().unwrap().len()).sum()
}

async fn trail(folder: &Path, groups: usize, size: usize) -> Took {
    let (journal, keys) = open(folder);
    let ports = TrailPorts {
        store: Arc::new(journal.clone()),
        signer: keys,
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
    journal.close().await.unwrap();
    Took { wall, cpu, bytes: segment_bytes(folder) }
}

async fn journal(folder: &Path, groups: usize, size: usize) -> Took {
    let (journal, _) = open(folder);
    let groups = groups_of(groups, size);
    let watch = Watch::start();
    for group in &groups {
        journal.append(group).await.unwrap();
    }
    let (wall, cpu) = watch.stop();
    journal.close().await.unwrap();
    Took { wall, cpu, bytes: segment_bytes(folder) }
}

fn bare(folder: &Path, groups: usize, size: usize) -> Took {
    let packed: Vec<Vec<u8>> = groups_of(groups, size)
        .into_iter()
        .map(|AuditGroup { rows, .. }| {
            rows.iter().flat_map(|row| [&row.hash[..], &row.body].concat()).collect()
        })
        .collect();
    let bytes: u64 = packed.iter().map(|group| group.len() as u64).sum();
    let file = fs::File::create(folder.join("bare")).unwrap();
    file.write_all_at(&vec![0; usize::try_from(bytes).unwrap()], 0).unwrap();
    file.sync_all().unwrap();
    let watch = Watch::start();
    let mut offset = 0;
    for group in &packed {
        file.write_all_at(group, offset).unwrap();
        file.sync_data().unwrap();
        offset += group.len() as u64;
    }
    let (wall, cpu) = watch.stop();
    Took { wall, cpu, bytes }
}
