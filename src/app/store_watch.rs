//! Watching the store while it is served: changes by other processes, a file that is no longer the one in use, and what
//! a wrong clock has left.

use std::{sync::Arc, time::Duration};

use crate::{
    broker::{Applications, StoppedTenants, Trail},
    ports::{CLOCK_LEEWAY, Clock, StoreError, StoreWatch},
};

/// How often we look whether another process has changed the store. CONTRACT section 7 promises a second.
const LOOK_AT_STORE: Duration = Duration::from_millis(500);

/// How long the store may take to answer. It waits for writes, and one that hangs must not hide changes by others.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// How often what was stored by a clock that was ahead is looked for.
const LOOK_AHEAD: Duration = Duration::from_hours(1);

/// The first time after a start: until then the login hosts have answered, and said whether our own clock is right.
const FIRST_LOOK_AHEAD: Duration = Duration::from_mins(10);

/// What is watched, and who hears of it.
pub(super) struct Watched {
    pub(super) store: Arc<dyn StoreWatch>,
    pub(super) trail: Arc<Trail>,
    pub(super) stopped: Arc<StoppedTenants>,
    pub(super) applications: Arc<Applications>,
    pub(super) clock: Arc<dyn Clock>,
}

impl Watched {
    /// Watches for as long as it is polled. `seen` is the version of the store that is known.
    pub(super) async fn run(self, forget: impl Fn(), seen: Option<i64>) {
        tokio::join!(self.follow(forget, seen), self.forget_times_ahead());
    }

    /// Commands change the store beside us: what is remembered of it is dropped then. If its file is no longer the one
    /// that was opened, everything that needs the audit trail is refused: what would be written is in no file that a
    /// restart finds.
    async fn follow(&self, forget: impl Fn(), mut seen: Option<i64>) {
        let mut lost = false;
        loop {
            // First what waits for no write that hangs.
            let looked = match self.store.check_file() {
                Ok(()) => external_version(&*self.store, &*self.clock).await,
                Err(error) => Err(error),
            };
            lost = self.follow_file(&looked, lost);
            match looked {
                Ok(version) if seen != Some(version) => {
                    // Where nothing was known before, something may have been missed.
                    forget();
                    seen = Some(version);
                    if let Err(error) = self.stopped.look().await {
                        let cause = error.cause();
                        tracing::warn!(cause, "cannot see which tenants another process stopped");
                        seen = None;
                    }
                }
                Ok(_) => {}
                Err(error) => {
                    // What is remembered may be out of date: the emergency stop must not be missed.
                    forget();
                    seen = None;
                    if !lost {
                        tracing::warn!(%error, "cannot see whether the store was changed by another process");
                    }
                }
            }
            self.clock.sleep(LOOK_AT_STORE).await;
        }
    }

    /// Refuses calls while the file is not the one that was opened. Returns whether that is so.
    fn follow_file(&self, looked: &Result<i64, StoreError>, lost: bool) -> bool {
        let now = match looked {
            Err(StoreError::Lost(_)) => true,
            Ok(_) => false,
            // A file that cannot be looked at is not known to be the right one again.
            Err(_) => lost,
        };
        if now != lost {
            self.trail.refuse(now);
        }
        match looked {
            Err(StoreError::Lost(happened)) if !lost => tracing::error!(
                happened,
                "the store's file is no longer the one that was opened: all calls that need it are refused. To serve \
                 what is there now, stop the gateway, move the files -wal and -shm beside it away (they belong to the \
                 former file and would damage this one), and start the gateway. Stop the gateway before a backup is \
                 restored. To serve the former file, put it back with the files beside it"
            ),
            Ok(_) if lost => {
                tracing::warn!(
                    "the store's file is the one that was opened again; calls are served"
                );
            }
            _ => {}
        }
        now
    }

    /// Deletes credentials and statuses that seem to be from the future: they were stored while the clock was ahead. They
    /// are not used now, but one day their times would pass for good. Not while the clock itself may be behind.
    async fn forget_times_ahead(&self) {
        let mut pause = FIRST_LOOK_AHEAD;
        loop {
            self.clock.sleep(pause).await;
            pause = LOOK_AHEAD;
            if self.applications.clock_is_off() {
                continue;
            }
            let Ok(latest) = self.clock.now().checked_add(CLOCK_LEEWAY) else { continue };
            match self.store.forget_issued_after(latest).await {
                Ok(0) => {}
                Ok(rows) => tracing::warn!(
                    rows,
                    "stored credentials and statuses are dropped: they were stored while the clock was ahead"
                ),
                Err(error) => {
                    tracing::warn!(%error, "cannot look for what a wrong clock has stored");
                }
            }
        }
    }
}

/// Reads the version of the store. A store that does not answer in time counts as unavailable, so that what is
/// remembered is dropped and the file is looked at again.
async fn external_version(store: &dyn StoreWatch, clock: &dyn Clock) -> Result<i64, StoreError> {
    tokio::select! {
        biased;
        version = store.external_version() => version,
        () = clock.sleep(ANSWER_TIMEOUT) => {
            Err(StoreError::Unavailable("no answer in time".to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use async_trait::async_trait;
    use futures_util::poll;
    use jiff::Timestamp;

    use super::*;
    use crate::ports::ManualClock;

    /// Never answers.
    struct HangingStore;

    #[async_trait]
    impl StoreWatch for HangingStore {
        fn check_file(&self) -> Result<(), StoreError> {
            Ok(())
        }

        async fn writable(&self) -> Result<(), StoreError> {
            std::future::pending().await
        }

        async fn external_version(&self) -> Result<i64, StoreError> {
            std::future::pending().await
        }

        async fn forget_issued_after(&self, _: Timestamp) -> Result<u64, StoreError> {
            std::future::pending().await
        }

        async fn close(&self) {}
    }

    #[tokio::test]
    async fn a_store_that_does_not_answer_in_time_counts_as_unavailable() {
        let clock = ManualClock::new(Timestamp::UNIX_EPOCH);
        let mut asked = pin!(external_version(&HangingStore, &clock));
        assert!(poll!(asked.as_mut()).is_pending());
        clock.advance(ANSWER_TIMEOUT);
        assert!(matches!(asked.await, Err(StoreError::Unavailable(_))));
    }
}
