//! Handing the audit trail on: every event once, chain by chain, resumed where it ended.
//!
//! A cursor names the last event of each chain that was handed on, with the beginning of its hash. It is not sealed,
//! so it outlives every key; what was altered, or is of another store, names an event that is not there. An export
//! that is ahead of the store proves that the store was put back to an older copy.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt::Write as _,
    ops::RangeInclusive,
    sync::Arc,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::{
    access::{Authorized, Gateway, ReadAudit},
    broker::BrokerError,
    domain::{AuditEvent, AuditHash, ChainPoint, ChainState},
    ports::{AuditSigner, AuditStore, StoreError},
};

/// Events handed on at a time.
const BATCH: u32 = 500;

/// Begins every cursor.
const PREFIX: &str = "audit1.";

/// Bytes of a hash that tell an event from any other.
const TELLING: usize = 8;

/// Bytes of a cursor that tell whether it is whole.
const CHECK: usize = 8;

/// How far each chain was handed on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExportCursor(BTreeMap<Arc<str>, Mark>);

/// The last event of a chain that was handed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    sequence: i64,
    hash: u64,
}

impl Mark {
    fn new(sequence: i64, hash: &AuditHash) -> Self {
        Self { sequence, hash: telling(hash) }
    }
}

/// Why a cursor is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CursorRefused {
    /// Not a whole text of ours.
    #[error("it is not a cursor that `audit export` has printed, or not the whole of it")]
    Unreadable,
    /// Its chain was never here, or is gone.
    #[error("it names chain {0}, which this store does not have")]
    UnknownChain(String),
    /// The store has less.
    #[error("it names event {sequence} of chain {chain}, and this store ends with event {last}")]
    Ahead {
        /// The chain.
        chain: String,
        /// What the cursor names.
        sequence: i64,
        /// What is there.
        last: i64,
    },
    /// The store has something else.
    #[error("event {sequence} of chain {chain} is not the one that was exported")]
    Changed {
        /// The chain.
        chain: String,
        /// The event.
        sequence: i64,
    },
}

/// Why an export cannot begin.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ExportError {
    /// Its cursor.
    #[error(transparent)]
    Cursor(#[from] CursorRefused),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ExportCursor {
    /// The cursor as text, with a check of its own.
    #[must_use]
    pub fn encode(&self, signer: &dyn AuditSigner) -> String {
        let mut marks = String::new();
        for (chain, Mark { sequence, hash }) in &self.0 {
            // Writing to a text cannot fail.
            let _ = writeln!(marks, "{chain} {sequence} {hash:016x}");
        }
        let mut bytes = check(signer, marks.as_bytes()).to_vec();
        bytes.extend_from_slice(marks.as_bytes());
        format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))
    }

    /// Reads the text.
    ///
    /// # Errors
    /// If it is not one that [`Self::encode`] made.
    pub fn decode(signer: &dyn AuditSigner, text: &str) -> Result<Self, CursorRefused> {
        Self::read(signer, text.trim()).ok_or(CursorRefused::Unreadable)
    }

    fn read(signer: &dyn AuditSigner, text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text.strip_prefix(PREFIX)?).ok()?;
        let (written, marks) = bytes.split_at_checked(CHECK)?;
        if written != check(signer, marks) {
            return None;
        }
        let mark = |line: &str| {
            let mut words = line.split(' ');
            let chain = words.next()?;
            let sequence = words.next()?.parse().ok().filter(|sequence| *sequence > 0)?;
            let hash = u64::from_str_radix(words.next()?, 16).ok()?;
            words.next().is_none().then(|| (chain.into(), Mark { sequence, hash }))
        };
        str::from_utf8(marks).ok()?.lines().map(mark).collect::<Option<_>>().map(Self)
    }

    fn done(&self, chain: &str) -> i64 {
        self.0.get(chain).map_or(0, |mark| mark.sequence)
    }
}

/// Events that are not there though their numbers were given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// The chain.
    pub chain: Arc<str>,
    /// Which events.
    pub sequences: RangeInclusive<i64>,
    /// Removed because they were old; else they are missing or cannot be read, which verification tells.
    pub by_retention: bool,
}

/// Some events of one chain, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExportBatch {
    /// The events.
    pub events: Vec<AuditEvent>,
    /// What should stand before or between them.
    pub gaps: Vec<Gap>,
}

/// An export under way.
pub struct Export {
    store: Arc<dyn AuditStore>,
    cursor: ExportCursor,
    /// Chains that have something to hand on, as far as their signed heads go.
    round: VecDeque<ChainState>,
}

impl Export {
    /// Goes on after `cursor`; the default one is the beginning.
    ///
    /// # Errors
    /// If the cursor is not of this store.
    pub async fn resume(
        _authorized: &Authorized<ReadAudit, Gateway>,
        store: Arc<dyn AuditStore>,
        cursor: ExportCursor,
    ) -> Result<Self, ExportError> {
        let chains = store.chains().await?;
        for (chain, mark) in &cursor.0 {
            let state = chains.iter().find(|state| state.head.point.chain == *chain);
            let state = state.ok_or_else(|| CursorRefused::UnknownChain(chain.to_string()))?;
            let last = state.head.point.sequence;
            let (chain, sequence) = (chain.to_string(), mark.sequence);
            if sequence > last {
                return Err(CursorRefused::Ahead { chain, sequence, last }.into());
            }
            if hash_at(&*store, state, sequence).await?.is_some_and(|hash| hash != mark.hash) {
                return Err(CursorRefused::Changed { chain, sequence }.into());
            }
        }
        Ok(Self { store, cursor, round: VecDeque::new() })
    }

    /// Behind everything that was handed on so far.
    #[must_use]
    pub fn cursor(&self) -> &ExportCursor {
        &self.cursor
    }

    /// Whether everything that was there at the last look has been handed on.
    #[must_use]
    pub fn is_up_to_date(&self) -> bool {
        self.round.is_empty()
    }

    /// The next events; none once everything that was there has been handed on. Asked again, it tells of what has
    /// come since.
    ///
    /// # Errors
    /// If the store does not answer. Asked again, it goes on.
    pub async fn next(&mut self) -> Result<Option<ExportBatch>, BrokerError> {
        if self.round.is_empty() {
            let mut chains = self.store.chains().await?;
            chains.retain(|state| {
                state.head.point.sequence > self.cursor.done(&state.head.point.chain)
            });
            self.round = chains.into();
        }
        let Some(state) = self.round.front() else { return Ok(None) };
        let head = &state.head.point;
        let done = self.cursor.done(&head.chain);
        let mut rows = self.store.events(&head.chain, done, BATCH).await?;
        // What stands behind the head is committed by a later one, or was put there by somebody else.
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
            self.cursor.0.insert(Arc::clone(&head.chain), Mark::new(sequence, &hash));
        }
        if complete || rows.is_empty() {
            self.round.pop_front();
        }
        Ok(Some(batch))
    }
}

/// Notes what is not there between two events.
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

/// The beginning of an event's hash; `None` where it is no longer kept.
async fn hash_at(
    store: &dyn AuditStore,
    state: &ChainState,
    sequence: i64,
) -> Result<Option<u64>, StoreError> {
    let signed = [Some(&state.head), state.checkpoint.as_ref()];
    let mut points = signed.into_iter().flatten().map(|signed| &signed.point);
    if let Some(ChainPoint { hash, .. }) = points.find(|point| point.sequence == sequence) {
        return Ok(Some(telling(hash)));
    }
    let rows = store.events(&state.head.point.chain, sequence.saturating_sub(1), 1).await?;
    let row = rows.first().filter(|row| row.sequence == sequence);
    Ok(row.map(|row| telling(&row.hash)))
}

fn telling(hash: &AuditHash) -> u64 {
    hash.first_chunk::<TELLING>().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

fn check(signer: &dyn AuditSigner, marks: &[u8]) -> [u8; CHECK] {
    signer.digest(marks).first_chunk().copied().unwrap_or_default()
}
