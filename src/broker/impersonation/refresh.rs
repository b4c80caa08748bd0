//! Spending a refresh token: each step in the order that loses none, whatever fails between two of them (DESIGN
//! section 7, "Refresh tokens").

mod failing;

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::sync::Notify;

use super::{
    broken::Broken,
    feed::Feed,
    known::KnownGrants,
    lease::{EXCHANGE_TIME_OUT, Holding, Leases},
};
use crate::{
    broker::{
        Application, Applications, BrokerError, Counters, Directory, Statuses, WhyConsent,
        credentials::{BackOff, Credentials},
    },
    domain::{
        AccessToken, CredentialId, Grant, GrantEventKind, GrantName, GrantState, Reason,
        RefreshToken, TenantName,
    },
    ports::{
        Access, Clock, ExchangeError, GrantStore, Random, RefreshOutcome, Refreshed, Rotation,
        StoreError, StoredRefreshToken, is_ahead,
    },
};

/// What may pass is tried again after about so long, and after twice as long each time.
const PASSING: BackOff = BackOff { first: Duration::from_secs(1), last: Duration::from_mins(1) };

/// What somebody has to mend.
const LASTING: BackOff = BackOff { first: Duration::from_mins(1), last: Duration::from_mins(15) };

/// No access token is used for longer, whatever its `expires_in` says. As documented it lives for an hour.
const LONGEST_LIFE: Duration = Duration::from_hours(24);

/// Why a refresh token is spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// For an access token that lives at least so long.
    Token(Duration),
    /// To find out whether a broken grant works again.
    Probe,
}

/// What refreshes work with; shared by all of them.
pub(super) struct Refresher {
    pub(super) applications: Arc<Applications>,
    pub(super) directory: Arc<Directory>,
    pub(super) statuses: Arc<Statuses>,
    pub(super) grants: Arc<dyn GrantStore>,
    pub(super) leases: Leases,
    pub(super) known: KnownGrants,
    pub(super) cache: Credentials<GrantName, AccessToken>,
    pub(super) broken: Broken,
    pub(super) feed: Feed,
    /// Wakes who tells SuperOffice of revocations.
    pub(super) to_revoke: Notify,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) random: Arc<dyn Random>,
    pub(super) counters: Arc<Counters>,
}

/// One refresh, from the intent on.
struct Spending<'a> {
    application: &'a Application,
    /// As it was when the lease was taken.
    grant: Arc<Grant>,
    /// Of the token that the grant has now.
    version: i64,
    /// When it was sent: the new token's life may begin then.
    sent: Timestamp,
    holding: &'a mut Holding,
}

/// Nothing may be made of the answer.
enum NotKept {
    /// The grant was revoked, given another token, or taken over by somebody.
    Overtaken,
    Failed(BrokerError),
}

impl Refresher {
    /// Brings an access token into memory, the stored one or a new one. `Ok` also where the grant is another one by
    /// now: whoever waited looks again.
    pub(super) async fn run(
        self: Arc<Self>,
        name: GrantName,
        purpose: Purpose,
    ) -> Result<(), BrokerError> {
        let application = Arc::clone(self.applications.get(&name.tenant.application)?);
        let Some(grant) = self.read(&name).await? else { return Ok(()) };
        if self.is_done(&grant, purpose).await? {
            return Ok(());
        }
        let circumstances = application.circumstances(&*self.clock);
        let refusal = self.cache.standing_refusal(&name, grant.token_version, &circumstances);
        if let Some((error, wait)) = refusal {
            return Err(error.after(wait));
        }
        let retry_after = self.cache.wait_before_replacing(&name, self.clock.monotonic());
        if !retry_after.is_zero() {
            let cause = "a token was replaced less than a minute ago and is dead again".into();
            return Err(BrokerError::UpstreamUnavailable { retry_after, cause });
        }
        let mut holding = self.leases.hold(&name).await?;
        let ended = self.under_lease(&application, &name, purpose, &mut holding).await;
        self.leases.release(holding).await;
        if self.directory.is_stopped(&name.tenant).await {
            // Since the refresh began: nothing of it stays in memory.
            self.cache.forget(|other| *other == name);
        }
        ended
    }

    /// The grant as the store has it.
    pub(super) async fn read(&self, name: &GrantName) -> Result<Option<Arc<Grant>>, BrokerError> {
        self.known.read_again(name).await
    }

    /// Who goes by this name: those who can be acted for, and others only where there is none of them. A name goes
    /// from one person to another.
    pub(super) async fn named(
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

    /// Whether nothing is to be spent: somebody else has done it, or it can come to nothing.
    async fn is_done(&self, grant: &Grant, purpose: Purpose) -> Result<bool, BrokerError> {
        match (grant.state, purpose) {
            (GrantState::Active, Purpose::Token(min_ttl)) => self.take_stored(grant, min_ttl).await,
            (GrantState::ConsentRequired, Purpose::Probe) => Ok(false),
            _ => Ok(true),
        }
    }

    /// Takes the stored token into memory if it is of use. One that cannot be read is replaced, not fatal.
    async fn take_stored(&self, grant: &Grant, min_ttl: Duration) -> Result<bool, BrokerError> {
        let stored = match self.grants.access_token(&grant.name).await {
            Err(error @ (StoreError::Corrupt(_) | StoreError::Seal(_))) => {
                tracing::error!(%error, grant = %grant.name, "stored access token not readable; it will be replaced");
                None
            }
            other => other?,
        };
        let now = self.clock.now();
        let of_use = |token: &AccessToken| {
            let remaining = token.remaining(now);
            // What seems to be issued in the future, or to live for longer than any token, was stored while a clock was
            // wrong: when it ends nobody knows.
            !is_ahead(token.issue_time, Duration::ZERO, now)
                && !is_ahead(token.expire_time, LONGEST_LIFE, now)
                && !grant.unproven
                && !self.cache.is_dead(&grant.name, &token.credential_id)
                && token.token_version == grant.token_version
                && !remaining.is_zero()
                && remaining >= min_ttl
        };
        let Some(token) = stored.filter(of_use) else { return Ok(false) };
        self.take_in(&grant.name, token);
        Ok(true)
    }

    async fn under_lease(
        &self,
        application: &Application,
        name: &GrantName,
        purpose: Purpose,
        holding: &mut Holding,
    ) -> Result<(), BrokerError> {
        // All of it again: what was read before the lease was waited for is never spent.
        let Some(grant) = self.read(name).await? else { return Ok(()) };
        if self.is_done(&grant, purpose).await? {
            return Ok(());
        }
        let Some(stored) = self.grants.refresh_token(name).await? else {
            self.known.forget(name);
            return Ok(());
        };
        let (version, sent) = (stored.version, self.clock.now());
        let mut spending = Spending { application, grant, version, sent, holding };
        if !self.intend(&mut spending, &stored).await? {
            self.known.forget(name);
            return Ok(());
        }
        spending.sent = self.clock.now();
        let answer = tokio::select! {
            biased;
            answer = application.oauth.refresh(&stored.token) => answer,
            () = self.leases.pace.sleep(EXCHANGE_TIME_OUT) => {
                Err(ExchangeError::Transient(format!("not within {EXCHANGE_TIME_OUT:?}")))
            }
        };
        match answer {
            Ok(refreshed) => self.keep(spending, refreshed).await,
            Err(error) => self.refused(spending, error).await,
        }
    }

    /// Proves that the store can be written, before anything is spent. `false` if nothing is to be sent.
    async fn intend(
        &self,
        spending: &mut Spending<'_>,
        stored: &StoredRefreshToken,
    ) -> Result<bool, BrokerError> {
        let (name, lease) = (&spending.grant.name, &spending.holding.lease);
        let now = self.clock.now();
        let intended = match stored.intent {
            Some(orphan) if orphan.fence != lease.fence && orphan.retried => {
                tracing::error!(grant = %name, "a refresh token was spent twice without anybody knowing how that ended");
                let why =
                    BrokerError::ConsentRequired(name.tenant.clone(), WhyConsent::NoLongerWorks);
                return self.broken(spending, why).await.map(|()| false);
            }
            Some(orphan) if orphan.fence != lease.fence => {
                let taken_over = self.grants.retry_orphan(name, lease, now).await?;
                if taken_over {
                    self.counters.retried_after_crash.increment();
                    tracing::warn!(grant = %name, since = %orphan.time, "a refresh token is spent once more: nobody knows how the first time ended");
                }
                taken_over
            }
            _ => self.grants.intend(name, lease, stored.version, now).await?,
        };
        if !intended {
            return Ok(false);
        }
        match self.leases.outlasts_exchange(spending.holding).await {
            Ok(true) => Ok(true),
            // Nothing is sent, so nobody has to wonder how that ended.
            outlasts => {
                let (name, lease) = (&spending.grant.name, &spending.holding.lease);
                let outcome = RefreshOutcome::Failed { reason: Reason::StoreUnavailable };
                let settled = self.grants.settle(name, lease, stored.version, &outcome, now).await;
                drop(settled);
                outlasts
            }
        }
    }

    /// An answer came: first a new refresh token is stored, then the rest is looked at.
    async fn keep(
        &self,
        mut spending: Spending<'_>,
        refreshed: Refreshed,
    ) -> Result<(), BrokerError> {
        let spent = &mut spending;
        let kept = refreshed.once_kept(|rotated| async move {
            match rotated {
                Some(token) => self.keep_rotated(spent, &token).await,
                None => Ok(()),
            }
        });
        let access = match kept.await {
            Ok(Ok(access)) => access,
            Ok(Err(error)) => {
                let error = BrokerError::from_upstream(&spending.grant.name.tenant, &error);
                return self.failed(spending, error, self.passing(), 1).await;
            }
            Err(NotKept::Overtaken) => {
                self.known.forget(&spending.grant.name);
                return Ok(());
            }
            Err(NotKept::Failed(error)) => return Err(error),
        };
        let (grant, identity) = (&spending.grant, &access.identity);
        if identity.tenant != grant.name.tenant.tenant
            || identity.associate_id != grant.associate_id
        {
            tracing::error!(grant = %grant.name, "SuperOffice answers for another person or tenant");
            let why = BrokerError::SubjectMismatch(grant.name.tenant.clone());
            return self.broken(&mut spending, why).await;
        }
        self.succeeded(spending, access).await
    }

    /// The old token may be dead, and the new one is in memory only: much is tried before that is given up.
    async fn keep_rotated(
        &self,
        spending: &mut Spending<'_>,
        token: &RefreshToken,
    ) -> Result<(), NotKept> {
        let (name, version) = (spending.grant.name.clone(), spending.version);
        let lease = spending.holding.lease.clone();
        let write = || self.grants.keep_rotated(&name, &lease, version, token.secret());
        match self.insist(spending.holding, write).await.map_err(NotKept::Failed)? {
            Rotation::Kept(version) => {
                spending.version = version;
                Ok(())
            }
            Rotation::ToBeRevoked => {
                self.to_revoke.notify_one();
                Err(NotKept::Overtaken)
            }
            Rotation::TooLate => {
                tracing::warn!(grant = %name, "a rotated refresh token came too late and is not kept");
                // Else the grant may live on by a token of the same family, which that would kill.
                if matches!(self.grants.get(&name).await, Ok(None))
                    && let Err(error) = spending.application.oauth.revoke(token.secret()).await
                {
                    tracing::warn!(%error, grant = %name, "the refresh token of a deleted grant lives on at SuperOffice");
                }
                Err(NotKept::Overtaken)
            }
        }
    }

    async fn succeeded(&self, spending: Spending<'_>, access: Access) -> Result<(), BrokerError> {
        let Spending { application, grant, version, sent, holding } = spending;
        let name = &grant.name;
        let access_token = AccessToken {
            value: access.access_token,
            credential_id: CredentialId::of_access_token(&name.grant, self.random.bytes()),
            issue_time: sent,
            expire_time: sent.saturating_add(access.expires_in.min(LONGEST_LIFE)).unwrap_or(sent),
            token_version: version,
        };
        let outcome = RefreshOutcome::Refreshed {
            access_token: access_token.clone(),
            user_principal_name: access.identity.user_principal_name,
            full_name: access.identity.full_name,
        };
        let now = self.clock.now();
        let lease = holding.lease.clone();
        let write = || self.grants.settle(name, &lease, version, &outcome, now);
        let Some(grant) = self.insist(holding, write).await? else {
            self.known.forget(name);
            return Ok(());
        };
        self.counters.refreshes.increment();
        application.history.succeeded(sent, self.clock.monotonic());
        self.broken.mended(name);
        let grant = self.known.learn(grant);
        self.take_in(name, access_token);
        self.feed.tell(&grant, GrantEventKind::Refreshed, now);
        Ok(())
    }

    /// Only a new consent helps.
    async fn broken(
        &self,
        spending: &mut Spending<'_>,
        error: BrokerError,
    ) -> Result<(), BrokerError> {
        let (name, version) = (spending.grant.name.clone(), spending.version);
        let (outcome, now) = (RefreshOutcome::Broken { reason: error.reason() }, self.clock.now());
        let lease = spending.holding.lease.clone();
        let write = || self.grants.settle(&name, &lease, version, &outcome, now);
        let Some(grant) = self.insist(spending.holding, write).await? else {
            self.known.forget(&name);
            return Ok(());
        };
        let grant = self.known.learn(grant);
        self.cache.forget(|other| *other == name);
        self.broken.found(&name, self.clock.monotonic());
        if spending.grant.state == GrantState::Active {
            self.counters.grants_broken.increment();
            self.feed.tell(&grant, GrantEventKind::Broken, now);
            self.directory.changes().tell(&name.tenant);
        }
        Err(error)
    }
}
