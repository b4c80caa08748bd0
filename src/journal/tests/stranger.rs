//! `tools/verify-journal.py`, which was written from the reference: it accepts what the journal writes, and finds what
//! was changed. Needs Python 3.

use std::{
    path::Path,
    process::{Command, Output},
};

use tempfile::TempDir;

use super::{Author, KEYS, Role, at, ports, settings, sign};
use crate::{
    domain::{AuditRow, ChainLink, ChainPoint, Statement},
    journal::{Journal, names::segment_name, probe::correct_checksums},
    ports::{AuditSigner as _, AuditStore as _},
};

/// Runs the verifier. Returns its exit code and its output.
fn verify(directory: &Path) -> (i32, String) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tools/verify-journal.py");
    let mut command = Command::new("python3");
    command.arg(script).arg(directory).arg("--all-signatures");
    for (id, key) in KEYS.public_keys() {
        let hex = key.iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
        command.arg("--public-key").arg(format!("{id}={hex}"));
    }
    let Output { status, stdout, stderr } = command.output().expect("Python 3 runs");
    assert!(stderr.is_empty(), "{}", String::from_utf8_lossy(&stderr));
    (status.code().unwrap(), String::from_utf8(stdout).unwrap())
}

#[tokio::test]
async fn a_program_written_from_the_reference_verifies_the_journal() {
    let directory = TempDir::new().unwrap();
    let journal = Journal::open(settings(directory.path(), Role::Server), ports()).unwrap();
    let mut author = Author::new("serve-1");
    let mut rows: Vec<AuditRow> = Vec::new();
    for _ in 0..25 {
        let group = author.group(10, 15_000);
        journal.append(&group).await.unwrap();
        rows.extend(group.rows);
    }
    let AuditRow { sequence, hash, time, .. } = rows[200];
    let mut later = Author::new("Cli/2");
    later.links.push(ChainLink { chain: "serve-1".into(), sequence: 250, hash: rows[249].hash });
    journal.append(&later.group(2, 3)).await.unwrap();
    let (code, said) = verify(directory.path());
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("serve-1: events 1 to 250, intact"), "{said}");
    assert!(said.contains("Cli/2: events 1 to 2, intact"), "{said}");
    let point = ChainPoint { chain: "serve-1".into(), sequence, hash, time };
    journal.prune(&sign(point, Statement::Checkpoint)).await.unwrap();
    let (code, said) = verify(directory.path());
    assert!(code == 0 && said.contains("serve-1: events 202 to 250, intact"), "{said}");
    // Without the program `zstd` compressed segments cannot be read.
    if Command::new("zstd").arg("--version").output().is_ok() {
        assert_ne!(journal.compress(at(0)).await.unwrap(), 0);
    }
    let (code, said) = verify(directory.path());
    assert!(code == 0 && said.contains("serve-1: events 202 to 250, intact"), "{said}");
    journal.close().await.unwrap();
    drop(journal);

    let file = directory.path().join("%43li%2f2").join(segment_name(1));
    let intact = std::fs::read(&file).unwrap();
    let mut changed = intact.clone();
    changed[600] ^= 1;
    std::fs::write(&file, &changed).unwrap();
    let (code, said) = verify(directory.path());
    assert!(code == 1 && said.contains("DAMAGED"), "{said}");
    correct_checksums(&mut changed);
    std::fs::write(&file, &changed).unwrap();
    let (code, said) = verify(directory.path());
    assert!(code == 1 && said.contains("byte 536: event 1 was changed"), "{said}");
    // The chain to which the other one links is cut.
    std::fs::write(&file, &intact).unwrap();
    std::fs::remove_dir_all(directory.path().join("serve-1")).unwrap();
    let (code, said) = verify(directory.path());
    assert!(code == 1 && said.contains("links to event 250 of chain serve-1"), "{said}");
}
