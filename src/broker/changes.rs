//! Notifies subscribers that something about a tenant may have changed. A notification has no content: the subscriber
//! reads the current state. So nothing is queued, and a slow subscriber sees the latest state.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::watch;

use crate::{domain::TenantName, ports::Clock};

/// A subscriber checks again after this time without a notification, because expiry causes none.
const POLL_INTERVAL: Duration = Duration::from_secs(15);

/// The subscribers of each tenant. The number of open watches bounds the map.
#[derive(Debug, Default)]
pub(super) struct ChangeNotifier(Mutex<HashMap<TenantName, watch::Sender<()>>>);

/// The subscription to changes of one tenant.
pub struct TenantChanges {
    receiver: watch::Receiver<()>,
    clock: Arc<dyn Clock>,
}

impl TenantChanges {
    /// Waits until something about the tenant may have changed.
    pub async fn wait(&mut self) {
        tokio::select! {
            result = self.receiver.changed() => {
                // The sender is dropped only when the gateway stops.
                if result.is_err() {
                    self.clock.sleep(POLL_INTERVAL).await;
                }
            }
            () = self.clock.sleep(POLL_INTERVAL) => {}
        }
    }
}

impl ChangeNotifier {
    pub(super) fn subscribe(&self, name: &TenantName, clock: Arc<dyn Clock>) -> TenantChanges {
        let mut subscribers = self.lock();
        subscribers.retain(|_, sender| sender.receiver_count() > 0);
        let receiver = subscribers.entry(name.clone()).or_default().subscribe();
        TenantChanges { receiver, clock }
    }

    pub(super) fn notify(&self, name: &TenantName) {
        if let Some(sender) = self.lock().get(name) {
            sender.send_replace(());
        }
    }

    pub(super) fn notify_all(&self) {
        self.lock().values().for_each(|sender| {
            sender.send_replace(());
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
    async fn a_subscriber_is_notified_for_its_tenant_and_for_all_and_polls() {
        let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
        let changes = ChangeNotifier::default();
        let [first, second] = ["Cust1", "Cust2"]
            .map(|tenant| format!("applications/a/tenants/{tenant}").parse().unwrap());
        let mut watcher = changes.subscribe(&first, clock.clone());
        changes.notify(&second);
        assert!(poll!(Box::pin(watcher.wait())).is_pending());
        changes.notify(&first);
        watcher.wait().await;
        changes.notify_all();
        watcher.wait().await;
        let mut waiting = Box::pin(watcher.wait());
        assert!(poll!(&mut waiting).is_pending());
        clock.advance(POLL_INTERVAL);
        waiting.await;
    }

    #[test]
    fn tenants_without_subscribers_are_removed() {
        let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
        let changes = ChangeNotifier::default();
        for number in 0..100 {
            let name = format!("applications/a/tenants/Cust{number}").parse().unwrap();
            drop(changes.subscribe(&name, clock.clone()));
        }
        assert_eq!(changes.lock().len(), 1);
    }
}
