//! Export of the audit trail: every event once, chain by chain, resumable from a cursor.
//!
//! A cursor names the last exported event of each chain, with a prefix of its hash. It is not encrypted or signed, so
//! it outlives every key. An altered cursor, or one of another store, names an event that this store does not have. A
//! cursor that is ahead of the store proves that an older copy of the store was restored.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt::Write as _,
    ops::RangeInclusive,
    sync::Arc,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use super::BrokerError;
use crate::{
    access::{Authorized, Gateway, ReadAudit},
    domain::{AuditEvent, AuditHash, ChainPoint, ChainState},
    ports::{AuditSigner, AuditStore, StoreError},
};

/// The most events in one batch.
const BATCH: u32 = 500;

/// The prefix of every cursor.
const PREFIX: &str = "audit1.";

/// The number of leading bytes of a hash that identify an event.
const HASH_PREFIX_BYTES: usize = 8;

/// The number of checksum bytes in a cursor, which show whether it is complete.
const CHECKSUM_BYTES: usize = 8;

/// The position in each chain up to which events were exported.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExportCursor(BTreeMap<Arc<str>, ChainPosition>);

/// The last exported event of a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ChainPosition {
    sequence: i64,
    hash: u64,
}

impl ChainPosition {
    fn new(sequence: i64, hash: &AuditHash) -> Self {
        Self { sequence, hash: hash_prefix(hash) }
    }
}

/// The reason why a cursor is rejected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCursor {
    /// The text is not a complete cursor.
    #[error("it is not a complete cursor as printed by `audit export`")]
    Unreadable,
    /// The store has no chain of this name: it never had one, or the chain was removed.
    #[error("it names chain {0}, which this store does not have")]
    UnknownChain(String),
    /// The cursor is ahead of the store.
    #[error("it names event {sequence} of chain {chain}, but this store ends with event {last}")]
    Ahead {
        /// The chain.
        chain: String,
        /// The event that the cursor names.
        sequence: i64,
        /// The last event in the store.
        last: i64,
    },
    /// The store has a different event at this place.
    #[error("event {sequence} of chain {chain} differs from the event that was exported")]
    Changed {
        /// The chain.
        chain: String,
        /// The event.
        sequence: i64,
    },
}

/// The reason why an export cannot start.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ExportError {
    /// The cursor is rejected.
    #[error(transparent)]
    Cursor(#[from] InvalidCursor),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ExportCursor {
    /// Returns the cursor as text, with a checksum.
    #[must_use]
    pub fn encode(&self, signer: &dyn AuditSigner) -> String {
        let mut marks = String::new();
        for (chain, ChainPosition { sequence, hash }) in &self.0 {
            // Writing to a `String` cannot fail.
            let _ = writeln!(marks, "{chain} {sequence} {hash:016x}");
        }
        let mut bytes = checksum(signer, marks.as_bytes()).to_vec();
        bytes.extend_from_slice(marks.as_bytes());
        format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))
    }

    /// Parses a cursor.
    ///
    /// # Errors
    /// If [`Self::encode`] did not make this text.
    pub fn decode(signer: &dyn AuditSigner, text: &str) -> Result<Self, InvalidCursor> {
        Self::read(signer, text.trim()).ok_or(InvalidCursor::Unreadable)
    }

    fn read(signer: &dyn AuditSigner, text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text.strip_prefix(PREFIX)?).ok()?;
        let (written, marks) = bytes.split_at_checked(CHECKSUM_BYTES)?;
        if written != checksum(signer, marks) {
            return None;
        }
        let mark = |line: &str| {
            let mut words = line.split(' ');
            let chain = words.next()?;
            let sequence = words.next()?.parse().ok().filter(|sequence| *sequence > 0)?;
            let hash = u64::from_str_radix(words.next()?, 16).ok()?;
            words.next().is_none().then(|| (chain.into(), ChainPosition { sequence, hash }))
        };
        str::from_utf8(marks).ok()?.lines().map(mark).collect::<Option<_>>().map(Self)
    }

    fn exported_up_to(&self, chain: &str) -> i64 {
        self.0.get(chain).map_or(0, |mark| mark.sequence)
    }
}

/// A range of events that the store cannot provide although their sequence numbers were assigned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// The chain.
    pub chain: Arc<str>,
    /// The sequence numbers of the events.
    pub sequences: RangeInclusive<i64>,
    /// Whether retention removed them. Otherwise they are missing or unreadable, which verification reports.
    pub by_retention: bool,
}

/// Some events of one chain, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExportBatch {
    /// The events.
    pub events: Vec<AuditEvent>,
    /// The ranges of events that are missing before or between the events.
    pub gaps: Vec<Gap>,
}

/// An export in progress.
pub struct Export {
    store: Arc<dyn AuditStore>,
    cursor: ExportCursor,
    /// The chains that have events to export, each up to its signed head.
    pending_chains: VecDeque<ChainState>,
}

impl Export {
    /// Resumes after `cursor`; the default cursor is the beginning.
    ///
    /// # Errors
    /// If the cursor does not belong to this store.
    pub async fn resume(
        _authorized: &Authorized<ReadAudit, Gateway>,
        store: Arc<dyn AuditStore>,
        cursor: ExportCursor,
    ) -> Result<Self, ExportError> {
        let chains = store.chains().await?;
        for (chain, mark) in &cursor.0 {
            let state = chains.iter().find(|state| state.head.point.chain == *chain);
            let state = state.ok_or_else(|| InvalidCursor::UnknownChain(chain.to_string()))?;
            let last = state.head.point.sequence;
            let (chain, sequence) = (chain.to_string(), mark.sequence);
            if sequence > last {
                return Err(InvalidCursor::Ahead { chain, sequence, last }.into());
            }
            if hash_at(&*store, state, sequence).await?.is_some_and(|hash| hash != mark.hash) {
                return Err(InvalidCursor::Changed { chain, sequence }.into());
            }
        }
        Ok(Self { store, cursor, pending_chains: VecDeque::new() })
    }

    /// Returns the cursor after all events exported so far.
    #[must_use]
    pub fn cursor(&self) -> &ExportCursor {
        &self.cursor
    }

    /// Returns whether all events that existed at the last check are exported.
    #[must_use]
    pub fn is_up_to_date(&self) -> bool {
        self.pending_chains.is_empty()
    }

    /// Returns the next events, or `None` when all existing events are exported. A later call returns events that were
    /// added since.
    ///
    /// # Errors
    /// If the store does not answer. A later call continues at the same place.
    pub async fn next(&mut self) -> Result<Option<ExportBatch>, BrokerError> {
        if self.pending_chains.is_empty() {
            let mut chains = self.store.chains().await?;
            chains.retain(|state| {
                state.head.point.sequence > self.cursor.exported_up_to(&state.head.point.chain)
            });
            self.pending_chains = chains.into();
        }
        let Some(state) = self.pending_chains.front() else { return Ok(None) };
        let head = &state.head.point;
        let done = self.cursor.exported_up_to(&head.chain);
        let mut rows = self.store.events(&head.chain, done, BATCH).await?;
        // A row after this head belongs to a later head, or was inserted from outside.
        rows.retain(|row| row.sequence <= head.sequence);
        let mut batch = ExportBatch::default();
        let pruned = self.store.chain(&head.chain).await?.map_or(0, |now| now.first_sequence() - 1);
        let mut last = (done, None);
        for row in &rows {
            gap(&mut batch, &head.chain, last.0, row.sequence, pruned);
            match AuditEvent::read(&head.chain, row) {
                Ok(event) => batch.events.push(event),
                Err(_) => batch.gaps.push(Gap {
                    chain: Arc::clone(&head.chain),
                    sequences: row.sequence..=row.sequence,
                    by_retention: false,
                }),
            }
            last = (row.sequence, Some(row.hash));
        }
        let complete = last.0 == head.sequence;
        if rows.is_empty() {
            gap(&mut batch, &head.chain, done, head.sequence.saturating_add(1), pruned);
            last = (head.sequence, Some(head.hash));
        }
        if let (sequence, Some(hash)) = last {
            self.cursor.0.insert(Arc::clone(&head.chain), ChainPosition::new(sequence, &hash));
        }
        if complete || rows.is_empty() {
            self.pending_chains.pop_front();
        }
        Ok(Some(batch))
    }
}

/// Adds the gap between two events to the batch, split into removed and missing events.
fn gap(batch: &mut ExportBatch, chain: &Arc<str>, before: i64, next: i64, pruned: i64) {
    let (first, last) = (before.saturating_add(1), next.saturating_sub(1));
    let mut note = |first: i64, last: i64, by_retention| {
        if first <= last {
            let chain = Arc::clone(chain);
            batch.gaps.push(Gap { chain, sequences: first..=last, by_retention });
        }
    };
    note(first, last.min(pruned), true);
    note(first.max(pruned.saturating_add(1)), last, false);
}

/// Returns the prefix of an event's hash, or `None` if the event is no longer stored.
async fn hash_at(
    store: &dyn AuditStore,
    state: &ChainState,
    sequence: i64,
) -> Result<Option<u64>, StoreError> {
    let signed = [Some(&state.head), state.checkpoint.as_ref()];
    let mut points = signed.into_iter().flatten().map(|signed| &signed.point);
    if let Some(ChainPoint { hash, .. }) = points.find(|point| point.sequence == sequence) {
        return Ok(Some(hash_prefix(hash)));
    }
    let rows = store.events(&state.head.point.chain, sequence.saturating_sub(1), 1).await?;
    let row = rows.first().filter(|row| row.sequence == sequence);
    Ok(row.map(|row| hash_prefix(&row.hash)))
}

fn hash_prefix(hash: &AuditHash) -> u64 {
    hash.first_chunk::<HASH_PREFIX_BYTES>().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

fn checksum(signer: &dyn AuditSigner, marks: &[u8]) -> [u8; CHECKSUM_BYTES] {
    signer.digest(marks).first_chunk().copied().unwrap_or_default()
}
