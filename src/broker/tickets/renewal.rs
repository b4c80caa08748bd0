//! Renews tickets in the background, so that callers do not wait for the next ticket.

use std::{sync::Arc, time::Duration};

use super::Tickets;
use crate::domain::TenantName;

/// The interval between checks for tickets that are due: much shorter than their remaining lifetime.
const CHECK_INTERVAL: Duration = Duration::from_secs(15);

/// A failed renewal is retried after about this time; the current ticket stays in use.
const RETRY_INTERVAL: Duration = Duration::from_mins(2);

/// A stored ticket with this much lifetime left was already renewed by another replica. More than the earliest time
/// before expiry at which renewal starts (1.5 hours), and less than the maximum `min_ttl`.
const MIN_STORED_LIFETIME: Duration = Duration::from_mins(100);

impl Tickets {
    /// Renews tickets that are due and were used recently, until this future is dropped.
    pub async fn keep_fresh(&self) {
        loop {
            self.exchanger.clock.sleep(CHECK_INTERVAL).await;
            self.renew_due();
        }
    }

    fn renew_due(&self) {
        let exchanger = &self.exchanger;
        let retry = || exchanger.random.jitter(RETRY_INTERVAL);
        let used_within = exchanger.rules.renew_if_used_within;
        for name in exchanger.cache.take_due(exchanger.clock.moment(), used_within, retry) {
            self.start_renewal(name);
        }
    }

    /// Starts a renewal and does not wait for it: it runs on the task tracker and logs its own failure.
    fn start_renewal(&self, name: TenantName) {
        let (directory, statuses) = (Arc::clone(&self.directory), Arc::clone(&self.statuses));
        let (applications, exchanger) =
            (Arc::clone(&self.applications), Arc::clone(&self.exchanger));
        let key = name.clone();
        let work = || async move {
            let application = Arc::clone(applications.get(&name.application)?);
            let tenant = directory.enabled(&name).await?;
            statuses.require_usable(&tenant).await?;
            exchanger.get_or_exchange(application, name, MIN_STORED_LIFETIME).await
        };
        drop(self.exchanges.start(key, work));
    }
}
