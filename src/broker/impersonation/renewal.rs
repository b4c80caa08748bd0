//! What the background does: renews access tokens that are in use, and tries broken grants again.

use std::{sync::Arc, time::Duration};

use tokio::sync::broadcast::error::RecvError;

use super::{Impersonation, refresh::Purpose};
use crate::{
    broker::BrokerError,
    domain::{Grant, GrantName, GrantScope, GrantState, TenantName},
};

/// How often the background looks.
const LOOK: Duration = Duration::from_secs(15);

/// A renewal that failed is tried again after about this long; the present token goes on meanwhile.
const RETRY: Duration = Duration::from_mins(1);

/// Grants that are read at a time.
const BATCH: u32 = 500;

impl Impersonation {
    /// Renews what is due and was used lately, and tries broken grants again, until it is dropped.
    pub async fn keep_fresh(&self) {
        let mut remembered = false;
        loop {
            if !remembered {
                // After a restart: who waited for the next try still waits for it.
                remembered = match self.remember_broken().await {
                    Ok(()) => true,
                    Err(error) => {
                        tracing::warn!(cause = error.cause(), "broken grants cannot be read yet");
                        false
                    }
                };
            }
            self.refresher.clock.sleep(LOOK).await;
            self.renew_due();
        }
    }

    /// Tries the broken grants of tenants that can be used again, until it is dropped.
    pub async fn follow_resumed(&self) {
        let mut came_back = self.refresher.statuses.came_back();
        loop {
            match came_back.recv().await {
                Ok(tenant) => {
                    if let Err(error) = self.resumed(&tenant).await {
                        tracing::warn!(cause = error.cause(), %tenant, "its broken grants cannot be read");
                    }
                }
                Err(RecvError::Lagged(missed)) => {
                    tracing::warn!(missed, "tenants came back faster than their grants are tried");
                }
                // The statuses live as long as we do.
                Err(RecvError::Closed) => return,
            }
        }
    }

    /// The tenant can be used again: its broken grants are tried at once.
    pub(super) async fn resumed(&self, tenant: &TenantName) -> Result<(), BrokerError> {
        let scope = GrantScope::Tenant(tenant.clone());
        self.for_each_broken(&scope, |grant| self.begin(&grant.name, Purpose::Probe)).await
    }

    pub(super) fn renew_due(&self) {
        let refresher = &self.refresher;
        let now = refresher.clock.moment();
        let retry = || refresher.random.jitter(RETRY);
        for name in refresher.cache.due(now, self.renew_if_used_within, retry) {
            // One that lives longer than what is due was renewed by another replica.
            let life = refresher.cache.held(&name).map(|held| held.remaining(now.wall));
            let min_ttl = life.unwrap_or_default().saturating_add(Duration::from_secs(1));
            self.begin(&name, Purpose::Token(min_ttl));
        }
        for name in refresher.broken.due(now.monotonic) {
            self.begin(&name, Purpose::Probe);
        }
    }

    /// Not waited for: the flight belongs to the task tracker, and logs its own failure.
    fn begin(&self, name: &GrantName, purpose: Purpose) {
        let (refresher, key) = (Arc::clone(&self.refresher), name.clone());
        let work = || async move {
            let tenant = refresher.directory.enabled(&key.tenant).await?;
            refresher.statuses.usable(&tenant).await?;
            let ended = Arc::clone(&refresher).run(key.clone(), purpose).await;
            // Where the tenant is to blame it is tried again once that is over, see `follow_resumed`.
            let passing = matches!(
                ended,
                Err(BrokerError::UpstreamUnavailable { .. }
                    | BrokerError::UpstreamInvalid(_)
                    | BrokerError::StoreUnavailable(_)
                    | BrokerError::StoreOutcomeUnknown(_))
            );
            if purpose == Purpose::Probe && passing {
                refresher.broken.not_found_out(&key);
            }
            ended
        };
        drop(self.refreshes.begin(name.clone(), work));
    }

    pub(super) async fn remember_broken(&self) -> Result<(), BrokerError> {
        let now = self.refresher.clock.moment();
        for application in self.refresher.applications.ids() {
            let scope = GrantScope::Application(application.clone());
            let found = |grant: &Grant| {
                if let Some(failure) = grant.last_failure {
                    self.refresher.broken.remembered(&grant.name, failure.time, now);
                }
            };
            self.for_each_broken(&scope, found).await?;
        }
        Ok(())
    }

    async fn for_each_broken(
        &self,
        scope: &GrantScope,
        each: impl Fn(&Grant),
    ) -> Result<(), BrokerError> {
        let if_broken = |grant: &Grant| {
            if grant.state == GrantState::ConsentRequired {
                each(grant);
            }
        };
        self.for_each(scope, if_broken).await
    }

    pub(super) async fn for_each(
        &self,
        scope: &GrantScope,
        mut each: impl FnMut(&Grant),
    ) -> Result<(), BrokerError> {
        let mut after = None;
        loop {
            let grants = self.refresher.grants.list(scope, after.as_ref(), BATCH).await?;
            grants.iter().for_each(&mut each);
            match grants.last() {
                Some(last) if grants.len() == BATCH as usize => after = Some(last.name.clone()),
                _ => return Ok(()),
            }
        }
    }
}
