//! Segments of the audit journal: whatever the bytes are, only events that were written are read.
#![no_main]

use std::sync::LazyLock;

use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use tenant_gateway::{
    domain::{AuditRow, AuditSignature, ChainPoint, SignedPoint},
    fuzzing::{correct_checksums, make_segment, read_segment},
    ports::AuditGroup,
};

/// A segment with three groups of one, two and three events.
static GENUINE: LazyLock<(Vec<u8>, Vec<AuditRow>)> = LazyLock::new(|| {
    let groups: Vec<AuditGroup> = [(1, 1), (2, 3), (4, 6)].map(group).into();
    let rows = groups.iter().flat_map(|group| group.rows.clone()).collect();
    (make_segment(&groups).expect("a segment"), rows)
});

fn group((first, last): (i64, i64)) -> AuditGroup {
    let row = |sequence: i64| AuditRow {
        sequence,
        time: Timestamp::from_second(sequence).expect("a time"),
        hash: [sequence.to_le_bytes()[0]; 32],
        body: format!("event {sequence}").into_bytes(),
    };
    let rows: Vec<AuditRow> = (first..=last).map(row).collect();
    let AuditRow { time, hash, .. } = *rows.last().expect("an event");
    let point = ChainPoint { chain: "cli".into(), sequence: last, hash, time };
    let signature = AuditSignature { key_id: "k-1".into(), bytes: vec![7; 64] };
    AuditGroup { rows, head: SignedPoint { point, signature } }
}

// The first byte selects the meaning of the rest.
fuzz_target!(|data: &[u8]| match data.split_first() {
    // Arbitrary bytes with right checksums.
    Some((b'c', rest)) => {
        let mut bytes = rest.to_vec();
        correct_checksums(&mut bytes);
        read_segment(&bytes).expect("a promise");
    }
    // Changes of a genuine segment: two bytes for the place and one for the change of each.
    Some((b'm', changes)) => changed(changes),
    _ => {
        read_segment(data).expect("a promise");
    }
});

fn changed(changes: &[u8]) {
    let (genuine, rows) = &*GENUINE;
    let mut bytes = genuine.clone();
    for change in changes.chunks_exact(3) {
        let place = usize::from(u16::from_be_bytes([change[0], change[1]])) % bytes.len();
        bytes[place] ^= change[2];
    }
    if let Some(read) = read_segment(&bytes).expect("a promise") {
        // A checksum has 32 bits, so this could fail by chance only.
        assert!(read.iter().all(|row| rows.contains(row)));
    }
}
