//! Telling SuperOffice that grants are revoked. Here that holds at once; there, once it has been heard.

use std::time::Duration;

use super::{Impersonation, lease::EXCHANGE_TIME_OUT};
use crate::{
    broker::BrokerError,
    domain::{GrantEventKind, GrantName},
    ports::ExchangeError,
};

/// How often it is looked whether another process has revoked something.
const LOOK: Duration = Duration::from_mins(1);

/// What SuperOffice did not hear is told again after about so long, and after twice as long each time …
const FIRST_BACK_OFF: Duration = Duration::from_secs(2);
/// … up to this.
const LAST_BACK_OFF: Duration = Duration::from_mins(5);

/// Grants that are read at a time.
const BATCH: u32 = 100;

impl Impersonation {
    /// Tells SuperOffice of revoked grants, each until it was heard; until it is dropped.
    pub async fn tell_revocations(&self) {
        let mut back_off = FIRST_BACK_OFF;
        loop {
            let all_heard = self.tell_pending().await.unwrap_or(false);
            let wait = if all_heard {
                back_off = FIRST_BACK_OFF;
                LOOK
            } else {
                let wait = self.refresher.random.jitter(back_off);
                back_off = (back_off * 2).min(LAST_BACK_OFF);
                wait
            };
            tokio::select! {
                () = self.refresher.to_revoke.notified() => {}
                () = self.refresher.clock.sleep(wait) => {}
            }
        }
    }

    /// One round. Whether all was heard.
    pub(super) async fn tell_pending(&self) -> Result<bool, BrokerError> {
        let (mut after, mut all) = (None, true);
        loop {
            let pending = self.refresher.grants.pending_revocations(after.as_ref(), BATCH).await?;
            for name in &pending {
                if let Err(error) = self.revoke_upstream(name).await {
                    all = false;
                    let cause = error.cause().unwrap_or_default();
                    tracing::warn!(grant = %name, cause, "SuperOffice was not told that a grant is revoked");
                }
            }
            after = pending.last().cloned();
            if pending.len() < BATCH as usize {
                return Ok(all);
            }
        }
    }

    /// Tells SuperOffice of one grant that is revoked here; of any other it tells nothing.
    ///
    /// # Errors
    /// If it was not heard: the background goes on trying.
    pub async fn revoke_upstream(&self, name: &GrantName) -> Result<(), BrokerError> {
        let refresher = &self.refresher;
        let application = refresher.applications.get(&name.tenant.application)?;
        let Some(stored) = refresher.grants.token_to_revoke(name).await? else { return Ok(()) };
        let revoked = tokio::select! {
            biased;
            revoked = application.oauth.revoke(&stored.token) => revoked,
            () = refresher.leases.pace.sleep(EXCHANGE_TIME_OUT) => {
                Err(ExchangeError::Transient("revocation timed out".to_owned()))
            }
        };
        revoked.map_err(|error| BrokerError::UpstreamInvalid(error.to_string().into()))?;
        if let Some(grant) = refresher.grants.revoked_upstream(name, stored.version).await? {
            let grant = refresher.known.learn(grant);
            refresher.feed.tell(&grant, GrantEventKind::Revoked, refresher.clock.now());
        }
        Ok(())
    }
}
