//! A journal of ten million events: listing the newest ones, and verification.

use std::{
    convert::identity,
    hint::black_box,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use aws_lc_rs::digest;
use tempfile::TempDir;
use tenant_gateway::{
    audit::Verification,
    crypto::AuditKeys,
    domain::{AuditChainReport, SignedPoint},
    journal::{Journal, Role},
    ports::{AuditHeadStore, AuditStore as _, StoreError, TimeSpan},
};
use tokio::runtime::Runtime;

use super::{
    disk::free_bytes,
    events::{Author, new_keys, open_journal},
    options::Options,
    statistics::{Round, Spread, interleave, median, ratio},
    table::{Budget, Row, Table, micros},
};

/// The number of events that are committed together: the most of the gateway.
const GROUP: u32 = 512;

/// The events of the small journal.
const FEW: u32 = 10_000;

/// The number of events in a page.
const PAGE: u32 = 50;

/// The pages that are read in a round.
const PAGES: usize = 50;

/// The disk space for each event, and for the segments that are prepared.
const EVENT_BYTES: u64 = 450;
const PREPARED_BYTES: u64 = 256 * 1024 * 1024;

/// The number of events whose bytes SHA-256 hashes, and the time for which it does.
const HASHED_EVENTS: u32 = 100_000;
const HASHING_TIME: Duration = Duration::from_secs(1);

/// The most verifications.
const MAX_RUNS: usize = 3;

/// The budgets of listing and verifying.
const LISTING: Budget = Budget::AtMost(3.0);
const VERIFYING: Budget = Budget::AtLeast(0.4);

const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);

/// Adds the budgets of a large journal.
pub(crate) fn measure(runtime: &Runtime, options: &Options, table: &mut Table) {
    let events = options.events;
    let listing = format!("newest {PAGE} of {events} events against {FEW}");
    let verifying = format!("verifying {events} events against SHA-256 of their bytes");
    let (many, few) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    if let Err(reason) = check_space(many.path(), events) {
        table.push(Row::missing(listing, reason.as_str()).budget(LISTING));
        table.push(Row::missing(verifying, reason).budget(VERIFYING));
        return;
    }
    let keys = new_keys();
    let few = Stored::build(runtime, few, &keys, FEW);
    let many = Stored::build(runtime, many, &keys, events);
    list(runtime, options.runs, table, &listing, [&many, &few]);
    verify(runtime, options.runs.min(MAX_RUNS), table, &verifying, &many);
}

/// Checks that the disk has space for so many events. Returns the reason if it has not.
fn check_space(folder: &Path, events: u32) -> Result<(), String> {
    let mib = |bytes: u64| bytes / 1024 / 1024;
    let (needed, free) = (EVENT_BYTES * u64::from(events) + PREPARED_BYTES, free_bytes(folder));
    let text = format!("{} MiB at {}, {} MiB are free", mib(needed), folder.display(), mib(free));
    eprintln!("journal: {events} events need {text}");
    if free < needed { Err(format!("needs {text}; use --events or TMPDIR")) } else { Ok(()) }
}

/// A journal on the disk.
struct Stored {
    folder: TempDir,
    keys: Arc<AuditKeys>,
    events: u32,
    /// The bytes of the bodies of all events.
    bytes: u64,
}

impl Stored {
    fn build(runtime: &Runtime, folder: TempDir, keys: &Arc<AuditKeys>, events: u32) -> Self {
        let bytes = runtime.block_on(write(folder.path(), keys, events));
        Self { folder, keys: Arc::clone(keys), events, bytes }
    }

    fn open(&self) -> Journal {
        open_journal(self.folder.path(), &self.keys, Role::Command)
    }
}

/// Writes a journal. Returns the bytes of the bodies of all events.
async fn write(folder: &Path, keys: &Arc<AuditKeys>, events: u32) -> u64 {
    let journal = open_journal(folder, keys, Role::Server);
    let mut author = Author::new(keys);
    let (mut left, mut bytes, mut reported) = (events, 0, Instant::now());
    let mut make = |left: u32| (left > 0).then(|| author.group(left.min(GROUP) as usize));
    let mut group = make(left);
    while let Some(writing) = group {
        left -= left.min(GROUP);
        bytes += writing.rows.iter().map(|row| row.body.len() as u64).sum::<u64>();
        // The next group is made while this one is written.
        let (stored, following) = tokio::join!(journal.append(&writing), async { make(left) });
        stored.unwrap();
        group = following;
        if reported.elapsed() > PROGRESS_INTERVAL {
            eprintln!("journal: {} of {events} events are written", events - left);
            reported = Instant::now();
        }
    }
    journal.close().await.unwrap();
    bytes
}

/// Compares a page of the large journal with a page of the small one.
fn list(runtime: &Runtime, runs: usize, table: &mut Table, what: &str, stored: [&Stored; 2]) {
    eprintln!("journal: listing");
    let journals = stored.map(Stored::open);
    let again =
        interleave(runs, 2, |contender| runtime.block_on(read_pages(&journals[contender], PAGES)));
    let first =
        interleave(runs, 2, |contender| runtime.block_on(read_pages(&stored[contender].open(), 1)));
    let row = |what: String, rounds: &[Vec<Round>]| {
        let [many, few] = rounds else { panic!("two journals") };
        let p50 = |rounds: &[Round]| micros(median(rounds, |round| round.p50));
        Row::new(what, p50(many), p50(few), ratio(many, few, |round| round.p50))
    };
    table.push(row(what.to_owned(), &again).budget(LISTING));
    table.push(row(format!("{what}, just opened"), &first));
}

/// Reads the newest page several times.
async fn read_pages(journal: &Journal, count: usize) -> Round {
    let (begin, mut took) = (Instant::now(), Vec::new());
    for _ in 0..count {
        let page = Instant::now();
        let rows = journal.newest_events(TimeSpan::default(), None, PAGE).await.unwrap();
        took.push(page.elapsed().as_secs_f64() * 1e6);
        assert_eq!(rows.len(), PAGE as usize);
    }
    Round::new(took, begin.elapsed().as_secs_f64(), 0.0)
}

/// Compares verifications with SHA-256 of the same number of bytes on one core.
fn verify(runtime: &Runtime, runs: usize, table: &mut Table, what: &str, stored: &Stored) {
    let rows = Author::new(&stored.keys).group(HASHED_EVENTS as usize).rows;
    let bodies: Vec<Vec<u8>> = rows.into_iter().map(|row| row.body).collect();
    let joined = [bodies.concat()];
    let (mut ours, mut signed) = (Vec::new(), Vec::new());
    let (mut whole, mut single) = (Vec::new(), Vec::new());
    for run in 1..=runs {
        eprintln!("journal: verification {run}");
        let before = sha256(&joined);
        ours.push(verification(runtime, stored, identity));
        whole.push(f64::midpoint(before, sha256(&joined)));
        single.push(sha256(&bodies));
        signed.push(verification(runtime, stored, Verification::with_all_signatures));
    }
    let row = |what: String, ours: &[f64], hashing: &[f64]| {
        let ratio = Spread::of(ours.iter().zip(hashing).map(|(ours, rate)| ours / rate));
        Row::new(what, mib_per_second(ours), mib_per_second(hashing), ratio)
    };
    table.push(row(what.to_owned(), &ours, &whole).budget(VERIFYING));
    table.push(row(format!("{what}, --all-signatures"), &signed, &whole));
    table.push(row(format!("{what}, each by itself"), &ours, &single));
}

/// Verifies a journal. Returns the rate in bytes of bodies for each second.
fn verification(
    runtime: &Runtime,
    stored: &Stored,
    mode: impl FnOnce(Verification) -> Verification,
) -> f64 {
    let heads = Arc::new(NoHeads);
    let verification = Verification::new(Arc::new(stored.open()), heads, stored.keys.clone());
    let verification = mode(verification);
    let begin = Instant::now();
    let reports = runtime.block_on(verification.run(|_| ())).unwrap();
    let rate = stored.bytes as f64 / begin.elapsed().as_secs_f64();
    let intact = reports.iter().all(AuditChainReport::intact);
    let last: i64 = reports.iter().map(|report| report.last_sequence).sum();
    assert!(intact && last == i64::from(stored.events), "{reports:?}");
    rate
}

fn mib_per_second(rates: &[f64]) -> String {
    let rate = Spread::of(rates.iter().copied()).median / 1024.0 / 1024.0;
    format!("{rate:.0} MiB/s")
}

/// Returns the bytes for each second that SHA-256 hashes on this thread, a digest for each message.
fn sha256(messages: &[Vec<u8>]) -> f64 {
    let begin = Instant::now();
    let mut bytes = 0;
    while begin.elapsed() < HASHING_TIME {
        for message in messages {
            black_box(digest::digest(&digest::SHA256, message));
            bytes += message.len();
        }
    }
    bytes as f64 / begin.elapsed().as_secs_f64()
}

/// The heads of chains are not kept elsewhere.
struct NoHeads;

#[async_trait]
impl AuditHeadStore for NoHeads {
    async fn put_head(&self, _: &SignedPoint) -> Result<(), StoreError> {
        Ok(())
    }

    async fn heads(&self) -> Result<Vec<SignedPoint>, StoreError> {
        Ok(Vec::new())
    }
}
