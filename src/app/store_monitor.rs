//! Monitors store and audit journal while the gateway serves: changes by other processes, replaced files, and rows that
//! were stored with a wrong clock.

use std::{sync::Arc, time::Duration};

use crate::{
    audit::Trail,
    broker::{Applications, StoppedTenants},
    journal::Journal,
    ports::{CLOCK_LEEWAY, Clock, StoreError, StoreHealth},
};

/// The interval at which changes by other processes are detected. The documentation promises one second.
const CHANGE_CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// The timeout of a query. The store waits for writes, and a write that hangs must not hide changes by other processes.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// The interval at which rows with future times are deleted.
const FUTURE_ROWS_INTERVAL: Duration = Duration::from_hours(1);

/// The delay of the first deletion after a start. By then, responses of the login hosts have shown whether the
/// gateway's clock is right.
const FUTURE_ROWS_DELAY: Duration = Duration::from_mins(10);

/// Whether files are no longer those that were opened.
#[derive(Debug, Clone, Copy, Default)]
struct LostFiles {
    store: bool,
    journal: bool,
}

/// The files to monitor, and the parts to notify.
pub(super) struct StoreMonitor {
    pub(super) store: Arc<dyn StoreHealth>,
    pub(super) journal: Arc<Journal>,
    pub(super) trail: Arc<Trail>,
    pub(super) stopped: Arc<StoppedTenants>,
    pub(super) applications: Arc<Applications>,
    pub(super) clock: Arc<dyn Clock>,
}

impl StoreMonitor {
    /// Monitors the store until the future is dropped. `seen` is the last known version of the store.
    pub(super) async fn run(self, forget: impl Fn(), seen: Option<i64>) {
        tokio::join!(self.follow(forget, seen), self.delete_future_rows());
    }

    /// Drops cached rows when a command has changed the store. If the store's file is no longer the one that was
    /// opened, rejects all calls that need the audit trail: a restart would not find the file that they write to.
    async fn follow(&self, forget: impl Fn(), mut seen: Option<i64>) {
        let mut lost = LostFiles::default();
        loop {
            self.update_journal_state(&mut lost);
            // This check first, because it does not wait for a write that hangs.
            let version = match self.store.check_file() {
                Ok(()) => external_version(&*self.store, &*self.clock).await,
                Err(error) => Err(error),
            };
            self.update_file_state(&version, &mut lost);
            match version {
                Ok(version) if seen != Some(version) => {
                    // If no version was known before, a change may have been missed.
                    forget();
                    seen = Some(version);
                    if let Err(error) = self.stopped.forget_stopped().await {
                        let cause = error.cause();
                        tracing::warn!(cause, "cannot read which tenants another process disabled");
                        seen = None;
                    }
                }
                Ok(_) => {}
                Err(error) => {
                    // Cached rows may be out of date, and the emergency stop must not be missed.
                    forget();
                    seen = None;
                    if !lost.store {
                        tracing::warn!(%error, "cannot detect whether another process changed the store");
                    }
                }
            }
            self.clock.sleep(CHANGE_CHECK_INTERVAL).await;
        }
    }

    /// Rejects calls while the directory or a segment of the journal is not the one that is written.
    fn update_journal_state(&self, lost: &mut LostFiles) {
        let checked = self.journal.check_files();
        let before = lost.journal;
        lost.journal = is_lost(&checked, before);
        if lost.journal == before {
            return;
        }
        self.trail.set_refusing(lost.store || lost.journal);
        match checked {
            Err(happened) => tracing::error!(
                %happened,
                "the audit journal is no longer the one that was opened: all calls that need it are rejected. Put its \
                 directory back, or stop the gateway before a backup is restored"
            ),
            Ok(()) => {
                tracing::warn!(
                    "the audit journal is the one that was opened again; calls are served"
                );
            }
        }
    }

    /// Rejects calls while the file is not the one that was opened.
    fn update_file_state(&self, looked: &Result<i64, StoreError>, lost: &mut LostFiles) {
        let before = lost.store;
        lost.store = is_lost(looked, before);
        if lost.store == before {
            return;
        }
        self.trail.set_refusing(lost.store || lost.journal);
        match looked {
            Err(StoreError::Lost(happened)) => tracing::error!(
                happened,
                "the store's file is no longer the one that was opened: all calls that need it are rejected. To serve \
                 what is there now, stop the gateway, move the files -wal and -shm beside it away (they belong to the \
                 former file and would damage this one), and start the gateway. Stop the gateway before a backup is \
                 restored. To serve the former file, put it back with the files beside it"
            ),
            Ok(_) => {
                tracing::warn!(
                    "the store's file is the one that was opened again; calls are served"
                );
            }
            Err(_) => {}
        }
    }

    /// Deletes credentials and statuses with future times, which were stored while the clock was ahead. They are not
    /// used now, but would be when their times have come. Deletes nothing while the clock itself may be wrong.
    async fn delete_future_rows(&self) {
        let mut pause = FUTURE_ROWS_DELAY;
        loop {
            self.clock.sleep(pause).await;
            pause = FUTURE_ROWS_INTERVAL;
            if self.applications.has_clock_skew() {
                continue;
            }
            let Ok(latest) = self.clock.now().checked_add(CLOCK_LEEWAY) else { continue };
            match self.store.delete_issued_after(latest).await {
                Ok(0) => {}
                Ok(rows) => tracing::warn!(
                    rows,
                    "stored credentials and statuses are dropped: they were stored while the clock was ahead"
                ),
                Err(error) => {
                    tracing::warn!(%error, "cannot delete rows that were stored with a wrong clock");
                }
            }
        }
    }
}

/// Returns whether the files are other ones now. An error of a check does not prove that the original files are back.
fn is_lost<T>(checked: &Result<T, StoreError>, before: bool) -> bool {
    match checked {
        Err(StoreError::Lost(_)) => true,
        Ok(_) => false,
        Err(_) => before,
    }
}

/// Reads the version of the store. A store that does not answer in time counts as unavailable, so that cached rows are
/// dropped and the file is checked again.
async fn external_version(store: &dyn StoreHealth, clock: &dyn Clock) -> Result<i64, StoreError> {
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

    /// A store that never answers.
    struct HangingStore;

    #[async_trait]
    impl StoreHealth for HangingStore {
        fn check_file(&self) -> Result<(), StoreError> {
            Ok(())
        }

        async fn check_writable(&self) -> Result<(), StoreError> {
            std::future::pending().await
        }

        async fn external_version(&self) -> Result<i64, StoreError> {
            std::future::pending().await
        }

        async fn delete_issued_after(&self, _: Timestamp) -> Result<u64, StoreError> {
            std::future::pending().await
        }

        async fn close(&self) {}
    }

    #[tokio::test]
    async fn store_that_does_not_answer_in_time_counts_as_unavailable() {
        let clock = ManualClock::new(Timestamp::UNIX_EPOCH);
        let mut asked = pin!(external_version(&HangingStore, &clock));
        assert!(poll!(asked.as_mut()).is_pending());
        clock.advance(ANSWER_TIMEOUT);
        assert!(matches!(asked.await, Err(StoreError::Unavailable(_))));
    }
}
