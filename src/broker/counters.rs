//! The counters of the use cases, for the metrics page.

use crate::ports::Counter;

/// All counters of the use cases.
#[derive(Debug, Default)]
pub struct Counters {
    /// Tickets returned from the cache.
    pub ticket_hits: Counter,
    /// Calls that had to wait for a ticket.
    pub ticket_misses: Counter,
    /// Tickets that SuperOffice issued.
    pub exchanges: Counter,
    /// Exchanges that failed.
    pub exchange_failures: Counter,
    /// Tickets dropped because a probe showed that SuperOffice rejects them.
    pub tickets_dropped: Counter,
    /// Access tokens returned from the cache.
    pub access_token_hits: Counter,
    /// Calls that had to wait for an access token.
    pub access_token_misses: Counter,
    /// Refresh tokens exchanged for an access token.
    pub refreshes: Counter,
    /// Refresh attempts that failed.
    pub refresh_failures: Counter,
    /// Refresh tokens used a second time, because the outcome of the first use is unknown.
    pub retried_after_crash: Counter,
    /// Grants found to be invalid.
    pub grants_broken: Counter,
    /// Access tokens dropped because a probe showed that SuperOffice rejects them.
    pub access_tokens_dropped: Counter,
    /// Tenant statuses read.
    pub status_reads: Counter,
    /// Tenant statuses that could not be read.
    pub status_failures: Counter,
    /// Calls to the Web API of tenants, including retries.
    pub web_api_calls: Counter,
    /// Retries of Web API calls.
    pub web_api_repeats: Counter,
    /// Throttling answers (HTTP 429).
    pub web_api_throttled: Counter,
    /// Calls rejected because the budget of the tenant allowed none before their deadline.
    pub web_api_refused: Counter,
    /// Stored audit events that could not be read for a list.
    pub audit_unreadable: Counter,
    /// Rows about people that were skipped because they have no id.
    pub people_rows_left_out: Counter,
    /// Rows about people with a value that could not be read.
    pub people_rows_in_part: Counter,
    /// Notifications that associates of a tenant have changed, without repetitions.
    pub associate_hints: Counter,
}
