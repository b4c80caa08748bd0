//! Tells those who watch a tenant that something about it may have changed. What it is they ask themselves: so
//! nothing is queued, and whoever is slow sees the latest.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::watch;

use crate::{domain::TenantName, ports::Clock};

/// Who watches looks again after this even if nobody told it to: what expires tells nobody.
const LOOK: Duration = Duration::from_secs(15);

/// Who watches what. Bounded by the number of open watches.
#[derive(Debug, Default)]
pub(super) struct Changes(Mutex<HashMap<TenantName, watch::Sender<()>>>);

/// One watcher's ear.
pub struct TenantChanges {
    told: watch::Receiver<()>,
    clock: Arc<dyn Clock>,
}

impl TenantChanges {
    /// Returns when something about the tenant may have changed.
    pub async fn wait(&mut self) {
        tokio::select! {
            told = self.told.changed() => {
                // The teller goes only with the whole gateway.
                if told.is_err() {
                    self.clock.sleep(LOOK).await;
                }
            }
            () = self.clock.sleep(LOOK) => {}
        }
    }
}

impl Changes {
    pub(super) fn watch(&self, name: &TenantName, clock: Arc<dyn Clock>) -> TenantChanges {
        let mut watched = self.lock();
        watched.retain(|_, teller| teller.receiver_count() > 0);
        let told = watched.entry(name.clone()).or_default().subscribe();
        TenantChanges { told, clock }
    }

    pub(super) fn tell(&self, name: &TenantName) {
        if let Some(teller) = self.lock().get(name) {
            teller.send_replace(());
        }
    }

    pub(super) fn tell_all(&self) {
        self.lock().values().for_each(|teller| {
            teller.send_replace(());
        });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<TenantName, watch::Sender<()>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::poll;
    use jiff::Timestamp;

    use super::*;
    use crate::ports::ManualClock;

    #[tokio::test]
    async fn a_watcher_hears_of_its_own_tenant_and_of_all_and_looks_now_and_then() {
        let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
        let changes = Changes::default();
        let [first, second] = ["Cust1", "Cust2"]
            .map(|tenant| format!("applications/a/tenants/{tenant}").parse().unwrap());
        let mut watcher = changes.watch(&first, clock.clone());
        changes.tell(&second);
        assert!(poll!(Box::pin(watcher.wait())).is_pending());
        changes.tell(&first);
        watcher.wait().await;
        changes.tell_all();
        watcher.wait().await;
        let mut waiting = Box::pin(watcher.wait());
        assert!(poll!(&mut waiting).is_pending());
        clock.advance(LOOK);
        waiting.await;
    }

    #[test]
    fn what_nobody_watches_any_more_is_forgotten() {
        let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
        let changes = Changes::default();
        for number in 0..100 {
            let name = format!("applications/a/tenants/Cust{number}").parse().unwrap();
            drop(changes.watch(&name, clock.clone()));
        }
        assert_eq!(changes.lock().len(), 1);
    }
}
