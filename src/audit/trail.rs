//! The trail of a running gateway: accepts events into a bounded queue, from which one writer commits them in groups.

mod denials;
mod writer;

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

use self::writer::WriterState;
use super::{
    AuditCounters,
    denials::DenialWindows,
    wake::{CommitNotifier, Committed, commit_signal},
};
use crate::{
    domain::{AuditHash, AuditRecord, Decision, SignedPoint},
    ports::{AuditSigner, AuditStore, Clock},
};

/// The limit of events that wait for the store. Enough for seconds of full load; about 4 MiB when full.
pub const QUEUE_CAPACITY: usize = 8192;

/// The limit for events of a class that callers wait for, while the store keeps up, so that a burst of callers is not
/// rejected. The calls in flight need more memory than their events.
pub(super) const BURST_CAPACITY: usize = 8 * QUEUE_CAPACITY;

/// The most events that are committed together. A larger group would make each event wait longer and save nothing.
const GROUP_LIMIT: usize = 512;

/// The time by which an event must be in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Before the response is sent.
    BeforeResponse,
    /// Soon after the response; changes and denials still before it.
    AfterResponse,
}

/// The class of an event, which decides whether its call may be answered before the event is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventClass {
    /// A credential is issued.
    Credential,
    /// A change, or a denial.
    Change,
}

/// The settings of the audit trail.
#[derive(Debug, Clone, Copy)]
pub struct TrailRules {
    /// The time by which an event must be in the store.
    pub durability: Durability,
    /// The longest time that a call waits for its event.
    pub max_wait: Duration,
}

/// The event cannot be stored in time, so the operation that it would record must not happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the audit trail cannot accept the event")]
pub struct AuditUnavailable;

/// The dependencies of [`Trail`].
#[derive(Clone)]
pub struct TrailPorts {
    /// Stores the events.
    pub store: Arc<dyn AuditStore>,
    /// Signs the heads of chains.
    pub signer: Arc<dyn AuditSigner>,
    /// The wall clock, for the times of events.
    pub clock: Arc<dyn Clock>,
    /// Measures how long events wait. A wall clock may jump, so it cannot measure that.
    pub timer: Arc<dyn Clock>,
}

/// The trail of a running gateway: one chain, which begins with its first event.
pub struct Trail {
    ports: TrailPorts,
    rules: TrailRules,
    chain: Arc<str>,
    counters: Arc<AuditCounters>,
    queue: Mutex<Queue>,
    /// The denials of the last minute. Its lock is taken before that of the queue, and only for denials.
    denials: Mutex<DenialWindows>,
    /// Wakes the writer.
    work: Notify,
    /// The writer's state, kept here so that nothing is lost when the writer's future is dropped and restarted.
    writing: tokio::sync::Mutex<WriterState>,
    /// The number of events that are committed to the store.
    committed: watch::Sender<u64>,
    /// The head of the chain after the last committed event.
    head: Mutex<Option<SignedPoint>>,
    /// The number of committed events that had a waiting caller.
    committed_for_callers: AtomicU64,
    /// Whether events wait longer than `max_wait`.
    slow: AtomicBool,
    /// Whether the trail rejects all events because a file was replaced: events written now would be lost.
    refusing: AtomicBool,
    /// Whether `slow` or `refusing` is set.
    stalled: watch::Sender<bool>,
}

/// Numbers of accepted events that are not in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UncommittedEvents {
    /// Events of calls that were answered. If they are lost, the trail is incomplete.
    pub answered: u64,
    /// Events whose callers still wait or stopped waiting: these callers got an error or no response.
    pub unanswered: u64,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<QueuedEvent>,
    /// The number of events accepted so far.
    accepted: u64,
    /// The number of accepted events that have a waiting caller.
    accepted_for_callers: u64,
    /// Whether an event must be written at once, because a caller or a flush waits for it.
    urgent: bool,
}

/// An event in the queue.
struct QueuedEvent {
    record: AuditRecord,
    time: Timestamp,
    /// The time at which it was queued, by the monotonic clock.
    since: Duration,
    /// Notifies the waiting caller, if there is one.
    waiter: Option<CommitNotifier>,
}

/// An event that is on its way to the store. It is stored even if this value is dropped.
#[must_use = "the recorded operation may happen only after the event is committed"]
pub struct PendingEvent {
    wait: CommitWait,
    timer: Arc<dyn Clock>,
    /// The time until which the caller waits, by the monotonic clock. It counts from the queueing, so that a call with
    /// several events waits no longer than for one.
    deadline: Duration,
}

/// The commit that a call waits for.
enum CommitWait {
    /// No commit.
    None,
    /// The commit of the call's own event.
    OwnEvent(Committed),
    /// The commit of so many events. A counted denial waits like this, because it has no event of its own.
    Count { committed: watch::Receiver<u64>, count: u64 },
}

impl CommitWait {
    async fn finish(self) -> Result<(), AuditUnavailable> {
        match self {
            Self::None => {}
            Self::OwnEvent(committed) => committed.await,
            Self::Count { mut committed, count } => {
                committed.wait_for(|now| *now >= count).await.map_err(|_| AuditUnavailable)?;
            }
        }
        Ok(())
    }
}

impl PendingEvent {
    /// Waits until the event is in the store, at most until `max_wait` after it was queued. Returns at once if no
    /// caller has to wait for it.
    ///
    /// # Errors
    /// If it takes longer. The event is still committed later.
    pub async fn committed(self) -> Result<(), AuditUnavailable> {
        if let CommitWait::None = self.wait {
            return Ok(());
        }
        let left = self.deadline.saturating_sub(self.timer.monotonic());
        tokio::select! {
            biased;
            committed = self.wait.finish() => committed,
            () = self.timer.sleep(left) => Err(AuditUnavailable),
        }
    }
}

impl Trail {
    /// Creates a trail that writes `chain`. No other trail may write that chain: see
    /// [`serve_chain`](super::serve_chain).
    #[must_use]
    pub fn new(ports: TrailPorts, chain: Arc<str>, rules: TrailRules) -> Self {
        Self {
            ports,
            rules,
            chain,
            counters: Arc::default(),
            queue: Mutex::default(),
            denials: Mutex::default(),
            work: Notify::new(),
            writing: tokio::sync::Mutex::default(),
            committed: watch::Sender::new(0),
            head: Mutex::default(),
            committed_for_callers: AtomicU64::new(0),
            slow: AtomicBool::new(false),
            refusing: AtomicBool::new(false),
            stalled: watch::Sender::new(false),
        }
    }

    /// Returns the name of the chain that this trail writes.
    #[must_use]
    pub fn chain(&self) -> &Arc<str> {
        &self.chain
    }

    /// Returns whether a call waits for an event of this class.
    fn waits(&self, class: EventClass) -> bool {
        class == EventClass::Change || self.rules.durability == Durability::BeforeResponse
    }

    /// Checks, before an operation starts, that its event can probably be stored in time.
    ///
    /// # Errors
    /// If it cannot; then the operation should not start.
    pub fn check(&self, class: EventClass) -> Result<(), AuditUnavailable> {
        let refused = self.refuses() || self.waits(class) && self.stalled();
        if refused { Err(AuditUnavailable) } else { Ok(()) }
    }

    /// Queues an event. A denial that follows another one of the same caller, action and error reason within a minute
    /// is only counted.
    ///
    /// # Errors
    /// At once, if the queue is full or the trail rejects all events.
    pub fn record(
        &self,
        record: AuditRecord,
        class: EventClass,
    ) -> Result<PendingEvent, AuditUnavailable> {
        self.accept(record, class, self.waits(class))
    }

    /// Queues an event that no caller waits for: its call was already answered, or there is no call.
    ///
    /// # Errors
    /// As [`Self::record`].
    pub fn record_in_background(
        &self,
        record: AuditRecord,
        class: EventClass,
    ) -> Result<(), AuditUnavailable> {
        self.accept(record, class, false).map(drop)
    }

    fn accept(
        &self,
        record: AuditRecord,
        class: EventClass,
        for_caller: bool,
    ) -> Result<PendingEvent, AuditUnavailable> {
        if record.decision == Decision::Denied && record.aggregate.is_none() {
            return self.record_denial(record, class, for_caller);
        }
        self.enqueue(record, class, for_caller).map(|(pending, _)| pending)
    }

    /// Queues an event. Also returns how many events were accepted up to this one: it is committed when so many are.
    fn enqueue(
        &self,
        record: AuditRecord,
        class: EventClass,
        for_caller: bool,
    ) -> Result<(PendingEvent, u64), AuditUnavailable> {
        if self.refuses() {
            return Err(AuditUnavailable);
        }
        let (waiter, committed) = for_caller.then(commit_signal).unzip();
        let (time, since) = (self.ports.clock.now(), self.ports.timer.monotonic());
        let (wake, number) = {
            let mut queue = self.queue();
            if queue.waiting.len() >= self.capacity(class) {
                return Err(AuditUnavailable);
            }
            queue.waiting.push_back(QueuedEvent { record, time, since, waiter });
            queue.accepted += 1;
            queue.accepted_for_callers += u64::from(for_caller);
            let newly_urgent = for_caller && !queue.urgent;
            queue.urgent |= for_caller;
            // One wake-up is enough: the writer takes the whole queue.
            (newly_urgent || matches!(queue.waiting.len(), 1 | GROUP_LIMIT), queue.accepted)
        };
        if wake {
            self.work.notify_one();
        }
        let wait = committed.map_or(CommitWait::None, CommitWait::OwnEvent);
        Ok((self.pending(wait, since), number))
    }

    fn pending(&self, wait: CommitWait, since: Duration) -> PendingEvent {
        let deadline = since.saturating_add(self.rules.max_wait);
        PendingEvent { wait, timer: Arc::clone(&self.ports.timer), deadline }
    }

    /// Returns the most events of this class that may wait.
    fn capacity(&self, class: EventClass) -> usize {
        let keeps_up = self.waits(class) && !self.stalled();
        if keeps_up { BURST_CAPACITY } else { QUEUE_CAPACITY }
    }

    /// Queues an event, and waits until it is committed if its class requires that.
    ///
    /// # Errors
    /// If the queue is full, or the event is not committed in time.
    pub async fn write(
        &self,
        record: AuditRecord,
        class: EventClass,
    ) -> Result<(), AuditUnavailable> {
        self.record(record, class)?.committed().await
    }

    /// Sets whether the trail rejects all events because the store or the journal was replaced. Operations that need an
    /// event then fail at once.
    pub fn set_refusing(&self, refuse: bool) {
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

    /// Returns whether the oldest event waits longer than `max_wait`, or the trail rejects all events. The state
    /// recovers without a restart.
    #[must_use]
    pub fn stalled(&self) -> bool {
        *self.stalled.borrow()
    }

    /// Returns a receiver of changes of [`Self::stalled`].
    #[must_use]
    pub fn watch_stalled(&self) -> watch::Receiver<bool> {
        self.stalled.subscribe()
    }

    /// Returns the SHA-256 digest of `bytes`. Consents use it to store secrets as digests.
    #[must_use]
    pub fn digest(&self, bytes: &[u8]) -> AuditHash {
        self.ports.signer.digest(bytes)
    }

    /// Returns the counters, for the metrics page.
    #[must_use]
    pub fn counters(&self) -> &Arc<AuditCounters> {
        &self.counters
    }

    /// Returns the signed head of the chain after the last committed event; `None` before the first one.
    #[must_use]
    pub fn head(&self) -> Option<SignedPoint> {
        self.head.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the number of queued events, without those that are being written.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.queue().waiting.len()
    }

    /// Returns the number of accepted events that are not confirmed to be in the store, including those being written
    /// and those for counted denials.
    #[must_use]
    pub fn unwritten(&self) -> UncommittedEvents {
        let (accepted, for_callers) = {
            let queue = self.queue();
            (queue.accepted, queue.accepted_for_callers)
        };
        let all = accepted.saturating_sub(*self.committed.borrow());
        let committed = self.committed_for_callers.load(Ordering::Acquire);
        let unanswered = for_callers.saturating_sub(committed).min(all);
        let counted = self.denials().unrecorded();
        UncommittedEvents { answered: all - unanswered + counted, unanswered }
    }

    /// Waits until all events accepted so far are in the store. [`Trail::run`] must still run.
    ///
    /// # Errors
    /// If it takes longer than `max_wait`.
    pub async fn flush(&self, max_wait: Duration) -> Result<(), AuditUnavailable> {
        let accepted = {
            let mut queue = self.queue();
            queue.urgent = true;
            queue.accepted
        };
        self.work.notify_one();
        let mut committed = self.committed.subscribe();
        tokio::select! {
            biased;
            done = committed.wait_for(|count| *count >= accepted) => {
                done.map(|_| ()).map_err(|_| AuditUnavailable)
            }
            () = self.ports.timer.sleep(max_wait) => Err(AuditUnavailable),
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
