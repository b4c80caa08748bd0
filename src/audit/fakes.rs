//! An audit store in memory that fails on request, and audit keys.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use jiff::Timestamp;

use crate::{
    crypto::{AuditKeys, Keyring},
    domain::{AuditDamage, AuditEvent, AuditRow, ChainState, SignedPoint, StoredPublicKey},
    ports::{
        AuditGroup, AuditHeadStore, AuditPosition, AuditSpace, AuditStore, ChainedRow, EventBlock,
        StoreError, StoredHeads, StoredSegment, TimeSpan,
    },
};

/// The failure of an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Returns an error and stores nothing.
    Refuse,
    /// Stores the group and returns an error.
    KeepAndReport,
    /// Never returns and stores nothing.
    Hang,
    /// Stores the group and never returns.
    KeepAndHang,
}

type Chain = (ChainState, Vec<AuditRow>);

/// The events of a segment, and its bytes.
const SEGMENT_EVENTS: i64 = 4;
const SEGMENT_BYTES: u64 = 1000;

/// Returns the number of the segment with an event.
fn segment_of(sequence: i64) -> i64 {
    (sequence - 1) / SEGMENT_EVENTS
}

fn complete_segments(state: &ChainState, rows: &[AuditRow]) -> Vec<StoredSegment> {
    let newest = segment_of(state.head.point.sequence);
    let mut latest = Timestamp::MIN;
    let mut found = Vec::<StoredSegment>::new();
    for row in rows.iter().filter(|row| segment_of(row.sequence) < newest) {
        latest = latest.max(row.time);
        let last_sequence = (segment_of(row.sequence) + 1) * SEGMENT_EVENTS;
        if found.last().is_some_and(|segment| segment.last_sequence == last_sequence) {
            found.pop();
        }
        let chain = Arc::clone(&state.head.point.chain);
        found.push(StoredSegment { chain, last_sequence, bytes: SEGMENT_BYTES, latest });
    }
    found
}

/// Chains in memory, in the order in which they began, and their heads.
#[derive(Default)]
pub(crate) struct MemoryAudit {
    chains: Mutex<Vec<Chain>>,
    keys: Mutex<BTreeMap<String, StoredPublicKey>>,
    heads: Mutex<BTreeMap<Arc<str>, SignedPoint>>,
    failures: Mutex<VecDeque<Failure>>,
    /// The size of the volume; `None` if it is unknown.
    pub(super) volume_bytes: Mutex<Option<u64>>,
    /// The checkpoints that were stored, in order.
    pub(super) checkpoints: Mutex<Vec<SignedPoint>>,
    /// The sizes of the stored groups.
    pub(super) groups: Mutex<Vec<usize>>,
}

impl MemoryAudit {
    pub(crate) fn fail(&self, failures: impl IntoIterator<Item = Failure>) {
        self.failures.lock().unwrap().extend(failures);
    }

    /// Returns all events of a chain.
    pub(crate) fn read(&self, chain: &str) -> Vec<AuditEvent> {
        let read = |(state, rows): &mut Chain| {
            let name = &state.head.point.chain;
            rows.iter().map(|row| AuditEvent::read(name, row).unwrap()).collect()
        };
        self.with(chain, read).unwrap_or_default()
    }

    /// Changes a chain as someone without the key can.
    pub(crate) fn tamper<T>(
        &self,
        chain: &str,
        change: impl FnOnce(&mut ChainState, &mut Vec<AuditRow>) -> T,
    ) -> T {
        self.with(chain, |(state, rows)| change(state, rows)).unwrap()
    }

    /// Removes a chain.
    pub(crate) fn remove(&self, chain: &str) {
        self.chains.lock().unwrap().retain(|(state, _)| &*state.head.point.chain != chain);
    }

    /// Removes all public keys.
    pub(crate) fn remove_keys(&self) {
        self.keys.lock().unwrap().clear();
    }

    fn with<T>(&self, chain: &str, act: impl FnOnce(&mut Chain) -> T) -> Option<T> {
        let mut chains = self.chains.lock().unwrap();
        chains.iter_mut().find(|(state, _)| &*state.head.point.chain == chain).map(act)
    }

    fn keep(&self, group: &AuditGroup) -> Result<(), StoreError> {
        let first = group.first_sequence();
        let follow = |(state, rows): &mut Chain| {
            let end = state.head.point.sequence;
            if first <= end {
                let kept = rows.iter().filter(|row| row.sequence >= first).take(group.rows.len());
                return if kept.eq(&group.rows) { Ok(()) } else { Err(StoreError::Conflict) };
            }
            if first != end + 1 {
                return Err(StoreError::Conflict);
            }
            rows.extend_from_slice(&group.rows);
            state.head = group.head.clone();
            self.groups.lock().unwrap().push(group.rows.len());
            Ok(())
        };
        if let Some(followed) = self.with(&group.head.point.chain, follow) {
            return followed;
        }
        if first != 1 {
            return Err(StoreError::Conflict);
        }
        let state = ChainState { head: group.head.clone(), checkpoint: None };
        self.chains.lock().unwrap().push((state, group.rows.clone()));
        self.groups.lock().unwrap().push(group.rows.len());
        Ok(())
    }
}

#[async_trait]
impl AuditStore for MemoryAudit {
    async fn append(&self, group: &AuditGroup) -> Result<(), StoreError> {
        let failure = self.failures.lock().unwrap().pop_front();
        let failed = Err(StoreError::Unavailable("requested failure".to_owned()));
        match failure {
            None => self.keep(group),
            Some(Failure::Refuse) => failed,
            Some(Failure::KeepAndReport) => self.keep(group).and(failed),
            Some(Failure::Hang) => std::future::pending().await,
            Some(Failure::KeepAndHang) => {
                self.keep(group)?;
                std::future::pending().await
            }
        }
    }

    async fn chains(&self) -> Result<Vec<ChainState>, StoreError> {
        Ok(self.chains.lock().unwrap().iter().map(|(state, _)| state.clone()).collect())
    }

    async fn chain(&self, chain: &str) -> Result<Option<ChainState>, StoreError> {
        Ok(self.with(chain, |(state, _)| state.clone()))
    }

    async fn events(
        &self,
        chain: &str,
        after: i64,
        limit: u32,
    ) -> Result<Vec<AuditRow>, StoreError> {
        let mut rows = self.with(chain, |(_, rows)| rows.clone()).unwrap_or_default();
        rows.retain(|row| row.sequence > after);
        rows.sort_by_key(|row| row.sequence);
        rows.truncate(usize::try_from(limit).unwrap());
        Ok(rows)
    }

    async fn event_block(
        &self,
        chain: &str,
        after: i64,
        _: StoredHeads,
    ) -> Result<EventBlock, StoreError> {
        let mut block = EventBlock::default();
        for row in &self.events(chain, after, 1000).await? {
            block.push(row.view());
        }
        Ok(block)
    }

    fn damaged_places(&self) -> Vec<AuditDamage> {
        Vec::new()
    }

    async fn newest_events(
        &self,
        _: TimeSpan,
        _: Option<&AuditPosition>,
        _: u32,
    ) -> Result<Vec<ChainedRow>, StoreError> {
        unreachable!("not used by these tests")
    }

    async fn prune(&self, checkpoint: &SignedPoint) -> Result<(), StoreError> {
        self.checkpoints.lock().unwrap().push(checkpoint.clone());
        self.tamper(&checkpoint.point.chain, |state, rows| {
            rows.retain(|row| row.sequence > checkpoint.point.sequence);
            state.checkpoint = Some(checkpoint.clone());
        });
        Ok(())
    }

    async fn finish_prune(&self, _: &str) -> Result<(), StoreError> {
        Ok(())
    }

    async fn segments(&self) -> Result<Vec<StoredSegment>, StoreError> {
        let chains = self.chains.lock().unwrap();
        Ok(chains.iter().flat_map(|(state, rows)| complete_segments(state, rows)).collect())
    }

    async fn space(&self) -> Result<AuditSpace, StoreError> {
        let chains = self.chains.lock().unwrap();
        let segments: BTreeSet<_> = chains
            .iter()
            .flat_map(|(state, rows)| {
                let end = [state.head.point.sequence];
                let numbers = rows.iter().map(|row| row.sequence).chain(end);
                numbers.map(move |number| (Arc::clone(&state.head.point.chain), segment_of(number)))
            })
            .collect();
        let bytes = SEGMENT_BYTES * u64::try_from(segments.len()).unwrap();
        Ok(AuditSpace { bytes, volume_bytes: *self.volume_bytes.lock().unwrap() })
    }

    async fn public_keys(&self) -> Result<Vec<StoredPublicKey>, StoreError> {
        Ok(self.keys.lock().unwrap().values().cloned().collect())
    }

    async fn store_public_key(&self, key: &StoredPublicKey) -> Result<(), StoreError> {
        self.keys.lock().unwrap().insert(key.key_id.clone(), key.clone());
        Ok(())
    }
}

#[async_trait]
impl AuditHeadStore for MemoryAudit {
    async fn put_head(&self, head: &SignedPoint) -> Result<(), StoreError> {
        self.heads.lock().unwrap().insert(Arc::clone(&head.point.chain), head.clone());
        Ok(())
    }

    async fn heads(&self) -> Result<Vec<SignedPoint>, StoreError> {
        Ok(self.heads.lock().unwrap().values().cloned().collect())
    }
}

/// Returns the audit keys of a new keyring with one key.
pub(crate) fn keys() -> Arc<AuditKeys> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keyring.toml");
    let id = Keyring::generate(&path, Timestamp::UNIX_EPOCH).unwrap();
    Arc::new(AuditKeys::new(&Keyring::load(&path).unwrap(), &id).unwrap())
}
