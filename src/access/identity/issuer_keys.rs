//! The keys of one issuer as they are known now: read by calls, kept fresh by one loop.
//!
//! Calls never fetch. One that meets a key it does not know asks the loop, and waits for a fetch that began after
//! it asked: so a rotation fails no call, and made-up key names cost the issuer one fetch a cool-down, however many
//! come.

use std::{convert::Infallible, net::IpAddr, sync::Arc, time::Duration};

use arc_swap::{ArcSwapOption, Guard};
use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::{Notify, watch};

use super::{
    key_set::{KeySet, KeySetProblem},
    waiting::{Place, Waiting},
};
use crate::{
    domain::TokenAlgorithm,
    ports::{Clock, JwksSource, Moment, Random, Reloadable},
};

/// Keys are fetched again after this, with jitter, so that a withdrawn key stops being believed.
const FRESH: Duration = Duration::from_mins(5);

/// Files are read again after this.
const FRESH_FILE: Duration = Duration::from_secs(10);

/// An unknown key makes us look again, but not sooner after the last fetch.
const COOL_DOWN: Duration = Duration::from_secs(5);

/// Likewise for files, which trouble nobody else.
const COOL_DOWN_FILE: Duration = Duration::from_secs(1);

/// After a fetch that failed the next comes after this, then twice that, and so on, with jitter.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The longest pause after a fetch that failed.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// The public keys of one issuer, kept fresh by [`Self::keep_fresh`].
pub struct IssuerKeys {
    issuer: String,
    source: Arc<dyn JwksSource>,
    max_age: Duration,
    algorithms: Vec<TokenAlgorithm>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    current: ArcSwapOption<Fetched>,
    fetches: watch::Sender<Fetches>,
    /// The number of the fetch that somebody waits for.
    wanted: watch::Sender<u64>,
    reload: Notify,
    waiting: Waiting,
}

/// The keys of one fetch.
struct Fetched {
    keys: KeySet,
    /// When the fetch began.
    began: Moment,
}

/// Fetches are counted from one.
#[derive(Debug, Clone, Default)]
struct Fetches {
    begun: u64,
    ended: u64,
    /// Why the last one failed.
    failure: Option<Arc<str>>,
}

/// The keys of a key set, for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InspectedKeys {
    /// The number of keys that can be used.
    pub usable: usize,
    /// A description of the others, if there are any.
    pub passed_over: Option<String>,
}

/// Why an issuer has no keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoKeys {
    /// They cannot be read.
    Unreadable(String),
    /// They can be read, and none can be used: describes them.
    Unusable(String),
}

/// Keys that may be believed now.
pub(super) struct Usable(Guard<Option<Arc<Fetched>>>);

impl Usable {
    pub(super) fn keys(&self) -> Option<&KeySet> {
        self.0.as_ref().map(|fetched| &fetched.keys)
    }
}

/// There are no keys, or the one that is wanted may be among those that were not fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unavailable {
    pub(super) cause: String,
    pub(super) retry_after: Duration,
    pub(super) others_known: bool,
}

impl IssuerKeys {
    /// Knows no keys before [`Self::keep_fresh`] runs. `issuer` names it in logs; keys that were fetched longer
    /// ago than `max_age` are believed no more, and keys that are not for `algorithms` never.
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
            waiting: Waiting::default(),
        }
    }

    /// Counts the keys of a key set that can be used with `algorithms`, and describes the others.
    ///
    /// # Errors
    /// If no key can be used: why.
    pub fn inspect(body: &[u8], algorithms: &[TokenAlgorithm]) -> Result<InspectedKeys, NoKeys> {
        match KeySet::read(body, None, algorithms) {
            Ok(keys) => Ok(InspectedKeys { usable: keys.len(), passed_over: keys.passed_over() }),
            Err(KeySetProblem::NoUsableKey(found)) => Err(NoKeys::Unusable(found)),
            Err(problem @ (KeySetProblem::Unreadable(_) | KeySetProblem::Empty)) => {
                Err(NoKeys::Unreadable(problem.to_string()))
            }
        }
    }

    /// Whether there are keys that may be believed. For readiness.
    #[must_use]
    pub fn are_known(&self, now: Timestamp) -> bool {
        self.usable(now).keys().is_some()
    }

    /// The keys of the last fetch, unless they are too old.
    pub(super) fn usable(&self, now: Timestamp) -> Usable {
        let current = self.current.load();
        let usable = current.as_ref().is_some_and(|fetched| {
            // By both clocks: the wall clock may have been set back, and the monotonic one stands still while the
            // machine sleeps.
            let by_wall = Duration::try_from(now.duration_since(fetched.began.wall));
            let held = self.clock.monotonic().saturating_sub(fetched.began.monotonic);
            held.max(by_wall.unwrap_or_default()) <= self.max_age
        });
        Usable(if usable { current } else { Guard::from_inner(None) })
    }

    /// Waits until a fetch that begins from now on has ended. If that one fails, or there are too many who wait,
    /// nobody can tell whether the key is the issuer's.
    pub(super) async fn look_again(&self, from: IpAddr) -> Result<(), Unavailable> {
        let _place = self.place(from)?;
        let mut fetches = self.fetches.subscribe();
        let next = self.look_soon();
        self.ended(&mut fetches, next).await
    }

    /// Wants a fetch, and says which one that will be. Nobody waits for it here.
    pub(super) fn look_soon(&self) -> u64 {
        let next = self.fetches.borrow().begun + 1;
        self.want(next);
        next
    }

    /// Waits for the first fetch, if it has not ended yet; with no keys after it, says why.
    pub(super) async fn first(&self, from: IpAddr, now: Timestamp) -> Result<(), Unavailable> {
        let mut fetches = self.fetches.subscribe();
        if fetches.borrow().ended == 0 {
            let _place = self.place(from)?;
            return self.ended(&mut fetches, 1).await;
        }
        if self.are_known(now) {
            return Ok(());
        }
        // The issuer may be back before the loop would look by itself.
        let (next, failure) = {
            let fetches = fetches.borrow();
            (fetches.begun + 1, fetches.failure.clone())
        };
        self.want(next);
        Err(self.unavailable(failure.as_deref().unwrap_or("they are too old")))
    }

    fn place(&self, from: IpAddr) -> Result<Place<'_>, Unavailable> {
        let place = self.waiting.take(from);
        place.ok_or_else(|| self.unavailable("too many calls wait for them"))
    }

    fn want(&self, fetch: u64) {
        self.wanted.send_if_modified(|number| {
            let more = *number < fetch;
            *number = fetch.max(*number);
            more
        });
    }

    async fn ended(
        &self,
        fetches: &mut watch::Receiver<Fetches>,
        number: u64,
    ) -> Result<(), Unavailable> {
        let ended = fetches.wait_for(|fetches| fetches.ended >= number).await;
        let failure = match ended {
            Ok(fetches) => fetches.failure.clone(),
            Err(_) => Some("the gateway is stopping".into()),
        };
        failure.map_or(Ok(()), |failure| Err(self.unavailable(&failure)))
    }

    fn unavailable(&self, why: &str) -> Unavailable {
        let cause = format!("the keys of the issuer {} are not known: {why}", self.issuer);
        let others_known = self.are_known(self.clock.now());
        Unavailable { cause, retry_after: self.cool_down(), others_known }
    }

    fn cool_down(&self) -> Duration {
        if self.source.is_local() { COOL_DOWN_FILE } else { COOL_DOWN }
    }

    /// Fetches the keys at once, and then again and again, for ever. Every fetch is made here, one after the other.
    pub async fn keep_fresh(&self) -> Infallible {
        let mut wanted = self.wanted.subscribe();
        let mut pause = FIRST_PAUSE;
        loop {
            let begun = self.begin();
            let fetched = self.fetch().await;
            let ended = self.clock.monotonic();
            let rest = if fetched.is_ok() {
                pause = FIRST_PAUSE;
                if self.source.is_local() { FRESH_FILE } else { FRESH }
            } else {
                let next = LONGEST_PAUSE.min(pause * 2);
                std::mem::replace(&mut pause, next)
            };
            self.end(begun, fetched);
            tokio::select! {
                () = self.clock.sleep(self.random.jitter(rest)) => {}
                () = async { let _ = wanted.wait_for(|number| *number > begun).await; } => {
                    self.clock.sleep(self.left(ended)).await;
                }
                () = self.reload.notified() => {
                    if !self.source.is_local() {
                        self.clock.sleep(self.left(ended)).await;
                    }
                }
            }
        }
    }

    /// What is left of the cool-down after a fetch that ended then.
    fn left(&self, ended: Duration) -> Duration {
        let since = self.clock.monotonic().saturating_sub(ended);
        self.cool_down().saturating_sub(since)
    }

    fn begin(&self) -> u64 {
        let mut begun = 0;
        self.fetches.send_modify(|fetches| {
            fetches.begun += 1;
            begun = fetches.begun;
        });
        begun
    }

    fn end(&self, number: u64, fetched: Result<(), String>) {
        let issuer = &self.issuer;
        let failed_before = self.fetches.borrow().failure.clone();
        let failure: Option<Arc<str>> = fetched.err().map(Into::into);
        match (&failure, failed_before) {
            // Once for each cause: the loop goes on for ever.
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
                self.tell_passed_over(&keys, keys_before);
                if before.is_none() {
                    tracing::info!(
                        issuer = self.issuer,
                        keys = keys.len(),
                        "keys of the issuer fetched"
                    );
                }
                self.current.store(Some(Arc::new(Fetched { keys, began })));
                Ok(())
            }
            Err(problem) => {
                match &problem {
                    // The issuer has withdrawn every key.
                    KeySetProblem::Empty => self.current.store(None),
                    // Its tokens are refused, and the refusal says which keys it has: this is no outage, which would
                    // pass by itself.
                    KeySetProblem::NoUsableKey(found) => {
                        let keys = KeySet::without_keys(vec![found.clone()]);
                        self.current.store(Some(Arc::new(Fetched { keys, began })));
                    }
                    KeySetProblem::Unreadable(_) => {}
                }
                Err(problem.to_string())
            }
        }
    }

    /// Says once which published keys cannot be used: tokens that they sign are refused.
    fn tell_passed_over(&self, keys: &KeySet, before: Option<&KeySet>) {
        let passed_over = keys.passed_over();
        if passed_over == before.and_then(KeySet::passed_over) {
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
    /// Asks for a fetch: at once for a file, after the cool-down otherwise.
    async fn reload(&self) {
        self.reload.notify_one();
    }
}

#[cfg(test)]
mod tests;
