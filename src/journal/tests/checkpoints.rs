//! Changes of a checkpoint by someone without the key: no event disappears unnoticed.

use std::{path::PathBuf, sync::Arc};

use super::{Author, Role, open_in, root, sign, verify};
use crate::{
    domain::{AuditFaultKind, ChainPoint, Statement},
    journal::{files::simulated::Simulated, names},
    ports::{AuditGroup, AuditStore as _, TimeSpan},
};

/// The chains `cli` and `other` of three segments with two events each. The first segment of both was removed.
struct Site {
    disk: Simulated,
    cli: Vec<AuditGroup>,
}

fn checkpoint(chain: &str) -> PathBuf {
    root().join(chain).join(names::CHECKPOINT)
}

impl Site {
    async fn new() -> Self {
        let disk = Simulated::default();
        let journal = open_in(Arc::new(disk.clone()), &root(), Role::Command);
        let mut cli = Vec::new();
        for chain in ["other", "cli"] {
            let mut author = Author::new(chain);
            // A segment has space for one group.
            cli = (0..3).map(|_| author.group(2, 300_000)).collect();
            for group in &cli {
                journal.append(group).await.unwrap();
            }
            let end = sign(cli[0].head.point.clone(), Statement::Checkpoint);
            journal.prune(&end).await.unwrap();
        }
        Self { disk, cli }
    }

    /// Returns the fault of `cli`, and the damages that the journal names, in a new process.
    async fn verify(&self) -> (Option<(AuditFaultKind, i64)>, Vec<String>) {
        let journal = open_in(Arc::new(self.disk.clone()), &root(), Role::Command);
        let reports = verify(&journal).await;
        let report = reports.iter().find(|report| &*report.chain == "cli").unwrap();
        let damages = journal.damages().iter().map(ToString::to_string).collect();
        (report.fault.map(|fault| (fault.kind, fault.sequence)), damages)
    }

    /// Returns the numbers of the listed events of `cli`, the oldest first.
    async fn listed(&self) -> Vec<i64> {
        let journal = open_in(Arc::new(self.disk.clone()), &root(), Role::Command);
        let listed = journal.newest_events(TimeSpan::default(), None, 100).await.unwrap();
        let own = listed.iter().rev().filter(|event| &*event.chain == "cli");
        own.map(|event| event.row.sequence).collect()
    }
}

#[tokio::test]
async fn a_checkpoint_explains_the_missing_events() {
    let site = Site::new().await;
    assert!(site.disk.content(&root().join("cli").join(names::segment_name(1))).is_none());
    assert_eq!(site.verify().await, (None, Vec::new()));
    assert_eq!(site.listed().await, [3, 4, 5, 6]);
}

#[tokio::test]
async fn a_removed_checkpoint_is_found() {
    let site = Site::new().await;
    site.disk.remove_all(&checkpoint("cli"));
    assert_eq!(site.verify().await, (Some((AuditFaultKind::Missing, 1)), Vec::new()));
}

#[tokio::test]
async fn a_damaged_or_foreign_checkpoint_is_named_and_explains_nothing() {
    let site = Site::new().await;
    let mut content = site.disk.content(&checkpoint("cli")).unwrap();
    content[14] ^= 1;
    let foreign = site.disk.content(&checkpoint("other")).unwrap();
    for bytes in [content, foreign] {
        site.disk.put(&checkpoint("cli"), bytes);
        let (fault, damages) = site.verify().await;
        assert_eq!(fault, Some((AuditFaultKind::Missing, 1)));
        let what = "byte 0: the checkpoint is damaged or of another chain";
        assert_eq!(damages, [format!("{}, {what}", checkpoint("cli").display())]);
    }
}

#[tokio::test]
async fn a_later_checkpoint_without_a_valid_signature_is_found() {
    let site = Site::new().await;
    let ChainPoint { sequence, hash, .. } = site.cli[1].head.point;
    let mut forged = site.disk.content(&checkpoint("cli")).unwrap();
    forged[12..20].copy_from_slice(&sequence.to_be_bytes());
    forged[20..52].copy_from_slice(&hash);
    let checksum = crc32c::crc32c(&forged[..508]);
    forged[508..].copy_from_slice(&checksum.to_be_bytes());
    site.disk.put(&checkpoint("cli"), forged);
    assert_eq!(site.verify().await, (Some((AuditFaultKind::BadSignature, 4)), Vec::new()));
}

#[tokio::test]
async fn an_older_checkpoint_does_not_explain_the_events_that_are_missing_now() {
    let site = Site::new().await;
    let older = site.disk.content(&checkpoint("cli")).unwrap();
    let journal = open_in(Arc::new(site.disk.clone()), &root(), Role::Command);
    let end = sign(site.cli[1].head.point.clone(), Statement::Checkpoint);
    journal.prune(&end).await.unwrap();
    assert_eq!(site.verify().await, (None, Vec::new()));
    site.disk.put(&checkpoint("cli"), older);
    assert_eq!(site.verify().await, (Some((AuditFaultKind::Missing, 3)), Vec::new()));
}
