//! The sliding expiry of tickets: SuperOffice extends a ticket's lifetime at each use.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::Tickets;
use crate::domain::{CredentialId, SystemTicket, TenantName, ticket_lifetime_end};

/// A use is recorded only if it extends the lifetime by at least this. So a ticket in constant use is not written at
/// each use, and its recorded expiry time is early by at most this.
const MIN_EXTENSION: SignedDuration = SignedDuration::from_mins(10);

impl Tickets {
    /// Extends a ticket that worked in a call sent at `sent`, up to its maximum age. Does not wait for the store.
    pub(in crate::broker) fn record_use(
        &self,
        name: &TenantName,
        ticket: &SystemTicket,
        sent: Timestamp,
    ) {
        let exchanger = &self.exchanger;
        let until = ticket_lifetime_end(ticket.issue_time, sent, exchanger.rules.max_age);
        if until.duration_since(ticket.expire_time) < MIN_EXTENSION {
            return;
        }
        let id = ticket.credential_id.clone();
        exchanger.extend(name, &id, until);
        let (key, exchanger, name) =
            ((name.clone(), id.clone()), Arc::clone(exchanger), name.clone());
        let work = || async move {
            if let Err(error) = exchanger.stores.tickets.extend(&name, &id, until).await {
                // The cache is extended, so only a restart loses this.
                tracing::warn!(%error, tenant = %name, "the later expiry time of a ticket is not stored");
            }
        };
        // Not awaited: the work runs on the task tracker.
        drop(self.extensions.start(key, work));
    }

    /// Returns whether this is the current ticket.
    pub(in crate::broker) fn is_current(&self, name: &TenantName, id: &CredentialId) -> bool {
        self.exchanger.cache.find(name, id).is_some()
    }
}
