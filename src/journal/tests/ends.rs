//! Reading segments from their ends: it gives the same as reading them from the beginning, and reads little.

use std::{
    io,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use proptest::{collection::vec, option, prelude::*, sample::Index};

use super::{Author, KEYS, Role, at, open_in, root};
use crate::{
    crypto::AuditKeys,
    journal::{
        chain::Chain,
        files::{File, FileId, Files, Lock, Purpose, simulated::Simulated},
        header::Header,
        names::segment_name,
        place::Place,
        probe::{Memory, make_segment},
        segment::{Extent, GroupReader},
        segment_end::{END_BYTES, last_groups},
    },
    ports::{AuditGroup, AuditStore as _, ChainedRow, TimeSpan},
};

/// Files that count the bytes that are read.
#[derive(Clone)]
struct Counted(Simulated, Arc<AtomicU64>);

struct CountedFile(Box<dyn File>, Arc<AtomicU64>);

impl Counted {
    fn new(disk: &Simulated) -> Self {
        Self(disk.clone(), Arc::default())
    }

    /// Returns the number of bytes that were read since the last call.
    fn read(&self) -> u64 {
        self.1.swap(0, Ordering::Relaxed)
    }
}

impl File for CountedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let read = self.0.read_at(buffer, offset)?;
        self.1.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.0.write_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn length(&self) -> io::Result<u64> {
        self.0.length()
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.0.truncate(length)
    }

    fn id(&self) -> io::Result<FileId> {
        self.0.id()
    }
}

impl Files for Counted {
    fn open(&self, path: &Path, purpose: Purpose) -> io::Result<Box<dyn File>> {
        Ok(Box::new(CountedFile(self.0.open(path, purpose)?, Arc::clone(&self.1))))
    }

    fn id(&self, path: &Path) -> io::Result<FileId> {
        Files::id(&self.0, path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.remove(path)
    }

    fn length(&self, path: &Path) -> io::Result<u64> {
        Files::length(&self.0, path)
    }

    fn volume_bytes(&self, directory: &Path) -> io::Result<u64> {
        self.0.volume_bytes(directory)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        self.0.list(directory)
    }

    fn create_directory(&self, directory: &Path) -> io::Result<()> {
        self.0.create_directory(directory)
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        self.0.sync_directory(directory)
    }

    fn lock(&self, path: &Path, wait: bool) -> io::Result<Option<Box<dyn Lock>>> {
        self.0.lock(path, wait)
    }
}

/// Reads a segment from the beginning, and its last groups from its end.
fn read_both(bytes: &[u8], until: Option<i64>, window: u64) -> (Extent, Option<Extent>) {
    let header = Header::decode(&bytes[..512]).unwrap();
    let file = Memory(bytes);
    let mut whole = Extent::empty(&header);
    let mut reader = GroupReader::new(&file, header.incarnation);
    let read = whole.extend(&mut reader, &header.chain, until, &mut |_| ControlFlow::Continue(()));
    assert_eq!(read.unwrap(), ControlFlow::Continue(()));
    (whole, last_groups(&file, &header, &header.chain, until, window).unwrap())
}

fn groups(sizes: &[(i64, usize)]) -> Vec<AuditGroup> {
    let mut author = Author::new("cli");
    sizes.iter().map(|(events, reason)| author.group(*events, *reason)).collect()
}

fn place(files: impl Files + 'static) -> Place {
    let keys: Arc<AuditKeys> = Arc::clone(&KEYS);
    Place::new(Arc::new(files), root(), keys)
}

fn segment(first: i64) -> PathBuf {
    root().join("cli").join(segment_name(first))
}

proptest! {
    #[test]
    fn both_directions_find_the_same_end(
        sizes in vec((1_i64..4, 0_usize..1500), 1..10),
        cut in option::of(any::<Index>()),
        garbage in option::of(vec(any::<u8>(), 1..600)),
        zeros in 0_usize..70_000,
        superseded in option::of(any::<Index>()),
        window in 0_u64..12_000,
    ) {
        let groups = groups(&sizes);
        let mut bytes = make_segment(&groups).unwrap();
        let clean = cut.is_none() && garbage.is_none();
        if let Some(cut) = cut {
            bytes.truncate(512 + cut.index(bytes.len() - 512));
        }
        bytes.extend(garbage.unwrap_or_default());
        bytes.resize(bytes.len() + zeros, 0);
        // The first event of one of the groups, or the one after the last.
        let mut firsts: Vec<i64> = groups.iter().map(AuditGroup::first_sequence).collect();
        firsts.push(groups.last().unwrap().head.point.sequence + 1);
        let until = superseded.map(|index| *index.get(&firsts[1..]));
        let (whole, end) = read_both(&bytes, until, window);
        let continues = until.is_none_or(|until| until == *firsts.last().unwrap());
        prop_assert!(end.is_some() || !clean || !continues);
        if let Some(end) = end {
            prop_assert_eq!(&end.head, &whole.head);
            prop_assert_eq!((end.end, end.last_group), (whole.end, whole.last_group));
            prop_assert_eq!(end.tail.sequence, whole.tail.sequence);
            prop_assert_eq!(end.tail.hash, whole.tail.hash);
            prop_assert!(whole.damages.is_empty() && !whole.torn && whole.superseded.is_none());
            prop_assert_eq!(end.blocks[0].from, end.start);
            if end.is_whole() {
                prop_assert_eq!(end, whole);
            }
        }
    }

    #[test]
    fn a_chain_has_the_same_head_from_both_directions(
        sizes in vec((1_i64..4, 0_usize..1500), 3..10),
        change in option::of((any::<Index>(), 1_u8..)),
        zeros in 0_usize..5_000,
    ) {
        let disk = Simulated::default();
        let mut bytes = make_segment(&groups(&sizes)).unwrap();
        if let Some((index, change)) = change {
            // Not in the header: another header has another id.
            let index = 512 + index.index(bytes.len() - 512);
            bytes[index] ^= change;
        }
        bytes.resize(bytes.len() + zeros, 0);
        disk.put(&segment(1), bytes);
        let place = place(disk.clone());
        let mut chain = Chain::new("cli".into(), root().join("cli"));
        chain.refresh(&place).unwrap();
        let fast = chain.state(&place).unwrap();
        let mut other = Chain::new("cli".into(), root().join("cli"));
        other.refresh(&place).unwrap();
        other.load_newest(&place).unwrap();
        prop_assert_eq!(&other.state(&place).unwrap(), &fast);
        // What was read from the end is replaced when everything is read.
        let rows = chain.rows(&place, 0, 1_000).unwrap();
        prop_assert_eq!(rows, other.rows(&place, 0, 1_000).unwrap());
        prop_assert_eq!(chain.state(&place).unwrap(), fast);
    }
}

#[test]
fn moved_and_repeated_groups_are_left_to_the_reading_from_the_beginning() {
    let groups = groups(&[(2, 50), (1, 60), (3, 70)]);
    let whole = make_segment(&groups).unwrap();
    let bounds: Vec<usize> = std::iter::once(512)
        .chain((1..=3).map(|count| make_segment(&groups[..count]).unwrap().len()))
        .collect();
    for order in [&[0, 2, 1][..], &[0, 1, 1, 2], &[2, 1, 0], &[0, 1, 2, 0]] {
        let mut bytes = whole[..512].to_vec();
        for group in order {
            bytes.extend_from_slice(&whole[bounds[*group]..bounds[group + 1]]);
        }
        assert_eq!(read_both(&bytes, None, END_BYTES).1, None, "{order:?}");
    }
    assert_eq!(read_both(&whole[..512], None, END_BYTES).1, None);
    assert_eq!(read_both(&whole, Some(6), END_BYTES).1, None);
    assert_eq!(read_both(&whole, Some(8), END_BYTES).1, None);
    assert!(read_both(&whole, Some(7), END_BYTES).1.is_some());
}

#[test]
fn the_end_of_a_chain_is_read_without_its_beginning() {
    let disk = Simulated::default();
    let mut bytes = make_segment(&groups(&[(10, 10_000); 40])).unwrap();
    assert!(bytes.len() > 4_000_000);
    for zeros in [0, 1024 * 1024] {
        bytes.resize(bytes.len() + zeros, 0);
        disk.put(&segment(1), bytes.clone());
        let counted = Counted::new(&disk);
        let place = place(counted.clone());
        let mut chain = Chain::new("cli".into(), root().join("cli"));
        chain.refresh(&place).unwrap();
        let state = chain.state(&place).unwrap().unwrap();
        assert_eq!(state.head.point.sequence, 400);
        let read = counted.read();
        assert!(read < zeros as u64 + 500_000, "{zeros}: {read}");
        // Later calls read only what is new.
        chain.refresh(&place).unwrap();
        assert_eq!(chain.state(&place).unwrap().unwrap(), state);
        let read = counted.read();
        assert!(read < 100_000, "{zeros}: {read}");
    }
}

#[test]
fn a_segment_that_grows_is_followed_from_its_known_end() {
    let disk = Simulated::default();
    let groups = groups(&[(10, 1_000); 30]);
    let place = place(disk.clone());
    let mut chain = Chain::new("cli".into(), root().join("cli"));
    for count in [20, 21, 30] {
        let mut bytes = make_segment(&groups[..count]).unwrap();
        bytes.resize(1024 * 1024, 0);
        disk.put(&segment(1), bytes);
        chain.refresh(&place).unwrap();
        let head = chain.state(&place).unwrap().unwrap().head;
        assert_eq!(head, groups[count - 1].head);
    }
    // A group that is being written is no part of the chain yet.
    let mut bytes = make_segment(&groups).unwrap();
    bytes.extend_from_slice(b"AGRP\0\0\0\x80");
    bytes.resize(1024 * 1024, 0);
    disk.put(&segment(1), bytes);
    chain.refresh(&place).unwrap();
    assert_eq!(chain.state(&place).unwrap().unwrap().head, groups[29].head);
    assert_eq!(chain.rows(&place, 0, 1_000).unwrap().len(), 300);
    // Only the signature of the header is wrong.
    assert_eq!(place.damages.found().len(), 1);
}

#[tokio::test]
async fn a_first_page_after_a_restart_reads_only_the_ends_of_segments() {
    let disk = Simulated::default();
    let journal = open_in(Arc::new(disk.clone()), &root(), Role::Server);
    let mut author = Author::new("serve-1");
    for _ in 0..1_000 {
        journal.append(&author.group(10, 250)).await.unwrap();
    }
    for chain in ["a", "b", "c"] {
        journal.append(&Author::new(chain).group(3, 250)).await.unwrap();
    }
    journal.close().await.unwrap();
    drop(journal);

    let counted = Counted::new(&disk);
    let journal = open_in(Arc::new(counted.clone()), &root(), Role::Command);
    assert_eq!(journal.chains().await.unwrap().len(), 4);
    let read = counted.read();
    assert!(read < 300_000, "{read}");
    let page = journal.newest_events(TimeSpan::default(), None, 51).await.unwrap();
    let numbers: Vec<i64> = page.iter().map(|event| event.row.sequence).collect();
    assert_eq!(numbers, (9_950..=10_000).rev().collect::<Vec<_>>());
    let read = counted.read();
    assert!(read < 300_000, "{read}");
    // Later pages, also those that need a whole segment, continue where this one ended.
    let mut position = page.last().map(ChainedRow::position);
    for next in (0..9_950).rev().step_by(995).take(3) {
        let page = journal.newest_events(TimeSpan::default(), position.as_ref(), 995).await;
        let page = page.unwrap();
        assert_eq!((page[0].row.sequence, page.len()), (next, 995));
        position = page.last().map(ChainedRow::position);
    }
    let span = TimeSpan { from: at(2_000), to: at(2_010) };
    let page = journal.newest_events(span, None, 100).await.unwrap();
    assert_eq!(page.len(), 11);
    assert_eq!(journal.damages(), []);
}
