//! Background work: renews access tokens in use, and retries broken grants.

use std::{sync::Arc, time::Duration};

use tokio::sync::broadcast::error::RecvError;

use super::{Impersonation, refresh::RefreshPurpose};
use crate::{
    broker::BrokerError,
    domain::{Grant, GrantName, GrantScope, GrantState, TenantName},
};

/// The interval between checks for due renewals and retries.
const CHECK_INTERVAL: Duration = Duration::from_secs(15);

/// The approximate delay before a failed renewal is retried. The current token stays in use meanwhile.
const RETRY_DELAY: Duration = Duration::from_mins(1);

/// The number of grants that are read at a time.
const BATCH_SIZE: u32 = 500;

impl Impersonation {
    /// Renews recently used tokens when they are due, and retries broken grants, for as long as it is polled.
    pub async fn run_renewals(&self) {
        let mut remembered = false;
        loop {
            if !remembered {
                // After a restart, broken grants get their retry schedules back.
                remembered = match self.restore_broken_grants().await {
                    Ok(()) => true,
                    Err(error) => {
                        tracing::warn!(cause = error.cause(), "broken grants cannot be read yet");
                        false
                    }
                };
            }
            self.refresher.clock.sleep(CHECK_INTERVAL).await;
            self.renew_due();
        }
    }

    /// Retries the broken grants of tenants that become usable again, for as long as it is polled.
    pub async fn run_retries_after_resume(&self) {
        let mut came_back = self.refresher.statuses.usable_again();
        loop {
            match came_back.recv().await {
                Ok(tenant) => {
                    if let Err(error) = self.retry_broken_grants(&tenant).await {
                        tracing::warn!(cause = error.cause(), %tenant, "the broken grants of the tenant cannot be read");
                    }
                }
                Err(RecvError::Lagged(missed)) => {
                    tracing::warn!(missed, "tenants resumed faster than their grants are probed");
                }
                // Only if `statuses` is dropped, which lives as long as this value.
                Err(RecvError::Closed) => return,
            }
        }
    }

    /// Retries the broken grants of a tenant at once, because the tenant is usable again.
    pub(super) async fn retry_broken_grants(&self, tenant: &TenantName) -> Result<(), BrokerError> {
        let scope = GrantScope::Tenant(tenant.clone());
        self.for_each_broken(&scope, |grant| {
            self.start_refresh(&grant.name, RefreshPurpose::RetryBroken);
        })
        .await
    }

    pub(super) fn renew_due(&self) {
        let refresher = &self.refresher;
        let now = refresher.clock.moment();
        let retry = || refresher.random.jitter(RETRY_DELAY);
        for name in refresher.token_cache.take_due(now, self.renew_if_used_within, retry) {
            // Requires more lifetime than the cached token has. Only a token that another replica stored can meet this.
            let life = refresher.token_cache.current(&name).map(|held| held.remaining(now.wall));
            let min_ttl = life.unwrap_or_default().saturating_add(Duration::from_secs(1));
            self.start_refresh(&name, RefreshPurpose::Token(min_ttl));
        }
        for name in refresher.broken_grants.take_due(now.monotonic) {
            self.start_refresh(&name, RefreshPurpose::RetryBroken);
        }
    }

    /// Starts a refresh in the background, which logs its own failure.
    fn start_refresh(&self, name: &GrantName, purpose: RefreshPurpose) {
        let (refresher, key) = (Arc::clone(&self.refresher), name.clone());
        let work = || async move {
            let tenant = refresher.directory.enabled(&key.tenant).await?;
            refresher.statuses.require_usable(&tenant).await?;
            let ended = Arc::clone(&refresher).refresh(key.clone(), purpose).await;
            // If the tenant is not usable, it is retried when the tenant resumes, see `run_retries_after_resume`.
            let is_temporary = matches!(
                ended,
                Err(BrokerError::UpstreamUnavailable { .. }
                    | BrokerError::UpstreamInvalid { .. }
                    | BrokerError::StoreUnavailable(_)
                    | BrokerError::StoreOutcomeUnknown(_))
            );
            if purpose == RefreshPurpose::RetryBroken && is_temporary {
                refresher.broken_grants.repeat_last_retry(&key);
            }
            ended
        };
        drop(self.refreshes.start(name.clone(), work));
    }

    pub(super) async fn restore_broken_grants(&self) -> Result<(), BrokerError> {
        let now = self.refresher.clock.moment();
        for application in self.refresher.applications.ids() {
            let scope = GrantScope::Application(application.clone());
            let found = |grant: &Grant| {
                if let Some(failure) = grant.last_failure {
                    self.refresher.broken_grants.restore(&grant.name, failure.time, now);
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
            let grants = self.refresher.grants.list(scope, after.as_ref(), BATCH_SIZE).await?;
            grants.iter().for_each(&mut each);
            match grants.last() {
                Some(last) if grants.len() == BATCH_SIZE as usize => {
                    after = Some(last.name.clone());
                }
                _ => return Ok(()),
            }
        }
    }
}
