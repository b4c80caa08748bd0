//! What use cases count. Read by the metrics page.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn increment(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// So many more.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// How many so far.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Everything that use cases count.
#[derive(Debug, Default)]
pub struct Counters {
    /// Tickets handed out from memory.
    pub ticket_hits: Counter,
    /// Calls that had to wait for a ticket.
    pub ticket_misses: Counter,
    /// Tickets that SuperOffice issued to us.
    pub exchanges: Counter,
    /// Exchanges that failed.
    pub exchange_failures: Counter,
    /// Tickets proven dead and dropped.
    pub tickets_dropped: Counter,
    /// Access tokens handed out from memory.
    pub access_token_hits: Counter,
    /// Calls that had to wait for an access token.
    pub access_token_misses: Counter,
    /// Refresh tokens spent for an access token.
    pub refreshes: Counter,
    /// Attempts to do so that gave none.
    pub refresh_failures: Counter,
    /// Refresh tokens spent a second time, because nobody knows how the first time ended.
    pub retried_after_crash: Counter,
    /// Grants found not to work any more.
    pub grants_broken: Counter,
    /// Access tokens proven dead and dropped.
    pub access_tokens_dropped: Counter,
    /// Tenant statuses read.
    pub status_reads: Counter,
    /// Tenant statuses that could not be read.
    pub status_failures: Counter,
    /// Calls to the Web API of tenants, repeated ones included.
    pub web_api_calls: Counter,
    /// Calls that were made once more after something was mended.
    pub web_api_repeats: Counter,
    /// Answers that asked for fewer calls (429).
    pub web_api_throttled: Counter,
    /// Calls that were not made because the budget of the tenant leaves none before their deadline.
    pub web_api_refused: Counter,
    /// Audit events committed.
    pub audit_events: Counter,
    /// Groups in which they were.
    pub audit_groups: Counter,
    /// Attempts to commit a group that failed.
    pub audit_failures: Counter,
    /// Kept events that could not be read when they were listed.
    pub audit_unreadable: Counter,
    /// Rows about people that were left out because they have no id.
    pub people_rows_left_out: Counter,
    /// Rows about people of which a value could not be read.
    pub people_rows_in_part: Counter,
    /// Notifications that associates of a tenant have changed, each once.
    pub associate_hints: Counter,
}
