//! The cached keys of one issuer: read by calls, refreshed by one loop.
//!
//! Calls never fetch keys. A call with an unknown key id requests a fetch from the loop, and waits for a fetch that
//! starts after the request. So a key rotation fails no call, and made-up key ids cause at most one fetch per
//! cool-down, however many calls there are.

use std::{convert::Infallible, net::IpAddr, sync::Arc, time::Duration};

use arc_swap::{ArcSwapOption, Guard};
use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::{Notify, watch};

use super::key_set::{KeySet, KeySetProblem};
use crate::{
    domain::{NetworkCounter, NetworkSlot, TokenAlgorithm},
    ports::{Clock, JwksSource, Moment, Random, Reloadable},
};

/// Interval between fetches, with jitter, so that withdrawn keys stop being accepted.
const REFRESH_INTERVAL: Duration = Duration::from_mins(5);

/// Interval between reads of a key file.
const FILE_REFRESH_INTERVAL: Duration = Duration::from_secs(10);

/// Minimum time between the end of a fetch and the next fetch for an unknown key.
const COOL_DOWN: Duration = Duration::from_secs(5);

/// The same for files, whose reads burden no other server.
const COOL_DOWN_FILE: Duration = Duration::from_secs(1);

/// Delay before the first retry of a failed fetch. The delay doubles with each failure and has jitter.
const MIN_RETRY_DELAY: Duration = Duration::from_secs(1);

/// Maximum delay before a retry of a failed fetch.
const MAX_RETRY_DELAY: Duration = Duration::from_mins(1);

/// Maximum number of calls that wait for the keys of one issuer. Bounds the memory that made-up key ids can use.
const MAX_WAITING: usize = 512;

/// The public keys of one issuer, refreshed by [`Self::run_refresh`].
pub struct IssuerKeys {
    issuer: String,
    source: Arc<dyn JwksSource>,
    max_age: Duration,
    algorithms: Vec<TokenAlgorithm>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    current: ArcSwapOption<FetchedKeys>,
    fetches: watch::Sender<FetchProgress>,
    /// The highest number of a requested fetch.
    wanted: watch::Sender<u64>,
    reload: Notify,
    /// The waiting calls.
    waiting: NetworkCounter,
}

/// The keys of one fetch.
struct FetchedKeys {
    keys: KeySet,
    /// The time when the fetch started.
    began: Moment,
}

/// The progress of fetches, which are numbered from one.
#[derive(Debug, Clone, Default)]
struct FetchProgress {
    begun: u64,
    ended: u64,
    /// The error of the last fetch, if it failed.
    failure: Option<Arc<str>>,
}

/// A summary of a key set, for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InspectedKeys {
    /// The number of keys that can be used.
    pub usable: usize,
    /// A description of the skipped keys, if there are any.
    pub skipped: Option<String>,
}

/// The reason why an issuer has no usable keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoUsableKeys {
    /// The key set cannot be read.
    Unreadable(String),
    /// The key set holds only unsupported keys. The text describes them.
    Unusable(String),
}

/// The keys that are accepted now.
pub(super) struct UsableKeys(Guard<Option<Arc<FetchedKeys>>>);

impl UsableKeys {
    pub(super) fn keys(&self) -> Option<&KeySet> {
        self.0.as_ref().map(|fetched| &fetched.keys)
    }
}

/// The issuer has no keys, or the wanted key could not be fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeysUnavailable {
    pub(super) cause: String,
    pub(super) retry_after: Duration,
    pub(super) has_other_keys: bool,
}

impl IssuerKeys {
    /// Creates an issuer without keys; [`Self::run_refresh`] fetches them. `issuer` names it in logs. Keys that were
    /// fetched longer ago than `max_age`, and keys that are not for `algorithms`, are not accepted.
    #[must_use]
    pub fn new(
        issuer: String,
        source: Arc<dyn JwksSource>,
        max_age: Duration,
        algorithms: Vec<TokenAlgorithm>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Self {
        Self {
            issuer,
            source,
            max_age,
            algorithms,
            clock,
            random,
            current: ArcSwapOption::empty(),
            fetches: watch::Sender::default(),
            wanted: watch::Sender::default(),
            reload: Notify::new(),
            waiting: NetworkCounter::default(),
        }
    }

    /// Counts the keys of a key set that can be used with `algorithms`, and describes the others.
    ///
    /// # Errors
    /// Returns an error if no key can be used.
    pub fn inspect(
        body: &[u8],
        algorithms: &[TokenAlgorithm],
    ) -> Result<InspectedKeys, NoUsableKeys> {
        match KeySet::read(body, None, algorithms) {
            Ok(keys) => Ok(InspectedKeys { usable: keys.len(), skipped: keys.skipped() }),
            Err(KeySetProblem::NoUsableKey(found)) => Err(NoUsableKeys::Unusable(found)),
            Err(problem @ (KeySetProblem::Unreadable(_) | KeySetProblem::Empty)) => {
                Err(NoUsableKeys::Unreadable(problem.to_string()))
            }
        }
    }

    /// Returns whether there are keys that are not too old. Used for readiness.
    #[must_use]
    pub fn has_usable_keys(&self, now: Timestamp) -> bool {
        self.usable(now).keys().is_some()
    }

    /// Returns the keys of the last successful fetch, unless they are too old.
    pub(super) fn usable(&self, now: Timestamp) -> UsableKeys {
        let current = self.current.load();
        let usable = current.as_ref().is_some_and(|fetched| {
            // Compares both clocks: the wall clock may be set back, the monotonic clock stops during sleep.
            let by_wall = Duration::try_from(now.duration_since(fetched.began.wall));
            let held = self.clock.monotonic().saturating_sub(fetched.began.monotonic);
            held.max(by_wall.unwrap_or_default()) <= self.max_age
        });
        UsableKeys(if usable { current } else { Guard::from_inner(None) })
    }

    /// Waits for a fetch that starts from now on. Returns an error if the fetch fails or too many calls wait; then it
    /// is unknown whether the issuer has the key.
    pub(super) async fn wait_for_next_fetch(&self, from: IpAddr) -> Result<(), KeysUnavailable> {
        let _slot = self.waiting_slot(from)?;
        let mut fetches = self.fetches.subscribe();
        let next = self.request_next_fetch();
        self.wait_until_ended(&mut fetches, next).await
    }

    /// Requests a fetch and returns its number, without waiting.
    pub(super) fn request_next_fetch(&self) -> u64 {
        let next = self.fetches.borrow().begun + 1;
        self.request_fetch(next);
        next
    }

    /// Waits for the first fetch, if it has not ended yet. Returns an error if there are no usable keys after it.
    pub(super) async fn wait_for_first_fetch(
        &self,
        from: IpAddr,
        now: Timestamp,
    ) -> Result<(), KeysUnavailable> {
        let mut fetches = self.fetches.subscribe();
        if fetches.borrow().ended == 0 {
            let _slot = self.waiting_slot(from)?;
            return self.wait_until_ended(&mut fetches, 1).await;
        }
        if self.has_usable_keys(now) {
            return Ok(());
        }
        // Requests a fetch, because the issuer may recover before the next scheduled fetch.
        let (next, failure) = {
            let fetches = fetches.borrow();
            (fetches.begun + 1, fetches.failure.clone())
        };
        self.request_fetch(next);
        Err(self.unavailable(failure.as_deref().unwrap_or("they are too old")))
    }

    /// Returns a slot if more slots are free than this client network uses. So one network gets at most half of the
    /// slots and a second one half of the rest; the last slots are for networks that have none.
    fn waiting_slot(&self, from: IpAddr) -> Result<NetworkSlot, KeysUnavailable> {
        let slot = self.waiting.take(from, |own, all| own < MAX_WAITING.saturating_sub(all));
        slot.ok_or_else(|| self.unavailable("too many calls wait for them"))
    }

    fn request_fetch(&self, fetch: u64) {
        self.wanted.send_if_modified(|number| {
            let more = *number < fetch;
            *number = fetch.max(*number);
            more
        });
    }

    async fn wait_until_ended(
        &self,
        fetches: &mut watch::Receiver<FetchProgress>,
        number: u64,
    ) -> Result<(), KeysUnavailable> {
        let ended = fetches.wait_for(|fetches| fetches.ended >= number).await;
        let failure = match ended {
            Ok(fetches) => fetches.failure.clone(),
            Err(_) => Some("the gateway is stopping".into()),
        };
        failure.map_or(Ok(()), |failure| Err(self.unavailable(&failure)))
    }

    fn unavailable(&self, why: &str) -> KeysUnavailable {
        let cause = format!("the keys of the issuer {} are not known: {why}", self.issuer);
        let has_other_keys = self.has_usable_keys(self.clock.now());
        KeysUnavailable { cause, retry_after: self.cool_down(), has_other_keys }
    }

    fn cool_down(&self) -> Duration {
        if self.source.is_local() { COOL_DOWN_FILE } else { COOL_DOWN }
    }

    /// Fetches the keys immediately and then periodically. All fetches run here, one after the other.
    pub async fn run_refresh(&self) -> Infallible {
        let mut wanted = self.wanted.subscribe();
        let mut pause = MIN_RETRY_DELAY;
        loop {
            let begun = self.begin_fetch();
            let fetched = self.fetch().await;
            let ended = self.clock.monotonic();
            let rest = if fetched.is_ok() {
                pause = MIN_RETRY_DELAY;
                if self.source.is_local() { FILE_REFRESH_INTERVAL } else { REFRESH_INTERVAL }
            } else {
                let next = MAX_RETRY_DELAY.min(pause * 2);
                std::mem::replace(&mut pause, next)
            };
            self.end_fetch(begun, fetched);
            tokio::select! {
                () = self.clock.sleep(self.random.jitter(rest)) => {}
                () = async { let _ = wanted.wait_for(|number| *number > begun).await; } => {
                    self.clock.sleep(self.remaining_cool_down(ended)).await;
                }
                () = self.reload.notified() => {
                    if !self.source.is_local() {
                        self.clock.sleep(self.remaining_cool_down(ended)).await;
                    }
                }
            }
        }
    }

    /// Returns the rest of the cool-down after a fetch that ended at `ended`.
    fn remaining_cool_down(&self, ended: Duration) -> Duration {
        let since = self.clock.monotonic().saturating_sub(ended);
        self.cool_down().saturating_sub(since)
    }

    fn begin_fetch(&self) -> u64 {
        let mut begun = 0;
        self.fetches.send_modify(|fetches| {
            fetches.begun += 1;
            begun = fetches.begun;
        });
        begun
    }

    fn end_fetch(&self, number: u64, fetched: Result<(), String>) {
        let issuer = &self.issuer;
        let failed_before = self.fetches.borrow().failure.clone();
        let failure: Option<Arc<str>> = fetched.err().map(Into::into);
        match (&failure, failed_before) {
            // Logs each cause once, because the loop retries for ever.
            (Some(cause), before) if before.as_ref() != Some(cause) => {
                tracing::warn!(issuer, %cause, "keys of the issuer not fetched; trying again");
            }
            (None, Some(_)) => tracing::info!(issuer, "keys of the issuer fetched again"),
            _ => {}
        }
        self.fetches.send_modify(|fetches| {
            fetches.ended = number;
            fetches.failure = failure;
        });
    }

    async fn fetch(&self) -> Result<(), String> {
        let began = self.clock.moment();
        let body = self.source.fetch().await.map_err(|error| error.0)?;
        let before = self.current.load_full();
        let keys_before = before.as_ref().map(|fetched| &fetched.keys);
        match KeySet::read(&body, keys_before, &self.algorithms) {
            Ok(keys) => {
                self.log_skipped_keys(&keys, keys_before);
                if before.is_none() {
                    tracing::info!(
                        issuer = self.issuer,
                        keys = keys.len(),
                        "keys of the issuer fetched"
                    );
                }
                self.current.store(Some(Arc::new(FetchedKeys { keys, began })));
                Ok(())
            }
            Err(problem) => {
                match &problem {
                    // The issuer has withdrawn all keys.
                    KeySetProblem::Empty => self.current.store(None),
                    // This is no temporary outage: the issuer's tokens are rejected with a description of its keys.
                    KeySetProblem::NoUsableKey(found) => {
                        let keys = KeySet::without_keys(vec![found.clone()]);
                        self.current.store(Some(Arc::new(FetchedKeys { keys, began })));
                    }
                    KeySetProblem::Unreadable(_) => {}
                }
                Err(problem.to_string())
            }
        }
    }

    /// Logs once which published keys cannot be used. Tokens that they sign are rejected.
    fn log_skipped_keys(&self, keys: &KeySet, before: Option<&KeySet>) {
        let passed_over = keys.skipped();
        if passed_over == before.and_then(KeySet::skipped) {
            return;
        }
        if let Some(found) = passed_over {
            let issuer = &self.issuer;
            tracing::warn!(
                issuer,
                %found,
                "the issuer also publishes keys that cannot be used; tokens that they sign are refused"
            );
        }
    }
}

#[async_trait]
impl Reloadable for IssuerKeys {
    /// Requests a fetch: immediately for a file, otherwise after the cool-down.
    async fn reload(&self) {
        self.reload.notify_one();
    }
}

#[cfg(test)]
mod tests;
