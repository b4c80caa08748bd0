//! Tickets that were seen to work: each use makes them live on.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::Tickets;
use crate::domain::{CredentialId, SystemTicket, TenantName, ticket_lifetime_end};

/// A use is noted if it makes the life longer by at least this: a ticket that is used all the time is not written all
/// the time, and is believed to end so much too early at most.
const WORTH_NOTING: SignedDuration = SignedDuration::from_mins(10);

impl Tickets {
    /// The ticket worked in a call that was sent at `sent`: it lives on from then, never past its maximal age. Waits
    /// for nobody.
    pub(in crate::broker) fn used(
        &self,
        name: &TenantName,
        ticket: &SystemTicket,
        sent: Timestamp,
    ) {
        let exchange = &self.exchange;
        let until = ticket_lifetime_end(ticket.issue_time, sent, exchange.rules.max_age);
        if until.duration_since(ticket.expire_time) < WORTH_NOTING {
            return;
        }
        let id = ticket.credential_id.clone();
        exchange.extend(name, &id, until);
        let (key, exchange, name) =
            ((name.clone(), id.clone()), Arc::clone(exchange), name.clone());
        let work = || async move {
            if let Err(error) = exchange.stores.tickets.extend(&name, &id, until).await {
                // Only a restart misses it.
                tracing::warn!(%error, tenant = %name, "the longer life of a ticket is not stored");
            }
        };
        // Not waited for: the flight belongs to the task tracker.
        drop(self.slides.begin(key, work));
    }

    /// Whether this is the ticket that calls get now.
    pub(in crate::broker) fn is_present(&self, name: &TenantName, id: &CredentialId) -> bool {
        self.exchange.cache.find(name, id).is_some()
    }
}
