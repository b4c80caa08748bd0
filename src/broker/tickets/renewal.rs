//! Renewing tickets in the background, so that nobody who uses one waits for the next.

use std::{sync::Arc, time::Duration};

use super::Tickets;
use crate::domain::TenantName;

/// How often the background looks for tickets that are due. Far shorter than what is left of their lives then.
const LOOK: Duration = Duration::from_secs(15);

/// A renewal that failed is tried again after about this long; the present ticket goes on meanwhile.
const RETRY: Duration = Duration::from_mins(2);

/// Half the longest wish of a caller and more than the latest renewal time: a stored ticket with so much life
/// left was renewed by somebody else meanwhile.
const WORTH_RENEWING_FOR: Duration = Duration::from_mins(100);

impl Tickets {
    /// Renews tickets that are due and were used lately, until it is dropped.
    pub async fn keep_fresh(&self) {
        loop {
            self.exchange.clock.sleep(LOOK).await;
            self.renew_due();
        }
    }

    fn renew_due(&self) {
        let exchange = &self.exchange;
        let retry = || exchange.random.jitter(RETRY);
        let used_within = exchange.rules.renew_if_used_within;
        for name in exchange.cache.due(exchange.clock.moment(), used_within, retry) {
            self.begin_renewal(name);
        }
    }

    /// Not waited for: the flight belongs to the task tracker, and logs its own failure.
    fn begin_renewal(&self, name: TenantName) {
        let (directory, statuses) = (Arc::clone(&self.directory), Arc::clone(&self.statuses));
        let (applications, exchange) = (Arc::clone(&self.applications), Arc::clone(&self.exchange));
        let key = name.clone();
        let work = || async move {
            let application = Arc::clone(applications.get(&name.application)?);
            let tenant = directory.enabled(&name).await?;
            statuses.usable(&tenant).await?;
            exchange.run(application, name, WORTH_RENEWING_FOR).await
        };
        drop(self.exchanges.begin(key, work));
    }
}
