//! Renews tickets in the background, so that callers do not wait for the next ticket.

use std::{sync::Arc, time::Duration};

use super::{TicketRules, Tickets};
use crate::domain::TenantName;

/// The interval between checks for tickets that are due: much shorter than their remaining lifetime.
const CHECK_INTERVAL: Duration = Duration::from_secs(15);

/// A failed renewal is retried after about this time; the current ticket stays in use.
const RETRY_INTERVAL: Duration = Duration::from_mins(2);

/// A stored ticket with this much lifetime left was already renewed by another replica. Renewal starts at most 1.5
/// hours before expiry.
const MIN_STORED_LIFETIME: Duration = Duration::from_mins(100);

/// Returns [`MIN_STORED_LIFETIME`], or half of the lifetime of shorter tickets: their renewal starts in the last third.
fn min_stored_lifetime(rules: TicketRules) -> Duration {
    MIN_STORED_LIFETIME.min(rules.longest_min_ttl())
}

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
            let min_ttl = min_stored_lifetime(exchanger.rules);
            exchanger.load_or_exchange(application, name, min_ttl).await
        };
        drop(self.exchanges.start(key, work));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_ticket_of_another_replica_counts_as_renewed() {
        for (max_age_hours, minutes) in [(1, 30), (3, 90), (12, 100)] {
            let rules = TicketRules {
                max_age: Duration::from_hours(max_age_hours),
                renew_if_used_within: Duration::from_hours(2),
            };
            assert_eq!(min_stored_lifetime(rules), Duration::from_mins(minutes));
        }
    }
}
