//! The cost of the audit trail, by the number of events that are committed together.
//!
//! Three contenders alternate: a bare file with one `pwrite` and one `fdatasync` for each group, which is the minimum;
//! the journal with prepared groups; and the whole trail (queueing, encoding, hashing, signing, committing, waking the
//! waiting callers).

use std::{path::Path, sync::Arc, time::Duration, time::Instant};

use tempfile::TempDir;
use tenant_gateway::{
    audit::{Durability, EventClass, Trail, TrailPorts, TrailRules},
    crypto::AuditKeys,
    journal::Role,
    ports::{AuditGroup, AuditStore as _, SystemClock},
};
use tokio::runtime::Runtime;

use super::{
    disk::PreallocatedFile,
    events::{Author, CHAIN, group_bytes, new_keys, open_journal, record},
    options::Options,
    server::cpu_micros,
    statistics::{Round, interleave, median, ratio},
    table::{Budget, Row, Table, micros},
};

const SIZES: [usize; 5] = [1, 8, 32, 128, 512];

/// The number of events in a round, and the most groups.
const EVENTS: usize = 30_000;
const GROUPS: usize = 1000;

/// The number of events in a group of the budget.
const BUDGET_SIZE: usize = 32;

const CONTENDERS: [&str; 3] = ["bare file", "journal", "trail"];

/// Adds the budget of a commit.
pub(crate) fn measure(runtime: &Runtime, options: &Options, table: &mut Table) {
    let rounds = rounds(runtime, options.runs, None, BUDGET_SIZE);
    let row = |contender: usize, name: &str, of: fn(&Round) -> f64, which: &str| {
        let (ours, bare) = (&rounds[contender], &rounds[0]);
        let what = format!("{name}, {BUDGET_SIZE} events, {which}");
        Row::new(what, micros(median(ours, of)), micros(median(bare, of)), ratio(ours, bare, of))
    };
    table.push(row(1, "audit commit", |round| round.p50, "p50").budget(Budget::AtMost(1.3)));
    table.push(row(1, "audit commit", |round| round.p99, "p99"));
    table.push(row(2, "whole audit trail", |round| round.p50, "p50"));
}

/// Prints a table of all sizes, on the disk of the temporary folder and in memory.
pub(crate) fn compare(runtime: &Runtime, options: &Options) {
    for (medium, folder) in [("disk", None), ("memory", Some(Path::new("/dev/shm")))] {
        if folder.is_some_and(|folder| !folder.is_dir()) {
            println!("no {medium} to measure on");
            continue;
        }
        println!(
            "\n{medium:6}  events  contender   p50 µs  p99 µs  µs CPU an event  events/s  p50 of bare"
        );
        for size in SIZES {
            let rounds = rounds(runtime, options.runs, folder, size);
            for (name, contender) in CONTENDERS.iter().zip(&rounds) {
                println!(
                    "{medium:6}  {size:6}  {name:10}  {:6.0}  {:6.0}  {:15.2}  {:8.0}  {:10.2}x",
                    median(contender, |round| round.p50),
                    median(contender, |round| round.p99),
                    median(contender, |round| round.cpu_micros) / size as f64,
                    median(contender, |round| round.per_second) * size as f64,
                    ratio(contender, &rounds[0], |round| round.p50).median,
                );
            }
        }
    }
}

/// Measures groups of one size. The results of a round are those of groups.
fn rounds(runtime: &Runtime, runs: usize, folder: Option<&Path>, size: usize) -> Vec<Vec<Round>> {
    let groups = (EVENTS / size).min(GROUPS);
    interleave(runs, CONTENDERS.len(), |contender| {
        let folder = folder.map_or_else(TempDir::new, TempDir::new_in).unwrap();
        match contender {
            0 => bare(folder.path(), groups, size),
            1 => runtime.block_on(journal(folder.path(), groups, size)),
            _ => runtime.block_on(trail(folder.path(), groups, size)),
        }
    })
}

/// Measures the time of each group, and of all.
struct Stopwatch {
    begin: Instant,
    cpu: f64,
    last: Instant,
    micros: Vec<f64>,
}

impl Stopwatch {
    fn start() -> Self {
        let (begin, cpu) = (Instant::now(), cpu_micros(std::process::id()));
        Self { begin, cpu, last: Instant::now(), micros: Vec::new() }
    }

    /// Ends the time of a group, and begins that of the next one.
    fn lap(&mut self) {
        let now = Instant::now();
        self.micros.push((now - self.last).as_secs_f64() * 1e6);
        self.last = now;
    }

    fn stop(self) -> Round {
        let cpu = cpu_micros(std::process::id()) - self.cpu;
        Round::new(self.micros, self.begin.elapsed().as_secs_f64(), cpu)
    }
}

fn groups_of(keys: &Arc<AuditKeys>, groups: usize, size: usize) -> Vec<AuditGroup> {
    let mut author = Author::new(keys);
    (0..groups).map(|_| author.group(size)).collect()
}

fn bare(folder: &Path, groups: usize, size: usize) -> Round {
    let packed: Vec<Vec<u8>> =
        groups_of(&new_keys(), groups, size).iter().map(group_bytes).collect();
    let bytes: usize = packed.iter().map(Vec::len).sum();
    let mut file = PreallocatedFile::new(&folder.join("bare"), bytes as u64);
    let mut watch = Stopwatch::start();
    for group in &packed {
        file.append(group);
        watch.lap();
    }
    watch.stop()
}

async fn journal(folder: &Path, groups: usize, size: usize) -> Round {
    let keys = new_keys();
    let groups = groups_of(&keys, groups, size);
    let journal = open_journal(folder, &keys, Role::Server);
    let mut watch = Stopwatch::start();
    for group in &groups {
        journal.append(group).await.unwrap();
        watch.lap();
    }
    let round = watch.stop();
    journal.close().await.unwrap();
    round
}

async fn trail(folder: &Path, groups: usize, size: usize) -> Round {
    let keys = new_keys();
    let journal = open_journal(folder, &keys, Role::Server);
    let ports = TrailPorts {
        store: Arc::new(journal.clone()),
        signer: keys,
        clock: Arc::new(SystemClock),
        timer: Arc::new(SystemClock),
    };
    let (durability, max_wait) = (Durability::BeforeResponse, Duration::from_mins(1));
    let trail = Trail::new(ports, CHAIN.into(), TrailRules { durability, max_wait });
    let work = async {
        let mut watch = Stopwatch::start();
        for _ in 0..groups {
            let pending: Vec<_> =
                (0..size).map(|_| trail.record(record(), EventClass::Change).unwrap()).collect();
            for pending in pending {
                pending.committed().await.unwrap();
            }
            watch.lap();
        }
        watch.stop()
    };
    let round = tokio::select! {
        () = trail.run() => unreachable!(),
        round = work => round,
    };
    journal.close().await.unwrap();
    round
}
