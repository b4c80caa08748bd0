//! Changes of files by somebody who can write to the disk and cannot sign: the journal names the place, or the
//! verification names the event.

use std::{path::PathBuf, sync::Arc};

use super::{Author, KEYS, Role, keys, open_in, ports, root, settings, verify};
use crate::{
    audit::{Verification, fakes::MemoryAudit},
    crypto::AuditKeys,
    domain::{AuditChainReport, AuditFaultKind, ChainLink},
    journal::{
        Journal, files::simulated::Simulated, names::segment_name, probe::correct_checksums,
    },
    ports::{AuditGroup, AuditStore as _},
};

const MISSING: Option<(AuditFaultKind, i64)> = Some((AuditFaultKind::Missing, 3));

/// A journal with the chain `cli` of three groups with two events each, and a later chain that links to its head.
struct Site {
    disk: Simulated,
    groups: Vec<AuditGroup>,
}

fn cli() -> PathBuf {
    root().join("cli").join(segment_name(1))
}

impl Site {
    async fn new() -> Self {
        let disk = Simulated::default();
        let journal = open_in(Arc::new(disk.clone()), &root(), Role::Command);
        let mut author = Author::new("cli");
        let groups: Vec<AuditGroup> = (0..3).map(|_| author.group(2, 100)).collect();
        for group in &groups {
            journal.append(group).await.unwrap();
        }
        let head = &groups[2].head.point;
        let mut later = Author::new("serve-2");
        later.links.push(ChainLink { chain: "cli".into(), sequence: 6, hash: head.hash });
        journal.append(&later.group(1, 5)).await.unwrap();
        Self { disk, groups }
    }

    fn bytes(&self) -> Vec<u8> {
        self.disk.content(&cli()).unwrap()
    }

    /// The offsets of the three groups of `cli`, and the offset behind them.
    fn offsets(&self) -> Vec<usize> {
        let bytes = self.bytes();
        let mut offsets = vec![512];
        for _ in &self.groups {
            let last = *offsets.last().unwrap();
            let length = bytes[last + 4..last + 8].try_into().unwrap();
            offsets.push(last + u32::from_be_bytes(length) as usize);
        }
        offsets
    }

    /// Replaces the groups by some of them, in another order.
    fn rearrange(&self, order: &[usize]) {
        let (bytes, offsets) = (self.bytes(), self.offsets());
        let mut changed = bytes[..512].to_vec();
        for group in order {
            changed.extend_from_slice(&bytes[offsets[*group]..offsets[group + 1]]);
        }
        changed.resize(bytes.len(), 0);
        self.disk.put(&cli(), changed);
    }

    fn change(&self, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = self.bytes();
        change(&mut bytes);
        self.disk.put(&cli(), bytes);
    }

    /// Returns the fault of `cli` after a verification of every head.
    async fn verify_all_signatures(&self) -> Option<(AuditFaultKind, i64)> {
        let journal = open_in(Arc::new(self.disk.clone()), &root(), Role::Command);
        let keys: Arc<AuditKeys> = Arc::clone(&KEYS);
        let heads = Arc::new(MemoryAudit::default());
        let verification = Verification::new(Arc::new(journal), heads, keys);
        let reports = verification.with_all_signatures().run(|_| ()).await.unwrap();
        let report = reports.iter().find(|report| &*report.chain == "cli").unwrap();
        report.fault.map(|fault| (fault.kind, fault.sequence))
    }

    /// Returns the fault of `cli`, and the damages that the journal names, in a new process.
    async fn verify(&self) -> (Option<(AuditFaultKind, i64)>, Vec<String>) {
        let journal = open_in(Arc::new(self.disk.clone()), &root(), Role::Command);
        let reports = verify(&journal).await;
        let report = reports.iter().find(|report| &*report.chain == "cli").unwrap();
        let damages = journal.damages().iter().map(ToString::to_string).collect();
        (report.fault.map(|fault| (fault.kind, fault.sequence)), damages)
    }
}

#[tokio::test]
async fn an_untouched_journal_is_intact() {
    let site = Site::new().await;
    assert_eq!(site.verify().await, (None, Vec::new()));
}

#[tokio::test]
async fn a_changed_byte_is_named_with_file_and_offset() {
    let site = Site::new().await;
    let second = site.offsets()[1];
    site.change(|bytes| bytes[second + 100] ^= 1);
    let (fault, damages) = site.verify().await;
    assert_eq!(fault, MISSING);
    let what = "these bytes are not the group that should be here";
    assert_eq!(damages, [format!("{}, byte {second}: {what}", cli().display())]);
}

#[tokio::test]
async fn a_changed_event_with_a_right_checksum_is_named() {
    let site = Site::new().await;
    let second = site.offsets()[1];
    // In the body of the fourth event: its reason.
    let third = site.offsets()[2];
    site.change(|bytes| {
        bytes[third - 150] ^= 1;
        correct_checksums(bytes);
    });
    let (fault, damages) = site.verify().await;
    assert_eq!((fault, damages), (Some((AuditFaultKind::Changed, 4)), Vec::new()), "{second}");
}

#[tokio::test]
async fn a_changed_signature_within_a_file_is_found_with_all_signatures() {
    let site = Site::new().await;
    assert_eq!(site.verify_all_signatures().await, None);
    let third = site.offsets()[2];
    // The last byte of the signature behind the second group.
    site.change(|bytes| {
        bytes[third - 9] ^= 1;
        correct_checksums(bytes);
    });
    assert_eq!(site.verify().await, (None, Vec::new()));
    let rejected = Some((AuditFaultKind::BadSignature, 4));
    assert_eq!(site.verify_all_signatures().await, rejected);
}

#[tokio::test]
async fn damaged_places_are_named_without_the_directory() {
    let site = Site::new().await;
    let second = site.offsets()[1];
    site.change(|bytes| bytes[second + 100] ^= 1);
    let journal = open_in(Arc::new(site.disk.clone()), &root(), Role::Command);
    verify(&journal).await;
    let [damage] = &journal.damaged_places()[..] else { panic!("not one place") };
    let file = format!("cli/{}", segment_name(1));
    assert_eq!((&damage.file, damage.offset), (&file, second as u64));
}

#[tokio::test]
async fn a_running_process_notices_a_header_that_was_changed_after_it_was_read() {
    let site = Site::new().await;
    let journal = open_in(Arc::new(site.disk.clone()), &root(), Role::Command);
    assert!(verify(&journal).await.iter().all(AuditChainReport::intact));
    assert_eq!(journal.damages(), []);
    site.change(|bytes| {
        bytes[90] ^= 1;
        correct_checksums(bytes);
    });
    verify(&journal).await;
    let damages = journal.damages();
    assert!(damages[0].problem.contains("no known key has signed the header"), "{damages:?}");
}

#[tokio::test]
async fn removed_and_reordered_groups_are_found() {
    let site = Site::new().await;
    site.rearrange(&[0, 2]);
    assert_eq!(site.verify().await, (MISSING, Vec::new()));

    let site = Site::new().await;
    site.rearrange(&[0, 2, 1]);
    let (fault, _) = site.verify().await;
    assert_eq!(fault, MISSING);

    let site = Site::new().await;
    let copy = [0, 1, 1, 2];
    site.rearrange(&copy);
    let (fault, damages) = site.verify().await;
    assert_eq!((fault, damages.len()), (None, 1), "{damages:?}");
}

#[tokio::test]
async fn a_chain_that_was_cut_is_found_by_a_later_chain() {
    for inside in [0, 40] {
        let site = Site::new().await;
        let cut = site.offsets()[2] + inside;
        site.change(|bytes| bytes[cut..].fill(0));
        assert_eq!(site.verify().await.0, Some((AuditFaultKind::Truncated, 5)), "{inside}");
        site.change(|bytes| bytes.truncate(cut));
        assert_eq!(site.verify().await.0, Some((AuditFaultKind::Truncated, 5)), "{inside}");
    }
}

#[tokio::test]
async fn a_chain_that_is_gone_is_found_by_a_later_chain() {
    let site = Site::new().await;
    site.disk.remove_all(&root().join("cli"));
    assert_eq!(site.verify().await.0, Some((AuditFaultKind::Missing, 6)));
}

#[tokio::test]
async fn an_older_copy_is_found_by_a_later_chain() {
    let older = {
        let disk = Simulated::default();
        let journal = open_in(Arc::new(disk.clone()), &root(), Role::Command);
        let mut author = Author::new("cli");
        for _ in 0..2 {
            journal.append(&author.group(2, 100)).await.unwrap();
        }
        disk.content(&cli()).unwrap()
    };
    let site = Site::new().await;
    site.disk.put(&cli(), older);
    assert_eq!(site.verify().await.0, Some((AuditFaultKind::Truncated, 5)));
}

#[tokio::test]
async fn a_strangers_segment_is_named_and_not_read() {
    let site = Site::new().await;
    let stranger = Simulated::default();
    let mut theirs = ports();
    theirs.signer = keys();
    theirs.random = Arc::new(super::Fixed(9));
    let files = Arc::new(stranger.clone());
    let journal = Journal::open_in(files, settings(&root(), Role::Command), theirs, false).unwrap();
    let mut author = Author::new("cli");
    journal.append(&author.group(3, 5)).await.unwrap();
    let segment = stranger.content(&cli()).unwrap();
    // The unchanged file under a later number.
    let later = root().join("cli").join(segment_name(7));
    site.disk.put(&later, segment.clone());
    let (fault, damages) = site.verify().await;
    assert_eq!(fault, None);
    assert!(damages[0].contains("begins with another event"), "{damages:?}");
    // With the right number and a right checksum: the signature is missing.
    let mut forged = segment;
    forged[28..36].copy_from_slice(&7_i64.to_be_bytes());
    correct_checksums(&mut forged);
    site.disk.put(&later, forged);
    let (fault, damages) = site.verify().await;
    assert_eq!(fault, None);
    assert!(damages[0].contains("no known key has signed the header"), "{damages:?}");
    assert!(damages[1].contains("another chain of this name"), "{damages:?}");
}

#[tokio::test]
async fn a_changed_header_is_named() {
    let site = Site::new().await;
    site.change(|bytes| bytes[90] ^= 1);
    let (fault, damages) = site.verify().await;
    assert_eq!(fault, Some((AuditFaultKind::Missing, 6)), "{damages:?}");
    assert!(damages[0].contains("byte 0: the header of the segment is damaged"), "{damages:?}");
    // With a right checksum the events are read, and the signature is not valid.
    site.change(|bytes| correct_checksums(bytes));
    let (fault, damages) = site.verify().await;
    assert_eq!(fault, None);
    assert!(damages[0].contains("no known key has signed"), "{damages:?}");
}

#[tokio::test]
async fn events_of_no_chain_are_not_listed() {
    let site = Site::new().await;
    let segment = site.bytes();
    // A copy under another name, and under another number.
    site.disk.put(&root().join("other").join(segment_name(1)), segment.clone());
    site.disk.put(&root().join("cli").join(segment_name(3)), segment);
    let journal = open_in(Arc::new(site.disk.clone()), &root(), Role::Command);
    let listed = journal.newest_events(crate::ports::TimeSpan::default(), None, 100).await.unwrap();
    assert_eq!(listed.len(), 7);
    assert!(listed.iter().all(|event| &*event.chain != "other"));
}
