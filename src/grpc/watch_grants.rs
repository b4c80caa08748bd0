//! `WatchGrants`: the existing grants, then their changes.

use std::{collections::VecDeque, sync::Arc};

use futures_util::{FutureExt as _, future::BoxFuture};

use super::{
    context::CallContext, convert, failure::Failure, handler_dependencies::HandlerDependencies, pb,
    watch::Watch,
};
use crate::{
    broker::{AuthorizedGrantScope, GrantEvent, GrantEventReceiver, Impersonation},
    domain::{GrantName, GrantScope},
};

/// An open stream.
pub(super) struct GrantWatch {
    common: Arc<HandlerDependencies>,
    impersonation: Arc<Impersonation>,
    context: Arc<CallContext>,
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
    pub(super) fn new(
        common: Arc<HandlerDependencies>,
        impersonation: Arc<Impersonation>,
        context: Arc<CallContext>,
        scope: GrantScope,
    ) -> Self {
        let feed = impersonation.subscribe();
        let (known, more, after, resynced) = (VecDeque::new(), true, None, false);
        Self { common, impersonation, context, scope, feed, known, more, after, resynced }
    }

    /// Checks policy again; with `read`, also reads the next existing grants.
    async fn authorize_and_read(&mut self, read: bool) -> Result<(), Failure> {
        let (common, context) = (&self.common, &self.context);
        let (impersonation, after) = (&self.impersonation, self.after.as_ref());
        let read = read && self.known.is_empty() && self.more;
        let found = match &self.scope {
            GrantScope::Application(id) => {
                let authorized = common.authorize(context, id.clone())?;
                let scope = AuthorizedGrantScope::Application(&authorized);
                read_if(read, impersonation, scope, after).await?
            }
            GrantScope::Tenant(name) => {
                let authorized = common.authorize(context, name.clone())?;
                let scope = AuthorizedGrantScope::Tenant(&authorized);
                read_if(read, impersonation, scope, after).await?
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
            return Ok(Some(self.impersonation.end_of_resync()));
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

/// Reads the next existing grants, and whether there are more, if `read` is set.
async fn read_if(
    read: bool,
    impersonation: &Impersonation,
    scope: AuthorizedGrantScope<'_>,
    after: Option<&GrantName>,
) -> Result<Option<(Vec<GrantEvent>, bool)>, Failure> {
    if !read {
        return Ok(None);
    }
    Ok(Some(impersonation.grants_for_resync(scope, after).await?))
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
