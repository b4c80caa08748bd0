//! Load for minutes: memory and latency must not grow. At the end, the disk bytes of an event.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use tenant_gateway::{domain::ChainState, ports::AuditStore as _};
use tokio::runtime::Runtime;

use super::{
    disk::disk_bytes,
    installation::Installation,
    options::Options,
    statistics::{Round, median},
    tickets::{Gateway, Layers, Target},
};

const IN_FLIGHT: usize = 32;

/// The first bytes of a compressed segment, the length of its header, and that of the end of its table
/// (`docs/reference/journal.md`).
const COMPRESSED: [u8; 8] = [0x50, 0x2a, 0x4d, 0x18, 0, 2, 0, 0];
const HEADER_BYTES: u64 = 512;
const TABLE_END_BYTES: usize = 9;

/// Runs load with all layers. Prints a line for each minute; they should not differ.
pub(crate) fn run(runtime: &Runtime, options: &Options, minutes: u32) {
    let Gateway { server, world, .. } = Gateway::start(runtime, Layers::BeforeResponse);
    let target = Target { server: &server, token: Some(&world.token) };
    println!("  minute   calls/s   p50 µs   p99 µs   RSS MiB   journal MiB");
    let begin = Instant::now();
    let mut slowest = Vec::new();
    for minute in 1..=minutes {
        let mut rounds: Vec<Round> = Vec::new();
        while begin.elapsed() < Duration::from_mins(1) * minute {
            rounds.push(target.round(runtime, options.round, IN_FLIGHT));
        }
        let p99 = median(&rounds, |round| round.p99);
        slowest.push(p99);
        println!(
            "  {minute:>6}  {:>8.0}  {:>7.0}  {p99:>7.0}  {:>8.1}  {:>12.1}",
            median(&rounds, |round| round.per_second),
            median(&rounds, |round| round.p50),
            server.kib("VmRSS:") as f64 / 1024.0,
            disk_bytes(&world.folder.path().join("audit")) as f64 / 1024.0 / 1024.0
        );
    }
    let highest = slowest.iter().copied().fold(0.0, f64::max);
    println!("highest p99 of a minute: {:.2} of the first minute", highest / slowest[0]);
    drop(server);
    runtime.block_on(print_disk_use(&world));
}

/// Compresses the journal, and prints the disk bytes of an event before and after that.
async fn print_disk_use(world: &Installation) {
    let storage = world.storage().await;
    let chains = storage.audit.chains().await.unwrap();
    let events: u64 = chains.iter().map(ChainState::length).sum();
    // All chains are idle at that time.
    let later = Timestamp::now() + Duration::from_hours(1);
    let segments = storage.audit.compress(later).await.unwrap();
    storage.close().await;
    let (mut stored, mut original) = (0, 0);
    for chain in fs::read_dir(world.folder.path().join("audit")).unwrap().map(Result::unwrap) {
        if !chain.path().is_dir() {
            continue;
        }
        for file in fs::read_dir(chain.path()).unwrap().map(Result::unwrap) {
            if file.path().extension().is_some_and(|extension| extension == "seg") {
                stored += file.metadata().unwrap().len();
                original += original_bytes(&file.path());
            }
        }
    }
    println!(
        "{events} events: {:.0} bytes each before compression, {:.0} after it ({segments} segments now)",
        original as f64 / events as f64,
        stored as f64 / events as f64,
    );
}

/// Returns the length of a segment before it was compressed, without zeros at its end.
fn original_bytes(segment: &Path) -> u64 {
    let bytes = fs::read(segment).unwrap();
    if !bytes.starts_with(&COMPRESSED) {
        return bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1);
    }
    let number = |at: usize| {
        u64::from(u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]))
    };
    let end = bytes.len() - TABLE_END_BYTES;
    let frames = usize::try_from(number(end)).unwrap();
    let lengths = (1..=frames).map(|frame| number(end - frame * 8 + 4));
    HEADER_BYTES + lengths.sum::<u64>()
}
