//! `WatchGrants`: the existing grants, then their changes.

use std::{collections::VecDeque, sync::Arc};

use futures_util::{FutureExt as _, future::BoxFuture};

use super::{Services, convert, failure::Failure, layer::Context, pb, watch::Watch};
use crate::{
    broker::{AuthorizedGrantScope, GrantEvent, GrantEventReceiver},
    domain::{GrantName, GrantScope},
};

/// An open stream.
pub(super) struct GrantWatch {
    services: Arc<Services>,
    context: Arc<Context>,
    scope: GrantScope,
    feed: GrantEventReceiver,
    /// The existing grants that were read and are not sent yet.
    known: VecDeque<GrantEvent>,
    /// Whether the store has more existing grants.
    more: bool,
    /// The last grant that was read from the store.
    after: Option<GrantName>,
    resynced: bool,
}

impl GrantWatch {
    pub(super) fn new(services: Arc<Services>, context: Arc<Context>, scope: GrantScope) -> Self {
        let feed = services.impersonation.subscribe();
        let (known, more, after, resynced) = (VecDeque::new(), true, None, false);
        Self { services, context, scope, feed, known, more, after, resynced }
    }

    /// Checks policy again; with `read`, also reads the next existing grants.
    async fn authorize_and_read(&mut self, read: bool) -> Result<(), Failure> {
        let (services, context) = (&self.services, &self.context);
        let impersonation = &services.impersonation;
        let read = read && self.known.is_empty() && self.more;
        let found = match &self.scope {
            GrantScope::Application(id) => {
                let authorized = services.authorize(context, id.clone())?;
                let of = AuthorizedGrantScope::Application(&authorized);
                if read {
                    Some(impersonation.grants_for_resync(of, self.after.as_ref()).await?)
                } else {
                    None
                }
            }
            GrantScope::Tenant(name) => {
                let authorized = services.authorize(context, name.clone())?;
                let of = AuthorizedGrantScope::Tenant(&authorized);
                if read {
                    Some(impersonation.grants_for_resync(of, self.after.as_ref()).await?)
                } else {
                    None
                }
            }
        };
        if let Some((events, more)) = found {
            let last = events.last().and_then(|event| event.grant.as_ref());
            self.after = last.map(|grant| grant.name.clone());
            (self.known, self.more) = (events.into(), more);
        }
        Ok(())
    }

    /// Returns the next event, or `None` if all grants must be read again.
    async fn event(&mut self) -> Result<Option<GrantEvent>, Failure> {
        if let Some(known) = self.known.pop_front() {
            return Ok(Some(known));
        }
        if !std::mem::replace(&mut self.resynced, true) {
            return Ok(Some(self.services.impersonation.end_of_resync()));
        }
        loop {
            let event = self.feed.next().await.map_err(|_| Failure::WatchTooSlow)?;
            match &event.grant {
                Some(grant) if self.scope.contains(&grant.name) => return Ok(Some(event)),
                Some(_) => {}
                None => {
                    (self.more, self.after, self.resynced) = (true, None, false);
                    return Ok(None);
                }
            }
        }
    }
}

impl Watch for GrantWatch {
    type Message = pb::WatchGrantsResponse;

    fn open(&mut self) -> BoxFuture<'_, Result<(), Failure>> {
        async {
            self.authorize_and_read(true).await?;
            Ok(())
        }
        .boxed()
    }

    fn next(&mut self) -> BoxFuture<'_, Result<Self::Message, Failure>> {
        async {
            let event = loop {
                self.authorize_and_read(true).await?;
                if let Some(event) = self.event().await? {
                    break event;
                }
            };
            // Checked again, because time may have passed.
            self.authorize_and_read(false).await?;
            Ok(pb::WatchGrantsResponse { event: Some(convert::grant_event(&event)) })
        }
        .boxed()
    }
}
