//! `WatchGrants`: the grants that there are, then what happens to them.

use std::{collections::VecDeque, sync::Arc};

use futures_util::{FutureExt as _, future::BoxFuture};

use super::{Services, convert, failure::Failure, layer::Context, pb, watch::Watch};
use crate::{
    broker::{GrantEvent, GrantFeed, GrantsOf},
    domain::{GrantName, GrantScope},
};

/// One open stream.
pub(super) struct GrantWatch {
    services: Arc<Services>,
    context: Arc<Context>,
    scope: GrantScope,
    feed: GrantFeed,
    /// What is known already, sent first.
    known: VecDeque<GrantEvent>,
    /// Whether there is more of it in the store.
    more: bool,
    /// Behind which that begins.
    after: Option<GrantName>,
    resynced: bool,
}

impl GrantWatch {
    pub(super) fn new(services: Arc<Services>, context: Arc<Context>, scope: GrantScope) -> Self {
        let feed = services.impersonation.feed();
        let (known, more, after, resynced) = (VecDeque::new(), true, None, false);
        Self { services, context, scope, feed, known, more, after, resynced }
    }

    /// Decides anew; with `read`, also reads some of the grants that there are.
    async fn look(&mut self, read: bool) -> Result<(), Failure> {
        let (services, context) = (&self.services, &self.context);
        let impersonation = &services.impersonation;
        let read = read && self.known.is_empty() && self.more;
        let found = match &self.scope {
            GrantScope::Application(id) => {
                let authorized = services.authorize(context, id.clone())?;
                let of = GrantsOf::Application(&authorized);
                if read { Some(impersonation.some(of, self.after.as_ref()).await?) } else { None }
            }
            GrantScope::Tenant(name) => {
                let authorized = services.authorize(context, name.clone())?;
                let of = GrantsOf::Tenant(&authorized);
                if read { Some(impersonation.some(of, self.after.as_ref()).await?) } else { None }
            }
        };
        if let Some((events, more)) = found {
            let last = events.last().and_then(|event| event.grant.as_ref());
            self.after = last.map(|grant| grant.name.clone());
            (self.known, self.more) = (events.into(), more);
        }
        Ok(())
    }

    /// The next event. `None` if everything is to be read again.
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
            self.look(true).await?;
            Ok(())
        }
        .boxed()
    }

    fn next(&mut self) -> BoxFuture<'_, Result<Self::Message, Failure>> {
        async {
            let event = loop {
                self.look(true).await?;
                if let Some(event) = self.event().await? {
                    break event;
                }
            };
            // Again, after whatever was waited for.
            self.look(false).await?;
            Ok(pb::WatchGrantsResponse { event: Some(convert::grant_event(&event)) })
        }
        .boxed()
    }
}
