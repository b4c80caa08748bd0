//! The promises of the port `AuditStore`.

use std::sync::Arc;

use jiff::Timestamp;

use super::{at, contract::AuditLocation};
use crate::{
    domain::{AuditHash, AuditRow, AuditSignature, ChainPoint, SignedPoint, StoredPublicKey},
    ports::{AuditGroup, AuditStore, StoreError, StoredHeads, TimeSpan},
};

fn hash(chain: &str, sequence: i64) -> AuditHash {
    let mut hash = [0; 32];
    for (place, byte) in hash.iter_mut().zip(format!("{sequence}-{chain}").bytes()) {
        *place = byte;
    }
    hash
}

fn signed(chain: &str, sequence: i64, time: Timestamp) -> SignedPoint {
    let point = ChainPoint { chain: chain.into(), sequence, hash: hash(chain, sequence), time };
    let signature = AuditSignature { key_id: "k-1".into(), bytes: vec![7; 64] };
    SignedPoint { point, signature }
}

/// Events of a chain; each is from the second of its number.
fn group(chain: &str, first: i64, last: i64) -> AuditGroup {
    let row = |sequence| AuditRow {
        sequence,
        time: at(sequence),
        hash: hash(chain, sequence),
        body: format!("event {sequence} of {chain}").into_bytes(),
    };
    AuditGroup { rows: (first..=last).map(row).collect(), head: signed(chain, last, at(last)) }
}

async fn append(store: &dyn AuditStore, chain: &str, first: i64, last: i64) {
    store.append(&group(chain, first, last)).await.unwrap();
}

async fn sequences(store: &dyn AuditStore, chain: &str) -> Vec<i64> {
    let rows = store.events(chain, 0, 10_000).await.unwrap();
    rows.iter().map(|row| row.sequence).collect()
}

pub(super) async fn a_group_is_kept_with_its_head(place: &dyn AuditLocation) {
    let store = place.open_audit().await;
    // All sizes that are written in another way.
    let mut first = 1;
    for size in [1, 2, 3, 7, 8, 100, 128, 255, 512] {
        append(&*store, "a", first, first + size - 1).await;
        first += size;
    }
    append(&*store, "b", 1, 1).await;
    let rows = store.events("a", 0, 10_000).await.unwrap();
    assert_eq!(rows, group("a", 1, first - 1).rows);
    let chains = store.chains().await.unwrap();
    let heads: Vec<_> = chains.iter().map(|state| &state.head).collect();
    let wanted = [signed("a", first - 1, at(first - 1)), signed("b", 1, at(1))];
    assert_eq!(heads, wanted.iter().collect::<Vec<_>>());
    assert_eq!(store.chain("b").await.unwrap().as_ref(), chains.last());
    assert_eq!(store.chain("c").await.unwrap(), None);
    let page = store.events("a", 5, 3).await.unwrap();
    assert_eq!(page, group("a", 6, 8).rows);
    assert_eq!(store.events("c", 0, 10).await.unwrap(), []);
}

pub(super) async fn blocks_have_the_events_of_a_chain_in_order(place: &dyn AuditLocation) {
    let store = place.open_audit().await;
    for first in [1, 101, 201] {
        append(&*store, "a", first, first + 99).await;
    }
    for heads in [StoredHeads::LastOfFiles, StoredHeads::All] {
        for after in [i64::MIN, 0, 57, 299] {
            let block = store.event_block("a", after, heads).await.unwrap();
            let rows = store.events("a", after, 10_000).await.unwrap();
            assert!(block.events().eq(rows.iter().map(AuditRow::view)), "{after}");
            assert_eq!(block.last_sequence(), Some(300));
            let last = block.heads(&"a".into()).last();
            assert_eq!(last, Some(signed("a", 300, at(300))), "{heads:?}");
        }
        for (chain, after) in [("a", 300), ("a", i64::MAX), ("c", 0)] {
            let block = store.event_block(chain, after, heads).await.unwrap();
            assert_eq!((block.last_sequence(), block.body_bytes()), (None, 0));
        }
    }
}

pub(super) async fn an_append_can_be_repeated(place: &dyn AuditLocation) {
    let store = place.open_audit().await;
    for _ in 0..3 {
        append(&*store, "a", 1, 5).await;
    }
    append(&*store, "a", 6, 8).await;
    // Also when the chain has gone on.
    append(&*store, "a", 1, 5).await;
    assert_eq!(sequences(&*store, "a").await, (1..=8).collect::<Vec<_>>());
    let head = store.chain("a").await.unwrap().unwrap().head;
    assert_eq!(head, signed("a", 8, at(8)));
}

pub(super) async fn an_append_that_does_not_follow_the_head_is_a_conflict(
    place: &dyn AuditLocation,
) {
    let store = place.open_audit().await;
    append(&*store, "a", 1, 5).await;
    let mut other = group("a", 3, 5);
    other.rows[1].hash = [9; 32];
    for group in [group("b", 2, 3), group("a", 7, 8), group("a", 4, 6), other] {
        let refused = store.append(&group).await;
        assert!(matches!(refused, Err(StoreError::Conflict)), "{refused:?}");
    }
    assert_eq!(sequences(&*store, "a").await, [1, 2, 3, 4, 5]);
    assert_eq!(store.chains().await.unwrap().len(), 1);
}

pub(super) async fn of_two_who_append_one_wins(place: &dyn AuditLocation) {
    let (ours, theirs) = (place.open_audit().await, place.open_audit().await);
    append(&*ours, "cli", 1, 1).await;
    let mut other = group("cli", 2, 2);
    other.rows[0].hash = [9; 32];
    other.head.point.hash = [9; 32];
    let own = group("cli", 2, 2);
    let (own, other) = tokio::join!(ours.append(&own), theirs.append(&other));
    assert_eq!([own.is_ok(), other.is_ok()].iter().filter(|won| **won).count(), 1);
    assert_eq!(sequences(&*ours, "cli").await, [1, 2]);
}

pub(super) async fn newest_events_come_first_and_pages_go_on_where_they_ended(
    place: &dyn AuditLocation,
) {
    let store = place.open_audit().await;
    // Events of several chains at one time.
    for chain in ["a", "b", "c"] {
        append(&*store, chain, 1, 20).await;
    }
    let span = TimeSpan { from: at(3), to: at(18) };
    let mut seen: Vec<(Timestamp, Arc<str>, i64)> = Vec::new();
    let (mut position, mut pages) = (None, 0);
    loop {
        let page = store.newest_events(span, position.as_ref(), 7).await.unwrap();
        assert!(page.len() <= 7);
        let Some(last) = page.last() else { break };
        position = Some(last.position());
        seen.extend(page.into_iter().map(|row| (row.row.time, row.chain, row.row.sequence)));
        // What is added meanwhile is of another chain.
        pages += 1;
        append(&*store, "d", pages, pages).await;
    }
    seen.retain(|(_, chain, _)| &**chain != "d");
    assert_eq!(seen.len(), 3 * 16);
    assert!(seen.is_sorted_by(|one, next| one.0 >= next.0));
    let mut distinct = seen.clone();
    distinct.sort();
    distinct.dedup();
    assert_eq!(distinct.len(), seen.len());
}

pub(super) async fn prune_removes_what_is_old_and_keeps_the_head(place: &dyn AuditLocation) {
    let store = place.open_audit().await;
    append(&*store, "a", 1, 10).await;
    append(&*store, "b", 1, 10).await;
    let before = store.chain("a").await.unwrap().unwrap();
    store.prune(&signed("a", 4, at(4))).await.unwrap();
    let state = store.chain("a").await.unwrap().unwrap();
    assert_eq!(state.head, before.head);
    assert_eq!(state.checkpoint, Some(signed("a", 4, at(4))));
    assert_eq!((state.first_sequence(), state.length()), (5, 6));
    assert_eq!(sequences(&*store, "a").await, [5, 6, 7, 8, 9, 10]);
    assert_eq!(sequences(&*store, "b").await.len(), 10);
    for checkpoint in [signed("a", 4, at(4)), signed("a", 11, at(11)), signed("c", 1, at(1))] {
        let refused = store.prune(&checkpoint).await;
        assert!(matches!(refused, Err(StoreError::Conflict)), "{refused:?}");
    }
    // All of it, and the chain goes on.
    store.prune(&signed("a", 10, at(10))).await.unwrap();
    assert_eq!(store.chain("a").await.unwrap().unwrap().length(), 0);
    append(&*store, "a", 11, 12).await;
    assert_eq!(sequences(&*store, "a").await, [11, 12]);
}

pub(super) async fn a_public_key_is_kept_in_place_of_the_former(place: &dyn AuditLocation) {
    let store = place.open_audit().await;
    assert_eq!(store.public_keys().await.unwrap(), []);
    let mut key = StoredPublicKey {
        key_id: "k-1".to_owned(),
        public_key: vec![1; 32],
        certificate: AuditSignature { key_id: "k-2".into(), bytes: vec![2; 64] },
    };
    for certified_by in ["k-2", "k-3"] {
        key.certificate.key_id = certified_by.into();
        store.store_public_key(&key).await.unwrap();
        assert_eq!(store.public_keys().await.unwrap(), [key.clone()]);
    }
}
