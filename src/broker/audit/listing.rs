//! What the audit trail holds: lists of events, and whether they are whole.

use std::sync::Arc;

use super::Verification;
use crate::{
    access::{Authorized, Gateway, ReadAudit},
    broker::{
        BrokerError, Counters,
        looking::{BATCH, Looking},
    },
    domain::{ApplicationId, AuditChainReport, AuditEvent, Filter},
    ports::{AuditPosition, AuditSigner, AuditStore, ChainedRow, Clock, TimeSpan},
};

/// Which events a page may have.
#[derive(Debug, Clone)]
pub struct AuditQuery {
    /// What they must match.
    pub filter: Filter,
    /// Where the page before ended.
    pub after: Option<AuditPosition>,
    /// At most so many.
    pub limit: usize,
}

/// A page of events, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditPage {
    /// The events: maybe none, though there is a next page.
    pub events: Vec<AuditEvent>,
    /// Where the next page begins, if there is one.
    pub next: Option<AuditPosition>,
}

/// Reads the audit trail. Readers never wait for the writer, nor the writer for them.
pub struct AuditLog {
    store: Arc<dyn AuditStore>,
    signer: Arc<dyn AuditSigner>,
    clock: Arc<dyn Clock>,
    counters: Arc<Counters>,
    /// One verification at a time: each reads everything.
    verifying: tokio::sync::Mutex<()>,
}

impl AuditLog {
    /// Over a store, with the keys that verify what is in it.
    #[must_use]
    pub fn new(
        store: Arc<dyn AuditStore>,
        signer: Arc<dyn AuditSigner>,
        clock: Arc<dyn Clock>,
        counters: Arc<Counters>,
    ) -> Self {
        Self { store, signer, clock, counters, verifying: tokio::sync::Mutex::default() }
    }

    /// A page of the events of all chains.
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

    /// A page of the events whose resource is an application, or under it.
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

    /// Verifies all chains. Waits for a verification that runs already; ends where the caller goes away.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn verify(
        &self,
        _authorized: &Authorized<ReadAudit, Gateway>,
    ) -> Result<Vec<AuditChainReport>, BrokerError> {
        let _alone = self.verifying.lock().await;
        let verification = Verification::new(Arc::clone(&self.store), Arc::clone(&self.signer));
        Ok(verification.run(|_| ()).await?)
    }

    async fn list(
        &self,
        query: &AuditQuery,
        concerns: impl Fn(&AuditEvent) -> bool,
    ) -> Result<AuditPage, BrokerError> {
        let (from, to) = query.filter.time_bounds("time");
        let span = TimeSpan { from, to };
        let mut looking = Looking::begin(&*self.clock);
        let mut looked_at = query.after.clone();
        let mut events: Vec<AuditEvent> = Vec::new();
        // One more than asked for tells whether there is a next page.
        let wanted = query.limit.saturating_add(1);
        let mut step = wanted;
        loop {
            let limit = looking.batch(step);
            if limit == 0 {
                return Ok(AuditPage { events, next: looked_at });
            }
            let rows = u32::try_from(limit).unwrap_or(u32::MAX);
            let rows = self.store.newest_events(span, looked_at.as_ref(), rows).await?;
            let end = rows.len() < limit;
            looking.looked_at(rows.len());
            for chained in rows {
                let place = position(&chained);
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
            step = BATCH;
        }
    }

    /// What cannot be read is no reason to show nothing: verification names it.
    fn read(&self, ChainedRow { chain, row }: &ChainedRow) -> Option<AuditEvent> {
        let event = AuditEvent::read(chain, row);
        if event.is_err() {
            self.counters.audit_unreadable.increment();
            let sequence = row.sequence;
            tracing::error!(%chain, sequence, "an audit event cannot be read: verify the trail");
        }
        event.ok()
    }
}

fn position(ChainedRow { chain, row }: &ChainedRow) -> AuditPosition {
    AuditPosition { time: row.time, chain: Arc::clone(chain), sequence: row.sequence }
}
