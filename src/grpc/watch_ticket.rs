//! `WatchSystemTicket`: the current ticket, then each new one before it expires.

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt as _, future::BoxFuture};

use super::{
    context::CallContext, convert, failure::Failure, handler_dependencies::HandlerDependencies, pb,
    watch::Watch,
};
use crate::{
    access::{Authorized, IssueSystemTicket, RevealApplicationToken},
    broker::{IssuedSystemTicket, TenantChanges, Tickets},
    domain::TenantName,
};

/// An open stream.
pub(super) struct TicketWatch {
    common: Arc<HandlerDependencies>,
    tickets: Arc<Tickets>,
    context: Arc<CallContext>,
    tenant: TenantName,
    reveal: bool,
    /// The policy decision of the call, which is used for the first message.
    initial_decision: Option<Authorized<IssueSystemTicket, TenantName>>,
    changes: TenantChanges,
    sent: Option<IssuedSystemTicket>,
    /// The ticket of the first message, read before the call was answered.
    first: Option<IssuedSystemTicket>,
}

impl TicketWatch {
    pub(super) fn new(
        common: Arc<HandlerDependencies>,
        tickets: Arc<Tickets>,
        context: Arc<CallContext>,
        initial_decision: Authorized<IssueSystemTicket, TenantName>,
        reveal: bool,
    ) -> Self {
        let tenant = initial_decision.resource().clone();
        // Subscribed before the first read, so that no change is missed.
        let changes = tickets.changes(&tenant);
        let initial_decision = Some(initial_decision);
        Self {
            common,
            tickets,
            context,
            tenant,
            reveal,
            initial_decision,
            changes,
            sent: None,
            first: None,
        }
    }

    async fn ticket(&mut self) -> Result<IssuedSystemTicket, Failure> {
        let authorized: Authorized<IssueSystemTicket, _> = match self.initial_decision.take() {
            Some(decision) => decision,
            None => self.common.authorize(&self.context, self.tenant.clone())?,
        };
        let reveal: Option<Authorized<RevealApplicationToken, _>> = self
            .reveal
            .then(|| self.common.authorize(&self.context, self.tenant.clone()))
            .transpose()?;
        let ticket = self.tickets.issue(&authorized, Duration::ZERO, reveal.as_ref()).await?;
        self.context.notes.set_credential(&ticket.ticket.credential_id);
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
                // The ticket is unchanged and not sent, so there is no audit event.
                self.context.notes.discard();
            }
        }
        .boxed()
    }
}
