//! `WatchSystemTicket`: the ticket now, and the next before it expires.

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt as _, future::BoxFuture};

use super::{Services, convert, failure::Failure, layer::Context, pb, watch::Watch};
use crate::{
    access::{Authorized, IssueSystemTicket, RevealApplicationToken},
    broker::{HandedOutTicket, TenantChanges},
    domain::TenantName,
};

/// One open stream.
pub(super) struct TicketWatch {
    services: Arc<Services>,
    context: Arc<Context>,
    tenant: TenantName,
    reveal: bool,
    /// The decision that began the stream: that of the first message.
    begun: Option<Authorized<IssueSystemTicket, TenantName>>,
    changes: TenantChanges,
    sent: Option<HandedOutTicket>,
    /// The first message, had before the call was answered.
    first: Option<HandedOutTicket>,
}

impl TicketWatch {
    pub(super) fn new(
        services: Arc<Services>,
        context: Arc<Context>,
        begun: Authorized<IssueSystemTicket, TenantName>,
        reveal: bool,
    ) -> Self {
        let tenant = begun.resource().clone();
        // Before the first look: what changes after it is not missed.
        let changes = services.tickets.changes(&tenant);
        let begun = Some(begun);
        Self { services, context, tenant, reveal, begun, changes, sent: None, first: None }
    }

    async fn ticket(&mut self) -> Result<HandedOutTicket, Failure> {
        let authorized: Authorized<IssueSystemTicket, _> = match self.begun.take() {
            Some(begun) => begun,
            None => self.services.authorize(&self.context, self.tenant.clone())?,
        };
        let reveal: Option<Authorized<RevealApplicationToken, _>> = self
            .reveal
            .then(|| self.services.authorize(&self.context, self.tenant.clone()))
            .transpose()?;
        let ticket =
            self.services.tickets.issue(&authorized, Duration::ZERO, reveal.as_ref()).await?;
        self.context.notes.credential(&ticket.ticket.credential_id);
        Ok(ticket)
    }
}

impl Watch for TicketWatch {
    type Message = pb::WatchSystemTicketResponse;

    fn open(&mut self) -> BoxFuture<'_, Result<(), Failure>> {
        async {
            self.first = Some(self.ticket().await?);
            Ok(())
        }
        .boxed()
    }

    fn next(&mut self) -> BoxFuture<'_, Result<Self::Message, Failure>> {
        async {
            loop {
                if self.sent.is_some() {
                    self.changes.wait().await;
                }
                let ticket = match self.first.take() {
                    Some(first) => first,
                    None => self.ticket().await?,
                };
                if !self.sent.as_ref().is_some_and(|sent| sent.same_as(&ticket)) {
                    let message = convert::ticket(&ticket);
                    self.sent = Some(ticket);
                    return Ok(pb::WatchSystemTicketResponse { ticket: Some(message) });
                }
                // Looked and handed out nothing: no event, and nothing to remember until there is one.
                self.context.notes.forget();
            }
        }
        .boxed()
    }
}
