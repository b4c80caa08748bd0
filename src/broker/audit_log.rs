//! Reading the audit trail: lists of events, and the verification of all chains.

use std::sync::Arc;

use super::{
    BrokerError, Counters, Runtime,
    scan_budget::{BATCH_SIZE, ScanBudget},
};
use crate::{
    access::{Authorized, Gateway, ReadAudit},
    audit::Verification,
    domain::{ApplicationId, AuditEvent, AuditVerification, Filter},
    ports::{AuditHeadStore, AuditPosition, AuditSigner, AuditStore, ChainedRow, Clock, TimeSpan},
};

/// The selection of events for a page.
#[derive(Debug, Clone)]
pub struct AuditQuery {
    /// The filter that events must match.
    pub filter: Filter,
    /// The end of the previous page.
    pub after: Option<AuditPosition>,
    /// The most events on the page.
    pub limit: usize,
}

/// A page of events, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditPage {
    /// The events. The list may be empty although there is a next page.
    pub events: Vec<AuditEvent>,
    /// The start of the next page, if there is one.
    pub next: Option<AuditPosition>,
}

/// Reads the audit trail. Readers and the writer never wait for each other.
pub struct AuditLog {
    store: Arc<dyn AuditStore>,
    heads: Arc<dyn AuditHeadStore>,
    signer: Arc<dyn AuditSigner>,
    clock: Arc<dyn Clock>,
    counters: Arc<Counters>,
    /// Allows one verification at a time, because each reads all events.
    verifying: tokio::sync::Mutex<()>,
}

impl AuditLog {
    /// Creates a reader of this store, with the heads and the keys that verify it.
    #[must_use]
    pub fn new(
        store: Arc<dyn AuditStore>,
        heads: Arc<dyn AuditHeadStore>,
        signer: Arc<dyn AuditSigner>,
        runtime: &Runtime,
    ) -> Self {
        let Runtime { clock, counters, .. } = runtime.clone();
        Self { store, heads, signer, clock, counters, verifying: tokio::sync::Mutex::default() }
    }

    /// Returns a page of the events of all chains.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn list_all(
        &self,
        _authorized: &Authorized<ReadAudit, Gateway>,
        query: &AuditQuery,
    ) -> Result<AuditPage, BrokerError> {
        self.list(query, |_| true).await
    }

    /// Returns a page of the events whose resource is this application or a resource under it.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn list_of_application(
        &self,
        authorized: &Authorized<ReadAudit, ApplicationId>,
        query: &AuditQuery,
    ) -> Result<AuditPage, BrokerError> {
        let application = format!("applications/{}", authorized.resource());
        let concerns = |event: &AuditEvent| {
            let below = event.record.resource.strip_prefix(&application);
            below.is_some_and(|below| below.is_empty() || below.starts_with('/'))
        };
        self.list(query, concerns).await
    }

    /// Verifies all chains, and names the damaged places of files that were found since the start. Waits for a
    /// verification that already runs. Stops when the caller disconnects.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn verify(
        &self,
        _authorized: &Authorized<ReadAudit, Gateway>,
    ) -> Result<AuditVerification, BrokerError> {
        let _alone = self.verifying.lock().await;
        let verification = Verification::new(
            Arc::clone(&self.store),
            Arc::clone(&self.heads),
            Arc::clone(&self.signer),
        );
        let chains = verification.run(|_| ()).await?;
        Ok(AuditVerification { chains, damages: self.store.damaged_places() })
    }

    async fn list(
        &self,
        query: &AuditQuery,
        concerns: impl Fn(&AuditEvent) -> bool,
    ) -> Result<AuditPage, BrokerError> {
        let (from, to) = query.filter.time_bounds("time");
        let span = TimeSpan { from, to };
        let mut budget = ScanBudget::start(&*self.clock);
        let mut looked_at = query.after.clone();
        let mut events: Vec<AuditEvent> = Vec::new();
        // One more than the limit shows whether there is a next page.
        let wanted = query.limit.saturating_add(1);
        let mut step = wanted;
        loop {
            let limit = budget.next_batch_size(step);
            if limit == 0 {
                return Ok(AuditPage { events, next: looked_at });
            }
            let rows = u32::try_from(limit).unwrap_or(u32::MAX);
            let rows = self.store.newest_events(span, looked_at.as_ref(), rows).await?;
            let end = rows.len() < limit;
            budget.record_rows(rows.len());
            for chained in rows {
                let place = chained.position();
                if let Some(event) = self.read(&chained)
                    && concerns(&event)
                    && query.filter.matches(&event)
                {
                    if events.len() == query.limit {
                        return Ok(AuditPage { events, next: looked_at });
                    }
                    events.push(event);
                }
                looked_at = Some(place);
            }
            if end {
                return Ok(AuditPage { events, next: None });
            }
            step = BATCH_SIZE;
        }
    }

    /// Parses a row. An unreadable row is skipped so that the list still works; verification reports it.
    fn read(&self, ChainedRow { chain, row, .. }: &ChainedRow) -> Option<AuditEvent> {
        let event = AuditEvent::read(chain, row);
        if event.is_err() {
            self.counters.audit_unreadable.increment();
            let sequence = row.sequence;
            tracing::error!(%chain, sequence, "an audit event cannot be read; verify the audit trail");
        }
        event.ok()
    }
}
