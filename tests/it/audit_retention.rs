//! Tests of retention by size: a running gateway keeps the directory of the audit journal within its limit.

use std::{fs, path::Path};

use tenant_gateway::{domain::AuditRecord, grpc::pb};

use crate::support::{
    Options, World,
    audit::{AuditWriter, event},
    eventually_so, name,
    trail::StoredTrail,
};

const MAX_BYTES: u64 = 6 * 1024 * 1024;

/// The events of a group, and the groups: more than twice the limit, and more than the limit after compression.
const EVENTS: u64 = 150;
const GROUPS: u64 = 45;

/// Returns an event of about 2 KB whose content cannot be compressed much.
fn noisy_event(number: u64) -> AuditRecord {
    let mut state = number.wrapping_add(1);
    let mut letter = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b' ' + u8::try_from((state >> 33) % 95).unwrap())
    };
    let reason: String = (0..2000).map(|_| letter()).collect();
    AuditRecord { reason: reason.into(), ..event(&format!("r-{number}"), &name("Cust1")) }
}

/// Returns the bytes of all files of all chains.
fn bytes(directory: &Path) -> u64 {
    let files = |folder: fs::DirEntry| fs::read_dir(folder.path()).into_iter().flatten().flatten();
    let folders = fs::read_dir(directory).unwrap().flatten();
    // A file may be removed meanwhile.
    folders.flat_map(files).filter_map(|file| Some(file.metadata().ok()?.len())).sum()
}

#[tokio::test]
async fn a_journal_that_is_too_large_loses_its_oldest_segments_and_verifies() {
    let extra_config = format!("[audit]\nsegment_bytes = 1048576\nmax_bytes = {MAX_BYTES}");
    let mut world = World::with_files(Options { extra_config, ..Default::default() }).await;
    let audit_writer = AuditWriter::open(&world.config_file()).await;
    for group in 0..GROUPS {
        let numbers = group * EVENTS..(group + 1) * EVENTS;
        audit_writer.serve("serve-test", numbers.map(noisy_event)).await;
    }
    audit_writer.close().await;
    let directory = world.folder.path().join("audit");
    assert!(bytes(&directory) > 2 * MAX_BYTES);
    world.start().await.unwrap();
    let removed = async || world.metric("audit_events_removed_by_size_total").await > 0;
    eventually_so("the oldest events are removed", removed).await;
    assert!(bytes(&directory) <= MAX_BYTES);

    let trail = StoredTrail::read(&world.config_file()).await;
    trail.assert_intact();
    let kept = trail.events.iter().filter(|event| &*event.chain == "serve-test");
    let kept: Vec<i64> = kept.map(|event| event.sequence).collect();
    let last = i64::try_from(GROUPS * EVENTS).unwrap();
    assert!(kept[0] > 1 && kept.last() == Some(&last), "{} to {:?}", kept[0], kept.last());
    let request = pb::ListAuditEventsRequest {
        filter: "request_id = \"r-*\"".to_owned(),
        page_size: 3,
        ..Default::default()
    };
    let page = world.audits().await.list_audit_events(request).await.unwrap().into_inner();
    let ids: Vec<&str> = page.audit_events.iter().map(|event| &*event.request_id).collect();
    assert_eq!(ids, ["r-6749", "r-6748", "r-6747"]);
    let removed = kept[0] - 1;
    assert_eq!(world.metric("audit_events_removed_by_size_total").await, removed);
    let max_bytes = i64::try_from(MAX_BYTES).unwrap();
    assert_eq!(world.metric("audit_journal_max_bytes").await, max_bytes);
    assert!(world.metric("audit_journal_bytes").await <= max_bytes);
}
