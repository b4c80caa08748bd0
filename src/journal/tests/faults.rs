//! Failures of files and of the power: after each, exactly the acknowledged events are there. A group whose write
//! failed may be there too, as a whole and unchanged: its outcome is unknown to the caller.

use std::sync::Arc;

use super::{Author, Fixed, KEYS, at, root};
use crate::{
    domain::AuditRow,
    journal::{
        chain::Chain,
        error::WriteError,
        files::{
            Files,
            simulated::{Failure, PowerLoss, SECTOR, Simulated},
        },
        format::EncodedGroup,
        names,
        place::Place,
        writer::{ChainWriter, Opening, Sizes},
    },
    ports::{AuditGroup, ManualClock},
};

const CHAIN: &str = "serve-1";

const LOSSES: [PowerLoss; 7] = [
    PowerLoss::LosesUnsynced,
    PowerLoss::KeepsAll,
    PowerLoss::KeepsSectors(0),
    PowerLoss::KeepsSectors(1),
    PowerLoss::LosesLastSector,
    PowerLoss::TearsLastSector,
    PowerLoss::LosesNames,
];

fn place(disk: &Simulated) -> Arc<Place> {
    let files: Arc<dyn Files> = Arc::new(disk.clone());
    let keys: Arc<crate::crypto::AuditKeys> = Arc::clone(&KEYS);
    Arc::new(Place::new(files, root(), keys))
}

fn open(disk: &Simulated) -> Result<ChainWriter, WriteError> {
    let opening = Opening {
        place: place(disk),
        clock: Arc::new(ManualClock::new(at(0))),
        random: Arc::new(Fixed(1)),
        sizes: Sizes { first_bytes: 4096, segment_bytes: 8192, ahead: false },
        wait: false,
    };
    opening.open(&CHAIN.into())
}

fn encoded(group: &AuditGroup) -> EncodedGroup {
    EncodedGroup::new(group).unwrap()
}

/// Returns all events, and the damages that were found.
fn read(disk: &Simulated) -> (Vec<AuditRow>, Vec<String>) {
    let place = place(disk);
    let mut chain = Chain::new(CHAIN.into(), root().join(CHAIN));
    chain.refresh(&place).unwrap();
    let rows = chain.rows(&place, 0, 1_000_000).unwrap();
    let damages = place.damages.found().iter().map(ToString::to_string).collect();
    (rows, damages)
}

/// Groups of a few sizes: some sectors, less than one, and one that no first segment holds together with the others.
fn groups() -> Vec<AuditGroup> {
    let mut author = Author::new(CHAIN);
    let sizes = [(1, 10), (3, 900), (1, 200), (2, 3_000), (1, 50), (5, 40)];
    sizes.map(|(events, reason)| author.group(events, reason)).into()
}

fn rows(groups: &[AuditGroup]) -> Vec<AuditRow> {
    groups.iter().flat_map(|group| group.rows.clone()).collect()
}

/// The number of groups that are stored, of which the last one may be unacknowledged.
fn check(disk: &Simulated, groups: &[AuditGroup], acknowledged: usize, what: &str) -> usize {
    let (stored, damages) = read(disk);
    assert_eq!(damages, [""; 0], "{what}");
    let whole = (acknowledged..=(acknowledged + 1).min(groups.len()))
        .find(|count| rows(&groups[..*count]) == stored);
    let found: Vec<i64> = stored.iter().map(|row| row.sequence).collect();
    whole.unwrap_or_else(|| panic!("{what}: {acknowledged} groups acknowledged, found {found:?}"))
}

/// Appends groups until one fails. Returns the number of acknowledged ones.
fn append_until_failure(writer: &mut ChainWriter, groups: &[AuditGroup]) -> usize {
    groups.iter().take_while(|group| writer.append(encoded(group)).is_ok()).count()
}

/// Opens the chain again, appends the groups that are not stored, and loses the power once more.
fn continue_and_check(disk: &Simulated, groups: &[AuditGroup], stored: usize, what: &str) {
    let mut writer = open(disk).unwrap_or_else(|error| panic!("{what}: {error}"));
    // A group whose outcome is unknown is appended again. If it is stored, that changes nothing.
    for group in &groups[stored.saturating_sub(1)..] {
        writer.append(encoded(group)).unwrap_or_else(|error| panic!("{what}: {error}"));
    }
    drop(writer);
    disk.lose_power(PowerLoss::LosesUnsynced);
    assert_eq!(check(disk, groups, groups.len(), what), groups.len());
}

/// Runs the whole sequence with a failure at each operation.
fn at_each_operation(
    failures: &[Failure],
    mut then: impl FnMut(&Simulated, &[AuditGroup], usize, &str),
) {
    let groups = groups();
    let operations = {
        let disk = Simulated::default();
        let mut writer = open(&disk).unwrap();
        assert_eq!(append_until_failure(&mut writer, &groups), groups.len());
        disk.operations()
    };
    assert!(operations > 20);
    for operation in 0..operations {
        for failure in failures {
            let disk = Simulated::default();
            disk.fail(operation, *failure);
            let acknowledged = match open(&disk) {
                Ok(mut writer) => {
                    let acknowledged = append_until_failure(&mut writer, &groups);
                    std::mem::forget(writer);
                    acknowledged
                }
                Err(_) => 0,
            };
            then(&disk, &groups, acknowledged, &format!("{failure:?} at {operation}"));
        }
    }
}

#[test]
fn the_power_fails_at_each_operation() {
    for loss in LOSSES {
        at_each_operation(&[Failure::Halt], |disk, groups, acknowledged, what| {
            disk.lose_power(loss);
            let what = format!("{what}, {loss:?}");
            let stored = check(disk, groups, acknowledged, &what);
            continue_and_check(disk, groups, stored, &what);
        });
    }
}

#[test]
fn a_process_ends_at_each_operation_and_the_power_fails_later() {
    at_each_operation(&[Failure::Halt], |disk, groups, acknowledged, what| {
        disk.lose_power(PowerLoss::KeepsAll);
        let stored = check(disk, groups, acknowledged, what);
        let mut writer = open(disk).unwrap();
        // Opening writes everything to the disk that can be read.
        disk.lose_power(PowerLoss::LosesUnsynced);
        assert_eq!(check(disk, groups, acknowledged, what), stored, "{what}");
        writer = {
            drop(writer);
            open(disk).unwrap()
        };
        assert_eq!(append_until_failure(&mut writer, &groups[stored..]), groups.len() - stored);
    });
}

#[test]
fn each_operation_fails_once_and_the_writer_goes_on() {
    let failures = [
        Failure::Error,
        Failure::Dropped,
        Failure::DoneButError,
        Failure::Short(0),
        Failure::Short(1),
        Failure::Short(700),
    ];
    let groups = groups();
    for loss in [PowerLoss::LosesUnsynced, PowerLoss::KeepsSectors(1)] {
        for operation in 0..60 {
            for failure in failures {
                let what = format!("{failure:?} at {operation}, {loss:?}");
                let disk = Simulated::default();
                let Ok(mut writer) = ({
                    disk.fail(operation, failure);
                    open(&disk)
                }) else {
                    continue;
                };
                for group in &groups {
                    // The trail repeats a group that failed.
                    let appended = (0..3).any(|_| writer.append(encoded(group)).is_ok());
                    assert!(appended, "{what}");
                }
                drop(writer);
                disk.lose_power(loss);
                assert_eq!(check(&disk, &groups, groups.len(), &what), groups.len());
                continue_and_check(&disk, &groups, groups.len(), &what);
            }
        }
    }
}

#[test]
fn each_operation_fails_once_when_a_chain_is_continued() {
    let failures = [Failure::Error, Failure::Dropped, Failure::DoneButError, Failure::Halt];
    let groups = groups();
    for loss in [PowerLoss::LosesUnsynced, PowerLoss::KeepsAll, PowerLoss::TearsLastSector] {
        for (stored, operation) in (1..4).flat_map(|stored| (0..16).map(move |o| (stored, o))) {
            for failure in failures {
                let what = format!("{failure:?} at {operation} after {stored}, {loss:?}");
                let disk = Simulated::default();
                let mut writer = open(&disk).unwrap();
                assert_eq!(append_until_failure(&mut writer, &groups[..stored]), stored);
                drop(writer);
                disk.fail(operation, failure);
                let acknowledged = match open(&disk) {
                    Ok(mut writer) => append_until_failure(&mut writer, &groups[stored..]),
                    Err(_) => 0,
                };
                disk.lose_power(loss);
                let found = check(&disk, &groups, stored + acknowledged, &what);
                continue_and_check(&disk, &groups, found, &what);
            }
        }
    }
}

#[test]
fn the_disk_is_full_at_each_byte_of_a_group() {
    let mut author = Author::new(CHAIN);
    let groups: Vec<AuditGroup> = (0..3).map(|_| author.group(2, 60)).collect();
    let length = encoded(&groups[1]).bytes.len();
    for bytes in 0..=length {
        for loss in [PowerLoss::LosesUnsynced, PowerLoss::KeepsAll, PowerLoss::TearsLastSector] {
            let what = format!("full after {bytes} bytes, {loss:?}");
            let disk = Simulated::default();
            let mut writer = open(&disk).unwrap();
            writer.append(encoded(&groups[0])).unwrap();
            disk.fail(0, Failure::Full(bytes));
            let acknowledged = 1 + usize::from(writer.append(encoded(&groups[1])).is_ok());
            assert_eq!(acknowledged == 2, bytes == length, "{what}");
            // Either the process ends, or there is space again.
            if loss == PowerLoss::KeepsAll {
                disk.mend();
                assert_eq!(append_until_failure(&mut writer, &groups[1..]), 2, "{what}");
                drop(writer);
                disk.lose_power(PowerLoss::LosesUnsynced);
                assert_eq!(check(&disk, &groups, 3, &what), 3);
                continue;
            }
            drop(writer);
            disk.lose_power(loss);
            let stored = check(&disk, &groups, acknowledged, &what);
            continue_and_check(&disk, &groups, stored, &what);
        }
    }
}

#[test]
fn another_group_does_not_take_the_place_of_one_whose_outcome_is_unknown() {
    let mut author = Author::new(CHAIN);
    let (first, second) = (author.group(1, 10), author.group(1, 10));
    let mut other = second.clone();
    other.rows[0].body.push(1);
    let disk = Simulated::default();
    let mut writer = open(&disk).unwrap();
    writer.append(encoded(&first)).unwrap();
    disk.fail(0, Failure::Full(30));
    assert!(matches!(writer.append(encoded(&second)), Err(WriteError::Io(_))));
    disk.mend();
    assert!(matches!(writer.append(encoded(&other)), Err(WriteError::Conflict)));
    writer.append(encoded(&second)).unwrap();
    assert_eq!(check(&disk, &[first, second], 2, "unknown outcome"), 2);
}

#[test]
fn a_valid_group_behind_damage_is_named_and_nothing_is_changed() {
    let mut author = Author::new(CHAIN);
    let groups = [(1, 10), (3, 200), (1, 20)].map(|(events, reason)| author.group(events, reason));
    let disk = Simulated::default();
    let mut writer = open(&disk).unwrap();
    append_until_failure(&mut writer, &groups);
    drop(writer);
    let path = root().join(CHAIN).join(names::segment_name(1));
    let intact = disk.content(&path).unwrap();
    let second = 512 + encoded(&groups[0]).bytes.len();
    let third = second + encoded(&groups[1]).bytes.len();
    for offset in [second, second + 5, second + 9, second + SECTOR, third - 1] {
        let mut bytes = intact.clone();
        bytes[offset] ^= 0x40;
        disk.put(&path, bytes.clone());
        let (stored, damages) = read(&disk);
        assert_eq!(stored, [&groups[0].rows[..], &groups[2].rows[..]].concat());
        let wanted = format!("{}, byte {second}: these bytes are not the group", path.display());
        assert!(damages.len() == 1 && damages[0].starts_with(&wanted), "{damages:?}");
        let Err(WriteError::Damaged(damage)) = open(&disk) else { panic!("opened") };
        assert!(damage.to_string().starts_with(&wanted), "{damage}");
        assert!(disk.content(&path).unwrap() == bytes);
    }
    // A damaged header: the chain is not begun anew over it.
    let mut bytes = intact;
    bytes[20] ^= 1;
    disk.put(&path, bytes.clone());
    let Err(WriteError::Damaged(damage)) = open(&disk) else { panic!("opened") };
    assert!(damage.to_string().contains("byte 0: the newest segment"), "{damage}");
    assert!(disk.content(&path).unwrap() == bytes);
}

#[test]
fn two_writers_of_a_chain_are_refused() {
    let disk = Simulated::default();
    let first = open(&disk).unwrap();
    assert!(matches!(open(&disk), Err(WriteError::Busy(_))));
    drop(first);
    open(&disk).unwrap();
}

#[test]
fn each_operation_fails_once_while_a_chain_is_prepared() {
    let groups = groups();
    let failures =
        [Failure::Error, Failure::Dropped, Failure::DoneButError, Failure::Short(1), Failure::Halt];
    for loss in LOSSES {
        for (operation, failure) in (0..12).flat_map(|o| failures.map(|failure| (o, failure))) {
            let what = format!("{failure:?} at {operation}, {loss:?}");
            let disk = Simulated::default();
            disk.fail(operation, failure);
            let acknowledged = match open(&disk) {
                Ok(mut writer) => {
                    // The first group makes the file anew if that fails.
                    let _ = writer.prepare();
                    append_until_failure(&mut writer, &groups[..2])
                }
                Err(_) => 0,
            };
            disk.lose_power(loss);
            let stored = check(&disk, &groups, acknowledged, &what);
            continue_and_check(&disk, &groups, stored, &what);
        }
    }
}
