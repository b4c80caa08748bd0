use std::path::PathBuf;

use proptest::prelude::*;

use super::*;
use crate::journal::files::simulated::{Failure, PowerLoss, Simulated};

fn folder() -> PathBuf {
    PathBuf::from("/journal/a")
}

/// A segment of so many bytes, with text that can be compressed.
fn segment(length: usize) -> Vec<u8> {
    (0_u32..).flat_map(|number| format!("event {number} ").into_bytes()).take(length).collect()
}

fn read_all(file: &dyn File) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(file.length().unwrap()).unwrap()];
    let read = files::read_full(file, &mut bytes, 0).unwrap();
    assert_eq!(read, bytes.len());
    bytes
}

fn compressed(length: usize) -> (Simulated, PathBuf, Vec<u8>) {
    let (disk, path, plain) = (Simulated::default(), folder().join("1.seg"), segment(length));
    disk.put(&path, plain.clone());
    assert!(compress(&disk, &folder(), "1.seg").unwrap());
    (disk, path, plain)
}

#[test]
fn a_compressed_segment_has_the_same_bytes() {
    for length in [513, 512 + FRAME_BYTES, 513 + FRAME_BYTES, 700_000] {
        let (disk, path, plain) = compressed(length);
        let file = open(&disk, &path).unwrap();
        assert_eq!(read_all(&*file), plain);
        let mut part = [0; 1000];
        for offset in [0, 500, 512, 513, length - 1, length, length + 1, usize::MAX / 2] {
            let read = file.read_at(&mut part, offset as u64).unwrap();
            let rest = plain.get(offset..).unwrap_or_default();
            assert!(rest.starts_with(&part[..read]) && (read > 0 || rest.is_empty()), "{offset}");
        }
        assert!(!compress(&disk, &folder(), "1.seg").unwrap(), "it is compressed already");
        let stored = disk.content(&path).unwrap();
        assert!(stored.len() < length / 2 + 1024, "{}", stored.len());
        assert_eq!(stored[8..520], plain[..512]);
    }
}

#[test]
fn a_failure_at_each_operation_leaves_one_of_both_files() {
    for operation in 0..12 {
        for loss in [PowerLoss::LosesUnsynced, PowerLoss::KeepsAll, PowerLoss::TearsLastSector] {
            let (disk, path, plain) =
                (Simulated::default(), folder().join("1.seg"), segment(600_000));
            disk.put(&path, plain.clone());
            disk.fail(operation, Failure::Halt);
            let _ = compress(&disk, &folder(), "1.seg");
            disk.lose_power(loss);
            assert!(read_all(&*open(&disk, &path).unwrap()) == plain, "{operation} {loss:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn changed_bytes_are_read_without_a_panic_and_allocate_no_more_than_a_frame(
        changes in prop::collection::vec((any::<prop::sample::Index>(), 1_u8..), 1..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let (disk, path, _) = compressed(600_000);
        let mut bytes = disk.content(&path).unwrap();
        for (place, change) in changes {
            let place = place.index(bytes.len());
            bytes[place] ^= change;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        disk.put(&path, bytes);
        if let Ok(file) = open(&disk, &path) {
            prop_assert!(file.length().unwrap() <= 3 * FRAME_BYTES as u64 + 512);
            let mut bytes = vec![0; 4 * FRAME_BYTES];
            let read = files::read_full(&*file, &mut bytes, 0).unwrap();
            prop_assert!(read as u64 <= file.length().unwrap());
        }
    }
}
