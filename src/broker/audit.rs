//! The audit trail: what happened is written down so that it cannot be lost, doubled or rewritten unseen.
//!
//! [`Trail`] is the server's: events wait in a bounded queue and are committed in groups by one writer.
//! [`CommandTrail`] is that of commands, which write one event and end. [`Attempts`] counts those who never said who
//! they are. [`AuditLog`] lists what is kept, [`Export`] hands it on. [`Verification`] looks whether everything is still as it was written, [`Retention`] removes what is old
//! so that it can still be told. How and why stands in `docs/adr/0006-audit.md`.

mod attempts;
mod bell;
mod chain;
mod command;
mod export;
mod listing;
mod public_keys;
mod retention;
mod verification;
mod writer;

#[cfg(test)]
pub(super) mod fakes;

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use tokio::sync::{Notify, watch};

pub use self::{
    attempts::Attempts,
    bell::Bell,
    chain::serve_chain,
    command::{COMMAND_CHAIN, CommandTrail},
    export::{CursorRefused, Export, ExportBatch, ExportCursor, ExportError, Gap},
    listing::{AuditLog, AuditPage, AuditQuery},
    public_keys::certify_public_keys,
    retention::Retention,
    verification::{Progress, Verification},
};
use self::{
    bell::{Answered, Answerer, answer},
    writer::Writing,
};
use super::Counters;
use crate::{
    domain::{AuditHash, AuditRecord},
    ports::{AuditSigner, AuditStore, Clock},
};

/// Events that may wait for the store. Enough for seconds of full load; about 4 MiB when full.
pub const QUEUE_CAPACITY: usize = 8192;

/// The same while the store keeps up and somebody waits for each: callers that all begin at once are not refused for
/// being many. As many calls in flight need more memory than their events.
const BURST_CAPACITY: usize = 8 * QUEUE_CAPACITY;

/// Events that are committed together at most: more would make each wait longer and save nothing.
const GROUP_LIMIT: usize = 512;

/// When an event must be in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Before the answer is on the wire.
    BeforeResponse,
    /// Soon after; changes and denials before it all the same.
    AfterResponse,
}

/// What an event is about, which says whether its call may be answered before it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    /// A credential that is handed out.
    Credential,
    /// A change, or a denial.
    Change,
}

/// How the trail is kept.
#[derive(Debug, Clone, Copy)]
pub struct TrailRules {
    /// When an event must be in the store.
    pub durability: Durability,
    /// How long a call waits for it.
    pub max_wait: Duration,
}

/// The event cannot be kept in time: what it would record must not happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the audit trail cannot take the event")]
pub struct AuditUnavailable;

/// What a trail is written with.
#[derive(Clone)]
pub struct TrailPorts {
    /// Keeps the events.
    pub store: Arc<dyn AuditStore>,
    /// Signs the heads.
    pub signer: Arc<dyn AuditSigner>,
    /// Tells the time of events.
    pub clock: Arc<dyn Clock>,
    /// Tells when they have waited too long: a wall clock that leaps says nothing about that.
    pub pace: Arc<dyn Clock>,
    /// Counts events, groups and failures.
    pub counters: Arc<Counters>,
}

/// The server's trail: one chain, begun with its first event.
pub struct Trail {
    ports: TrailPorts,
    rules: TrailRules,
    chain: Arc<str>,
    queue: Mutex<Queue>,
    /// Wakes the writer.
    work: Notify,
    /// What the writer is at. Kept here so that nothing is lost when its future is dropped and made anew.
    writing: tokio::sync::Mutex<Writing>,
    /// How many events are in the store.
    committed: watch::Sender<u64>,
    /// How many of them had a caller that waited for them.
    committed_for_callers: AtomicU64,
    /// Events wait for longer than a call may.
    slow: AtomicBool,
    /// The store is not the one that was opened: nothing that is written now would be found again.
    refusing: AtomicBool,
    /// One of these two.
    stalled: watch::Sender<bool>,
}

/// Events that were taken in and are not in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unwritten {
    /// Events of calls that were answered. If they are lost, the trail lacks something that happened.
    pub answered: u64,
    /// Events whose callers wait for them, or gave up: these callers were answered with an error, or not at all.
    pub unanswered: u64,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Queued>,
    /// How many events were ever taken in.
    accepted: u64,
    /// How many of them have a caller that waits.
    accepted_for_callers: u64,
    /// Somebody waits for one of them.
    urgent: bool,
    /// Once so many wait the writer is woken; at most 1 where it is woken for each that is urgent.
    enough: usize,
}

/// An event that waits.
struct Queued {
    record: AuditRecord,
    time: Timestamp,
    /// By the monotonic clock.
    since: Duration,
    /// Who waits for it, if anybody.
    waiter: Option<Answerer>,
}

/// An event on its way to the store. It gets there also if this is dropped.
#[must_use = "what is recorded may happen only once the event is committed"]
pub struct Pending {
    answer: Option<Answered>,
    pace: Arc<dyn Clock>,
    max_wait: Duration,
}

impl Pending {
    /// Waits until the event is in the store, at most `max_wait`. At once where the rules do not ask to wait.
    ///
    /// # Errors
    /// If it takes longer. The event is committed later all the same.
    pub async fn committed(self) -> Result<(), AuditUnavailable> {
        let Some(answer) = self.answer else { return Ok(()) };
        tokio::select! {
            biased;
            () = answer => Ok(()),
            () = self.pace.sleep(self.max_wait) => Err(AuditUnavailable),
        }
    }
}

impl Trail {
    /// A trail that writes `chain`, which is nobody else's: see [`serve_chain`].
    #[must_use]
    pub fn new(ports: TrailPorts, chain: Arc<str>, rules: TrailRules) -> Self {
        Self {
            ports,
            rules,
            chain,
            queue: Mutex::default(),
            work: Notify::new(),
            writing: tokio::sync::Mutex::default(),
            committed: watch::Sender::new(0),
            committed_for_callers: AtomicU64::new(0),
            slow: AtomicBool::new(false),
            refusing: AtomicBool::new(false),
            stalled: watch::Sender::new(false),
        }
    }

    /// Whether a call waits for an event of this weight.
    fn waits(&self, weight: Weight) -> bool {
        weight == Weight::Change || self.rules.durability == Durability::BeforeResponse
    }

    /// Before anything is done: whether its event could not be kept in time as things stand, so that it is better
    /// not done.
    ///
    /// # Errors
    /// If it could not.
    pub fn check(&self, weight: Weight) -> Result<(), AuditUnavailable> {
        let refused = self.refuses() || self.waits(weight) && self.stalled();
        if refused { Err(AuditUnavailable) } else { Ok(()) }
    }

    /// Takes in an event.
    ///
    /// # Errors
    /// At once, if the queue is full, or nothing is taken in.
    pub fn record(&self, record: AuditRecord, weight: Weight) -> Result<Pending, AuditUnavailable> {
        self.take_in(record, weight, self.waits(weight))
    }

    /// Takes in an event that no caller waits for: its call was answered already, or there is none.
    ///
    /// # Errors
    /// As [`Self::record`].
    pub fn note(&self, record: AuditRecord, weight: Weight) -> Result<(), AuditUnavailable> {
        self.take_in(record, weight, false).map(drop)
    }

    fn take_in(
        &self,
        record: AuditRecord,
        weight: Weight,
        for_caller: bool,
    ) -> Result<Pending, AuditUnavailable> {
        if self.refuses() {
            return Err(AuditUnavailable);
        }
        let waits = self.waits(weight);
        let (waiter, answered) = if for_caller {
            let (waiter, answered) = answer();
            (Some(waiter), Some(answered))
        } else {
            (None, None)
        };
        let (time, since) = (self.ports.clock.now(), self.ports.pace.monotonic());
        let wake = {
            let mut queue = self.queue();
            let keeps_up = waits && !self.stalled();
            let capacity = if keeps_up { BURST_CAPACITY } else { QUEUE_CAPACITY };
            if queue.waiting.len() >= capacity {
                return Err(AuditUnavailable);
            }
            queue.waiting.push_back(Queued { record, time, since, waiter });
            queue.accepted += 1;
            queue.accepted_for_callers += u64::from(for_caller);
            // Once is enough: the writer takes all that is there.
            let newly_urgent = waits && !queue.urgent;
            queue.urgent |= waits;
            let length = queue.waiting.len();
            if queue.enough > 1 {
                queue.urgent && length == queue.enough || length == GROUP_LIMIT
            } else {
                length == 1 || newly_urgent || length == GROUP_LIMIT
            }
        };
        if wake {
            self.work.notify_one();
        }
        let max_wait = self.rules.max_wait;
        Ok(Pending { answer: answered, pace: Arc::clone(&self.ports.pace), max_wait })
    }

    /// Takes in an event and waits for it, as far as the rules ask.
    ///
    /// # Errors
    /// If the queue is full, or the store does not take it in time.
    pub async fn write(&self, record: AuditRecord, weight: Weight) -> Result<(), AuditUnavailable> {
        self.record(record, weight)?.committed().await
    }

    /// Takes nothing in while `refuse` is set: the store is not the one that was opened. Whatever needs an event is
    /// refused at once.
    pub fn refuse(&self, refuse: bool) {
        self.refusing.store(refuse, Ordering::Release);
        self.notify_stalled();
    }

    fn refuses(&self) -> bool {
        self.refusing.load(Ordering::Acquire)
    }

    fn notify_stalled(&self) {
        let stalled = self.refuses() || self.slow.load(Ordering::Acquire);
        self.stalled.send_if_modified(|now| std::mem::replace(now, stalled) != stalled);
    }

    /// Whether the oldest event waits longer than a call may, or nothing is taken in. Mends itself.
    #[must_use]
    pub fn stalled(&self) -> bool {
        *self.stalled.borrow()
    }

    /// Tells when that changes.
    #[must_use]
    pub fn watch_stalled(&self) -> watch::Receiver<bool> {
        self.stalled.subscribe()
    }

    /// SHA-256, to name what is too long for an event.
    #[must_use]
    pub fn digest(&self, bytes: &[u8]) -> AuditHash {
        self.ports.signer.digest(bytes)
    }

    /// How many events wait for the store, without those that are being written.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.queue().waiting.len()
    }

    /// How many events were taken in and are not known to be in the store, also those that are being written.
    #[must_use]
    pub fn unwritten(&self) -> Unwritten {
        let (accepted, for_callers) = {
            let queue = self.queue();
            (queue.accepted, queue.accepted_for_callers)
        };
        let all = accepted.saturating_sub(*self.committed.borrow());
        let committed = self.committed_for_callers.load(Ordering::Acquire);
        let unanswered = for_callers.saturating_sub(committed).min(all);
        Unwritten { answered: all - unanswered, unanswered }
    }

    /// Waits until everything that was taken in so far is in the store. [`Trail::run`] must still run.
    ///
    /// # Errors
    /// If it takes longer than `patience`.
    pub async fn flush(&self, patience: Duration) -> Result<(), AuditUnavailable> {
        let accepted = {
            let mut queue = self.queue();
            queue.urgent = true;
            queue.enough = 0;
            queue.accepted
        };
        self.work.notify_one();
        let mut committed = self.committed.subscribe();
        tokio::select! {
            biased;
            done = committed.wait_for(|count| *count >= accepted) => {
                done.map(|_| ()).map_err(|_| AuditUnavailable)
            }
            () = self.ports.pace.sleep(patience) => Err(AuditUnavailable),
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Trail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trail").field("chain", &self.chain).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
