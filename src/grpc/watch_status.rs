//! `WatchTenantStatus`: the tenant statuses that the gateway reads.

use std::{collections::VecDeque, sync::Arc};

use futures_util::{FutureExt as _, future::BoxFuture};

use super::{
    context::CallContext, convert, failure::Failure, handler_dependencies::HandlerDependencies, pb,
    watch::Watch,
};
use crate::{
    access::{Authorized, Gateway, ReadTenants},
    broker::{Applications, StatusEvent, StatusFeed, Statuses},
    domain::{ApplicationId, TenantName},
};

/// The tenants of a stream.
#[derive(Debug, Clone)]
pub(super) enum WatchScope {
    All,
    Application(ApplicationId),
    Tenant(TenantName),
}

/// An open stream.
pub(super) struct StatusWatch {
    common: Arc<HandlerDependencies>,
    applications: Arc<Applications>,
    statuses: Arc<Statuses>,
    context: Arc<CallContext>,
    scope: WatchScope,
    feed: StatusFeed,
    /// The statuses that were known at the start and are not sent yet.
    known: VecDeque<StatusEvent>,
}

impl StatusWatch {
    pub(super) fn new(
        common: Arc<HandlerDependencies>,
        applications: Arc<Applications>,
        statuses: Arc<Statuses>,
        context: Arc<CallContext>,
        scope: WatchScope,
    ) -> Self {
        let feed = statuses.feed();
        Self { common, applications, statuses, context, scope, feed, known: VecDeque::new() }
    }

    fn authorize(&self) -> Result<(), Failure> {
        let (common, context) = (&self.common, &self.context);
        match &self.scope {
            WatchScope::All => {
                let _: Authorized<ReadTenants, _> = common.authorize(context, Gateway)?;
            }
            WatchScope::Application(id) => {
                let _: Authorized<ReadTenants, _> = common.authorize(context, id.clone())?;
            }
            WatchScope::Tenant(name) => {
                let _: Authorized<ReadTenants, _> = common.authorize(context, name.clone())?;
            }
        }
        Ok(())
    }

    fn includes(&self, name: &TenantName) -> bool {
        match &self.scope {
            WatchScope::All => true,
            WatchScope::Application(id) => *id == name.application,
            WatchScope::Tenant(tenant) => tenant == name,
        }
    }

    /// Loads the known statuses. For a single tenant, first reads its current status.
    async fn load_known(&mut self) -> Result<(), Failure> {
        let statuses = &self.statuses;
        match &self.scope {
            WatchScope::Application(id) => self.applications.check(id)?,
            WatchScope::All => {}
            WatchScope::Tenant(name) => {
                let authorized = self.common.authorize(&self.context, name.clone())?;
                statuses.get(&authorized, None).await?;
            }
        }
        // Subscribed before the known statuses are read: a new status may be sent twice, but is never missed.
        self.feed = statuses.feed();
        self.known = statuses.all_known().into_iter().filter(|(n, _)| self.includes(n)).collect();
        Ok(())
    }

    async fn event(&mut self) -> Result<StatusEvent, Failure> {
        if let Some(known) = self.known.pop_front() {
            return Ok(known);
        }
        loop {
            let event = self.feed.next().await.map_err(|_| Failure::WatchTooSlow)?;
            if self.includes(&event.0) {
                return Ok(event);
            }
        }
    }
}

impl Watch for StatusWatch {
    type Message = pb::WatchTenantStatusResponse;

    fn open(&mut self) -> BoxFuture<'_, Result<(), Failure>> {
        async {
            self.authorize()?;
            self.load_known().await
        }
        .boxed()
    }

    fn next(&mut self) -> BoxFuture<'_, Result<Self::Message, Failure>> {
        async {
            let (name, status) = self.event().await?;
            self.authorize()?;
            let status = convert::tenant_status(&name, &status);
            Ok(pb::WatchTenantStatusResponse { status: Some(status) })
        }
        .boxed()
    }
}
