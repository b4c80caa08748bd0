//! Reading of arbitrary and of changed bytes.

use proptest::{collection::vec, prelude::*};

use super::Author;
use crate::{
    domain::AuditRow,
    journal::probe::{correct_checksums, make_segment, read_segment},
    ports::AuditGroup,
};

fn groups() -> Vec<AuditGroup> {
    let mut author = Author::new("cli");
    [(1, 5), (3, 40), (2, 0), (1, 300)].map(|(events, reason)| author.group(events, reason)).into()
}

#[test]
fn a_segment_is_read_as_it_was_written() {
    let groups = groups();
    let rows: Vec<AuditRow> = groups.iter().flat_map(|group| group.rows.clone()).collect();
    let mut bytes = make_segment(&groups).unwrap();
    assert_eq!(read_segment(&bytes), Ok(Some(rows.clone())));
    bytes.resize(bytes.len() + 5000, 0);
    assert_eq!(read_segment(&bytes), Ok(Some(rows.clone())));
    // A torn end.
    bytes.extend_from_slice(b"AGRP\0\0\0\x80and no group");
    assert_eq!(read_segment(&bytes), Ok(Some(rows)));
}

#[test]
fn a_segment_that_is_cut_has_whole_groups_only() {
    let groups = groups();
    let bytes = make_segment(&groups).unwrap();
    let mut sizes = Vec::new();
    for length in 512..=bytes.len() {
        let rows = read_segment(&bytes[..length]).unwrap().unwrap();
        let whole = (0..=groups.len())
            .find(|count| groups[..*count].iter().flat_map(|g| &g.rows).eq(&rows))
            .unwrap_or_else(|| panic!("cut at {length}"));
        sizes.push(whole);
    }
    assert!(sizes.is_sorted() && sizes.first() == Some(&0) && sizes.last() == Some(&4));
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_read_without_a_panic(
        mut bytes in vec(any::<u8>(), 0..4096),
        genuine in any::<bool>(),
    ) {
        if genuine {
            let start = &make_segment(&groups()).unwrap()[..512];
            bytes.splice(..0, start.iter().copied());
        }
        prop_assert!(read_segment(&bytes).is_ok());
        correct_checksums(&mut bytes);
        prop_assert!(read_segment(&bytes).is_ok());
    }

    #[test]
    fn changed_bytes_give_no_other_event(
        changes in vec((any::<prop::sample::Index>(), 1_u8..), 1..8),
    ) {
        let groups = groups();
        let rows: Vec<AuditRow> = groups.iter().flat_map(|group| group.rows.clone()).collect();
        let mut bytes = make_segment(&groups).unwrap();
        for (place, change) in changes {
            let place = place.index(bytes.len());
            bytes[place] ^= change;
        }
        let read = read_segment(&bytes).unwrap().unwrap_or_default();
        prop_assert!(read.iter().all(|row| rows.contains(row)));
    }

    #[test]
    fn moved_and_repeated_groups_give_no_event_twice(order in vec(0_usize..4, 0..8)) {
        let groups = groups();
        let whole = make_segment(&groups).unwrap();
        let bounds: Vec<usize> = std::iter::once(512)
            .chain((1..=4).map(|count| make_segment(&groups[..count]).unwrap().len()))
            .collect();
        let mut bytes = whole[..512].to_vec();
        for group in order {
            bytes.extend_from_slice(&whole[bounds[group]..bounds[group + 1]]);
        }
        let read = read_segment(&bytes).unwrap().unwrap_or_default();
        prop_assert!(read.is_sorted_by(|one, next| one.sequence < next.sequence));
    }

    #[test]
    fn right_checksums_do_not_make_a_wrong_structure_valid(
        changes in vec((512..2000_usize, 1_u8..), 1..4),
    ) {
        let mut bytes = make_segment(&groups()).unwrap();
        for (place, change) in changes {
            if let Some(byte) = bytes.get_mut(place) {
                *byte ^= change;
            }
        }
        correct_checksums(&mut bytes);
        // The promise is checked inside: what is read encodes to the same bytes.
        prop_assert!(read_segment(&bytes).is_ok());
    }
}
