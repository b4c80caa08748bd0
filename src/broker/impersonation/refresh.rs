//! Using a refresh token. The order of the steps guarantees that a failure between any two of them loses no token.

mod failure;

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::sync::Notify;

use super::{
    broken::BrokenGrants,
    feed::GrantEventSender,
    grant_cache::GrantCache,
    lease::{EXCHANGE_TIMEOUT, Leases, OwnedLease},
};
use crate::{
    broker::{
        Application, Applications, BrokerError, ConsentReason, Counters, Statuses, TenantDirectory,
        credential_cache::{BackOff, CredentialCache},
    },
    domain::{
        AccessToken, CredentialId, Grant, GrantEventKind, GrantName, GrantState, Reason,
        RefreshToken, TenantName,
    },
    ports::{
        Clock, ExchangeError, GrantStore, Random, RefreshOutcome, RefreshResponse, RotationOutcome,
        StoreError, StoredRefreshToken, VerifiedAccess, is_ahead,
    },
};

/// The back-off after transient errors.
const TRANSIENT_BACK_OFF: BackOff =
    BackOff { first: Duration::from_secs(1), max: Duration::from_mins(1) };

/// The back-off after errors that an administrator must fix.
const PERMANENT_BACK_OFF: BackOff =
    BackOff { first: Duration::from_mins(1), max: Duration::from_mins(15) };

/// The longest lifetime of an access token, whatever its `expires_in` says. The documented lifetime is one hour.
const MAX_TOKEN_LIFETIME: Duration = Duration::from_hours(24);

/// The purpose of a refresh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RefreshPurpose {
    /// To get an access token that is valid for at least this time.
    Token(Duration),
    /// To check whether a broken grant works again.
    RetryBroken,
}

/// The shared dependencies and state of all refreshes.
pub(super) struct Refresher {
    pub(super) applications: Arc<Applications>,
    pub(super) directory: Arc<TenantDirectory>,
    pub(super) statuses: Arc<Statuses>,
    pub(super) grants: Arc<dyn GrantStore>,
    pub(super) leases: Leases,
    pub(super) grant_cache: GrantCache,
    pub(super) token_cache: CredentialCache<GrantName, AccessToken>,
    pub(super) broken_grants: BrokenGrants,
    pub(super) events: GrantEventSender,
    /// Wakes the task that revokes tokens at SuperOffice.
    pub(super) to_revoke: Notify,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) random: Arc<dyn Random>,
    pub(super) counters: Arc<Counters>,
}

/// A refresh and its intent: the stored note that its refresh token is about to be sent. The outcome deletes it.
struct PendingRefresh<'a> {
    application: &'a Application,
    /// The grant, as read after the lease was acquired.
    grant: Arc<Grant>,
    /// The version of the grant's current refresh token.
    token_version: i64,
    /// The time of the request, which counts as the issue time of the access token.
    sent_at: Timestamp,
    owned_lease: &'a mut OwnedLease,
}

/// The reason why the response must be discarded.
enum RotationError {
    /// The grant was revoked or got another token, or another process took over its lease.
    Superseded,
    Failed(BrokerError),
}

impl Refresher {
    /// Caches an access token: the stored one or a new one. Also returns `Ok` if the grant has changed meanwhile:
    /// waiting callers then read it again.
    pub(super) async fn refresh(
        self: Arc<Self>,
        name: GrantName,
        purpose: RefreshPurpose,
    ) -> Result<(), BrokerError> {
        let application = Arc::clone(self.applications.get(&name.tenant.application)?);
        let Some(grant) = self.read_grant(&name).await? else { return Ok(()) };
        if !self.needs_exchange(&grant, purpose).await? {
            return Ok(());
        }
        let conditions = application.failure_conditions(&*self.clock);
        let failure = self.token_cache.cached_failure(&name, grant.token_version, &conditions);
        if let Some((error, wait)) = failure {
            return Err(error.with_retry_after(wait));
        }
        let retry_after = self.token_cache.replacement_delay(&name, self.clock.monotonic());
        if !retry_after.is_zero() {
            let cause = "the access token was replaced less than a minute ago, and the new one is rejected too".into();
            return Err(BrokerError::UpstreamUnavailable { retry_after, cause });
        }
        let mut owned_lease = self.leases.acquire(&name).await?;
        let ended = self.refresh_under_lease(&application, &name, purpose, &mut owned_lease).await;
        self.leases.release(owned_lease).await;
        if self.directory.is_stopped(&name.tenant).await {
            // The tenant was disabled during the refresh, so its token is not kept in memory.
            self.token_cache.forget(|other| *other == name);
        }
        ended
    }

    /// Reads the grant from the store.
    pub(super) async fn read_grant(
        &self,
        name: &GrantName,
    ) -> Result<Option<Arc<Grant>>, BrokerError> {
        self.grant_cache.reload(name).await
    }

    /// Returns the grants with this user principal name: the active ones, or all if none is active. A name may move
    /// from one person to another.
    pub(super) async fn find_by_user_principal_name(
        &self,
        tenant: &TenantName,
        name: &str,
    ) -> Result<Vec<Grant>, BrokerError> {
        let mut found = self.grants.find_by_user_principal_name(tenant, name).await?;
        if found.iter().any(|grant| grant.state == GrantState::Active) {
            found.retain(|grant| grant.state == GrantState::Active);
        }
        Ok(found)
    }

    /// Caches the stored token if it is usable. Returns whether an exchange is needed: there is no usable token, and
    /// the grant's state allows an exchange.
    async fn needs_exchange(
        &self,
        grant: &Grant,
        purpose: RefreshPurpose,
    ) -> Result<bool, BrokerError> {
        match (grant.state, purpose) {
            (GrantState::Active, RefreshPurpose::Token(min_ttl)) => {
                Ok(!self.load_stored_token(grant, min_ttl).await?)
            }
            (GrantState::ConsentRequired, RefreshPurpose::RetryBroken) => Ok(true),
            _ => Ok(false),
        }
    }

    /// Caches the stored access token if it is usable. An unreadable token is replaced and is not an error.
    async fn load_stored_token(
        &self,
        grant: &Grant,
        min_ttl: Duration,
    ) -> Result<bool, BrokerError> {
        let stored = match self.grants.access_token(&grant.name).await {
            Err(error @ (StoreError::Corrupt(_) | StoreError::Seal(_))) => {
                tracing::error!(%error, grant = %grant.name, "the stored access token cannot be read; it will be replaced");
                None
            }
            other => other?,
        };
        let now = self.clock.now();
        let is_usable = |token: &AccessToken| {
            let remaining = token.remaining(now);
            // A token with an issue time in the future or a too long lifetime was stored while a clock was wrong, so
            // its real expiry is unknown.
            !is_ahead(token.issue_time, Duration::ZERO, now)
                && !is_ahead(token.expire_time, MAX_TOKEN_LIFETIME, now)
                && !grant.identity_unconfirmed
                && !self.token_cache.is_dead(&grant.name, &token.credential_id)
                && token.token_version == grant.token_version
                && !remaining.is_zero()
                && remaining >= min_ttl
        };
        let Some(token) = stored.filter(is_usable) else { return Ok(false) };
        self.cache_token(&grant.name, token);
        Ok(true)
    }

    async fn refresh_under_lease(
        &self,
        application: &Application,
        name: &GrantName,
        purpose: RefreshPurpose,
        owned_lease: &mut OwnedLease,
    ) -> Result<(), BrokerError> {
        // Reads everything again: a token that was read before the wait for the lease is never used.
        let Some(grant) = self.read_grant(name).await? else { return Ok(()) };
        if !self.needs_exchange(&grant, purpose).await? {
            return Ok(());
        }
        let Some(stored) = self.grants.refresh_token(name).await? else {
            self.grant_cache.forget(name);
            return Ok(());
        };
        let mut pending = PendingRefresh {
            application,
            grant,
            token_version: stored.version,
            sent_at: self.clock.now(),
            owned_lease,
        };
        if !self.record_intent(&mut pending, &stored).await? {
            self.grant_cache.forget(name);
            return Ok(());
        }
        pending.sent_at = self.clock.now();
        let answer = tokio::select! {
            biased;
            answer = application.oauth.refresh(&stored.token) => answer,
            () = self.leases.timer.sleep(EXCHANGE_TIMEOUT) => {
                Err(ExchangeError::Transient(format!("not within {EXCHANGE_TIMEOUT:?}")))
            }
        };
        match answer {
            Ok(refreshed) => self.store_response(pending, refreshed).await,
            Err(error) => self.handle_exchange_error(pending, error).await,
        }
    }

    /// Stores the intent, which proves that the store is writable before the token is used. Returns `false` if nothing
    /// may be sent.
    async fn record_intent(
        &self,
        pending: &mut PendingRefresh<'_>,
        stored: &StoredRefreshToken,
    ) -> Result<bool, BrokerError> {
        let (name, lease) = (&pending.grant.name, &pending.owned_lease.lease);
        let now = self.clock.now();
        let intended = match stored.intent {
            Some(orphan) if orphan.fence != lease.fence && orphan.retried => {
                tracing::error!(grant = %name, "a refresh token was used twice, both times with an unknown outcome");
                let why =
                    BrokerError::ConsentRequired(name.tenant.clone(), ConsentReason::NoLongerWorks);
                return self.mark_broken(pending, why).await.map(|()| false);
            }
            Some(orphan) if orphan.fence != lease.fence => {
                let taken_over = self.grants.retry_orphaned_intent(name, lease, now).await?;
                if taken_over {
                    self.counters.retried_after_crash.increment();
                    tracing::warn!(grant = %name, since = %orphan.time, "using a refresh token again: the outcome of its first use is unknown");
                }
                taken_over
            }
            _ => self.grants.record_intent(name, lease, stored.version, now).await?,
        };
        if !intended {
            return Ok(false);
        }
        match self.leases.outlasts_exchange(pending.owned_lease).await {
            Ok(true) => Ok(true),
            // The token is not sent, so the intent is cleared. If that fails, the intent becomes an orphan.
            outlasts => {
                let (name, lease) = (&pending.grant.name, &pending.owned_lease.lease);
                let outcome = RefreshOutcome::Failed { reason: Reason::StoreUnavailable };
                let _ =
                    self.grants.record_outcome(name, lease, stored.version, &outcome, now).await;
                outlasts
            }
        }
    }

    /// Processes a response: stores the new refresh token before it verifies the rest.
    async fn store_response(
        &self,
        mut pending: PendingRefresh<'_>,
        refreshed: RefreshResponse,
    ) -> Result<(), BrokerError> {
        let pending_refresh = &mut pending;
        let stored = refreshed.after_storing(|rotated| async move {
            match rotated {
                Some(token) => self.store_rotated(pending_refresh, &token).await,
                None => Ok(()),
            }
        });
        let access = match stored.await {
            Ok(Ok(access)) => access,
            Ok(Err(error)) => {
                let error = BrokerError::from_upstream(&pending.grant.name.tenant, &error);
                return self.finish_failure(pending, error, self.transient_back_off(), 1).await;
            }
            Err(RotationError::Superseded) => {
                self.grant_cache.forget(&pending.grant.name);
                return Ok(());
            }
            Err(RotationError::Failed(error)) => return Err(error),
        };
        let (grant, identity) = (&pending.grant, &access.identity);
        if identity.tenant != grant.name.tenant.tenant
            || identity.associate_id != grant.associate_id
        {
            tracing::error!(grant = %grant.name, "SuperOffice returned a token of another person or tenant");
            let why = BrokerError::SubjectMismatch(grant.name.tenant.clone());
            return self.mark_broken(&mut pending, why).await;
        }
        self.finish_success(pending, access).await
    }

    /// Stores a rotated refresh token, with retries: the old token may be invalid, and only memory has the new one.
    async fn store_rotated(
        &self,
        pending: &mut PendingRefresh<'_>,
        token: &RefreshToken,
    ) -> Result<(), RotationError> {
        let (name, version) = (pending.grant.name.clone(), pending.token_version);
        let lease = pending.owned_lease.lease.clone();
        let write = || self.grants.store_rotated_token(&name, &lease, version, token.secret());
        match self.retry_write(pending.owned_lease, write).await.map_err(RotationError::Failed)? {
            RotationOutcome::Stored(version) => {
                pending.token_version = version;
                Ok(())
            }
            RotationOutcome::ToBeRevoked => {
                self.to_revoke.notify_one();
                Err(RotationError::Superseded)
            }
            RotationOutcome::Discarded => {
                tracing::warn!(grant = %name, "a rotated refresh token is not stored: the grant has changed or the lease is lost");
                // Revoked only if the grant is deleted. Otherwise the grant may hold another token of the same family,
                // and SuperOffice would revoke that one too.
                if matches!(self.grants.get(&name).await, Ok(None))
                    && let Err(error) = pending.application.oauth.revoke(token.secret()).await
                {
                    tracing::warn!(%error, grant = %name, "the refresh token of a deleted grant could not be revoked and stays valid at SuperOffice");
                }
                Err(RotationError::Superseded)
            }
        }
    }

    async fn finish_success(
        &self,
        pending: PendingRefresh<'_>,
        access: VerifiedAccess,
    ) -> Result<(), BrokerError> {
        let PendingRefresh { application, grant, token_version: version, sent_at, owned_lease } =
            pending;
        let name = &grant.name;
        let access_token = AccessToken {
            value: access.access_token,
            credential_id: CredentialId::of_access_token(&name.grant, self.random.bytes()),
            issue_time: sent_at,
            expire_time: sent_at
                .saturating_add(access.expires_in.min(MAX_TOKEN_LIFETIME))
                .unwrap_or(sent_at),
            token_version: version,
        };
        let outcome = RefreshOutcome::Refreshed {
            access_token: access_token.clone(),
            user_principal_name: access.identity.user_principal_name,
            full_name: access.identity.full_name,
        };
        let now = self.clock.now();
        let lease = owned_lease.lease.clone();
        let write = || self.grants.record_outcome(name, &lease, version, &outcome, now);
        let Some(grant) = self.retry_write(owned_lease, write).await? else {
            self.grant_cache.forget(name);
            return Ok(());
        };
        self.counters.refreshes.increment();
        application.history.record_success(sent_at, self.clock.monotonic());
        self.broken_grants.remove(name);
        let grant = self.grant_cache.record(grant);
        self.cache_token(name, access_token);
        self.events.send(&grant, GrantEventKind::Refreshed, now);
        Ok(())
    }

    /// Marks the grant as broken: only a new consent or a successful retry repairs it. Returns `error`, or `Ok` if the
    /// grant has changed meanwhile.
    async fn mark_broken(
        &self,
        pending: &mut PendingRefresh<'_>,
        error: BrokerError,
    ) -> Result<(), BrokerError> {
        let (name, version) = (pending.grant.name.clone(), pending.token_version);
        let (outcome, now) =
            (RefreshOutcome::ConsentRequired { reason: error.reason() }, self.clock.now());
        let lease = pending.owned_lease.lease.clone();
        let write = || self.grants.record_outcome(&name, &lease, version, &outcome, now);
        let Some(grant) = self.retry_write(pending.owned_lease, write).await? else {
            self.grant_cache.forget(&name);
            return Ok(());
        };
        let grant = self.grant_cache.record(grant);
        self.token_cache.forget(|other| *other == name);
        self.broken_grants.insert(&name, self.clock.monotonic());
        if pending.grant.state == GrantState::Active {
            self.counters.grants_broken.increment();
            self.events.send(&grant, GrantEventKind::Broken, now);
            self.directory.changes().notify(&name.tenant);
        }
        Err(error)
    }
}
