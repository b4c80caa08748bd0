//! Acting as a person, by the refresh token that one left with us (DESIGN section 7, "Refresh tokens").
//!
//! A cached access token is handed out without waiting for anybody. A miss starts one refresh, which belongs to the
//! gateway; all who ask meanwhile wait for it, and a lease sees to it that there is one for the whole fleet. Tokens in
//! use are renewed in the background well before they expire.

mod broken;
mod feed;
mod keeping;
mod known;
mod lease;
mod managing;
mod refresh;
mod rejected;
mod renewal;
mod revocation;

use std::{sync::Arc, time::Duration};

use tokio::sync::Notify;
use tokio_util::task::TaskTracker;

use self::{
    broken::Broken,
    feed::Feed,
    known::KnownGrants,
    lease::Leases,
    refresh::{Purpose, Refresher},
};
pub use self::{
    feed::{GrantEvent, GrantFeed},
    managing::{GrantPage, GrantsOf},
};
use super::{
    Applications, BrokerError, Counters, Directory, Statuses, TenantChanges, WhyConsent,
    credentials::Credentials, error::RETRY_SOON, flights::Flights, tickets::no_uri,
};
use crate::{
    access::{Authorized, GrantResource, IssueAccessToken},
    domain::{
        AccessToken, AssociateId, AssociateType, CredentialId, Grant, GrantName, GrantState,
        Subject, Tenant, TenantName, TenantStatus, WebApiUri,
    },
    ports::{Clock, GrantStore, LeaseStore, Random},
};

/// A call goes round again when what it waited for was overtaken. More often than this is not bad luck but a fault.
const MAX_ROUNDS: usize = 3;

/// How long an access token lives as documented (SUPEROFFICE.md 4.2). Each says for itself how long it does.
const LIFE: Duration = Duration::from_hours(1);

/// The stores that grants need.
#[derive(Clone)]
pub struct GrantStores {
    /// Keeps grants and their tokens.
    pub grants: Arc<dyn GrantStore>,
    /// Lets one refresh at a time.
    pub leases: Arc<dyn LeaseStore>,
}

/// Of what kind an associate is, if that is known without asking SuperOffice.
pub type KindOf = Box<dyn Fn(&TenantName, AssociateId) -> Option<AssociateType> + Send + Sync>;

/// An access token for a caller, with all that it needs to use it.
#[derive(Debug, Clone)]
pub struct HandedOutAccessToken {
    /// Whose it is.
    pub grant: Arc<Grant>,
    /// The token.
    pub token: Arc<AccessToken>,
    /// Where the tenant's Web API is now.
    pub web_api_uri: WebApiUri,
}

impl HandedOutAccessToken {
    /// Whether it would tell a caller nothing new.
    #[must_use]
    pub fn same_as(&self, other: &Self) -> bool {
        self.token.credential_id == other.token.credential_id
            && self.web_api_uri == other.web_api_uri
    }
}

/// The use cases of grants and their access tokens.
pub struct Impersonation {
    refresher: Arc<Refresher>,
    refreshes: Flights<GrantName, Result<(), BrokerError>>,
    probes: Flights<(GrantName, CredentialId), Result<(), BrokerError>>,
    changes: Flights<GrantName, Result<Arc<Grant>, BrokerError>>,
    renew_if_used_within: Duration,
    kind_of: KindOf,
}

impl Impersonation {
    /// Nothing cached yet. `pace` is the clock by which leases are measured and time-outs waited for.
    #[must_use]
    #[expect(
        clippy::too_many_arguments,
        reason = "wiring: every collaborator is named once, in app"
    )]
    pub fn new(
        applications: Arc<Applications>,
        directory: Arc<Directory>,
        statuses: Arc<Statuses>,
        stores: GrantStores,
        clock: Arc<dyn Clock>,
        pace: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        counters: Arc<Counters>,
        renew_if_used_within: Duration,
        kind_of: KindOf,
        tasks: TaskTracker,
    ) -> Self {
        let leases = Leases {
            store: stores.leases,
            clock: Arc::clone(&clock),
            pace,
            owner: format!("{:032x}", u128::from_be_bytes(random.bytes())),
            random: Arc::clone(&random),
        };
        let refresher = Refresher {
            applications,
            directory,
            statuses,
            known: KnownGrants::new(Arc::clone(&stores.grants)),
            grants: stores.grants,
            leases,
            cache: Credentials::default(),
            broken: Broken::default(),
            feed: Feed::new(),
            to_revoke: Notify::new(),
            clock,
            random,
            counters,
        };
        Self {
            refresher: Arc::new(refresher),
            refreshes: Flights::new(tasks.clone()),
            probes: Flights::new(tasks.clone()),
            changes: Flights::new(tasks),
            renew_if_used_within,
            kind_of,
        }
    }

    /// Who is meant: the grant, or what was asked for where there is none or more than one. What this tells is for
    /// deciding whether the caller may know it.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn find(
        &self,
        tenant: &TenantName,
        subject: &Subject,
    ) -> Result<GrantResource, BrokerError> {
        let refresher = &self.refresher;
        let grant = match subject {
            Subject::Associate(id) => refresher.known.find(tenant, *id).await?,
            Subject::UserPrincipalName(name) => {
                let mut found = refresher.named(tenant, name).await?;
                if found.len() == 1 { found.pop().map(Arc::new) } else { None }
            }
            Subject::Grant(name) if name.tenant == *tenant => {
                match refresher.directory.get(tenant).await {
                    Ok(tenant) => refresher.known.get(&tenant, name).await?,
                    Err(BrokerError::TenantNotFound(_)) => None,
                    Err(error) => return Err(error),
                }
            }
            Subject::Grant(_) => None,
        };
        let absent = || GrantResource::absent(tenant, subject);
        Ok(grant.map_or_else(absent, |grant| GrantResource::of(&grant)))
    }

    /// Hands out the person's access token, which lives at least `min_ttl` more. `None` if SuperOffice calls the person
    /// otherwise by now than it was decided on: then it is to be found and decided anew.
    ///
    /// # Errors
    /// Everything in CONTRACT section 4 that can stand between a tenant and one of its people.
    pub async fn issue(
        &self,
        authorized: &Authorized<IssueAccessToken, GrantResource>,
        min_ttl: Duration,
    ) -> Result<Option<HandedOutAccessToken>, BrokerError> {
        let resource = authorized.resource();
        if min_ttl > self.longest_min_ttl() {
            return Err(too_long(self.longest_min_ttl()));
        }
        self.refresher.applications.check(&resource.tenant.application)?;
        match resource.name() {
            Some(name) => {
                let token = self.token(&name, min_ttl).await?;
                let same = resource.is_of(&token.grant);
                Ok(same.then_some(token))
            }
            None => Err(self.nobody(resource).await?),
        }
    }

    /// The longest `min_ttl` that can be asked for: more than half of a token's life would ask for a new one at
    /// almost every call.
    #[must_use]
    pub fn longest_min_ttl(&self) -> Duration {
        LIFE / 2
    }

    /// Tells when something about the people of a tenant may have changed.
    #[must_use]
    pub fn changes(&self, tenant: &TenantName) -> TenantChanges {
        let clock = Arc::clone(&self.refresher.clock);
        self.refresher.directory.changes().watch(tenant, clock)
    }

    /// How many access tokens are cached.
    #[must_use]
    pub fn cached(&self) -> usize {
        self.refresher.cache.len()
    }

    /// Looks again at every grant before its next use, and lets watches begin anew: another process changed the store.
    pub fn forget_all(&self) {
        self.refresher.known.forget_all();
        self.refresher.feed.look_again(self.refresher.clock.now());
    }

    /// The tenant was stopped or removed.
    pub(super) fn forget_tenant(&self, name: &TenantName) {
        self.refresher.cache.forget(|grant| grant.tenant == *name);
        self.refresher.known.forget_tenant(name);
    }

    /// Tenants of whose people an access token, a refusal or a grant is known.
    pub(super) fn tenants(&self) -> Vec<TenantName> {
        let grants = self.refresher.cache.names().into_iter().map(|grant| grant.tenant);
        grants.chain(self.refresher.known.tenants()).collect()
    }

    /// The customer's database went back to a backup: each grant is proven again before its next use.
    ///
    /// # Errors
    /// If the store does not answer; then nothing may be believed yet.
    pub async fn doubt(&self, tenant: &TenantName) -> Result<(), BrokerError> {
        let doubted = self.refresher.grants.doubt_all(tenant).await;
        self.refresher.known.forget_all();
        self.refresher.cache.forget(|name| name.tenant == *tenant);
        self.refresher.directory.changes().tell(tenant);
        // Not within the macro, which evaluates nothing where its level is off.
        let grants = doubted?;
        tracing::info!(%tenant, grants, "grants are proven again before their next use");
        Ok(())
    }

    /// The person's token, whose it is and where it can be used.
    pub(super) async fn token(
        &self,
        name: &GrantName,
        min_ttl: Duration,
    ) -> Result<HandedOutAccessToken, BrokerError> {
        let refresher = &self.refresher;
        let mut waited = false;
        for _ in 0..MAX_ROUNDS {
            let (tenant, status) = self.usable(&name.tenant).await?;
            let grant = self.active(&tenant, name).await?;
            // SuperOffice may give out tokens that live for less than is documented.
            if let Some(held) = refresher.cache.held(name) {
                let life = held.expire_time.duration_since(held.issue_time).unsigned_abs();
                if min_ttl > life / 2 {
                    return Err(too_long(life / 2));
                }
            }
            let now = refresher.clock.moment();
            let token = refresher.cache.hand_out(name, grant.token_version, min_ttl, now);
            if let Some(token) = token.filter(|_| !grant.unproven) {
                if !waited {
                    refresher.counters.access_token_hits.increment();
                }
                let web_api_uri = status.web_api_uri.clone();
                let web_api_uri = web_api_uri.ok_or_else(|| no_uri(&name.tenant))?;
                return Ok(HandedOutAccessToken { grant, token, web_api_uri });
            }
            if !waited {
                refresher.counters.access_token_misses.increment();
                waited = true;
            }
            let work = || Arc::clone(refresher).run(name.clone(), Purpose::Token(min_ttl));
            let landed = self.refreshes.join(name.clone(), work).await;
            landed.unwrap_or_else(|crash| Err(BrokerError::Internal(crash.to_string().into())))?;
        }
        let cause = "the token was overtaken again and again while it was waited for".into();
        Err(BrokerError::UpstreamUnavailable { retry_after: RETRY_SOON, cause })
    }

    /// Whether we would hand out the person's token at all.
    pub(super) async fn permitted(&self, name: &GrantName) -> Result<Arc<Tenant>, BrokerError> {
        let tenant = self.refresher.directory.enabled(&name.tenant).await?;
        self.active(&tenant, name).await?;
        Ok(tenant)
    }

    /// The tenant, if its people can be acted for now.
    async fn usable(
        &self,
        name: &TenantName,
    ) -> Result<(Arc<Tenant>, Arc<TenantStatus>), BrokerError> {
        let tenant = self.refresher.directory.enabled(name).await?;
        let status = self.refresher.statuses.usable(&tenant).await?;
        // Again, after whatever was waited for: the emergency stop and a removal hold at once.
        Ok((self.refresher.directory.enabled(name).await?, status))
    }

    async fn active(&self, tenant: &Tenant, name: &GrantName) -> Result<Arc<Grant>, BrokerError> {
        let grant = self.refresher.known.get(tenant, name).await?;
        let grant = grant.ok_or_else(|| BrokerError::GrantNotFound(name.to_string()))?;
        let why = match grant.state {
            GrantState::Active => return Ok(grant),
            GrantState::ConsentRequired => WhyConsent::NoLongerWorks,
            GrantState::Revoked => WhyConsent::Revoked,
        };
        Err(BrokerError::ConsentRequired(name.tenant.clone(), why))
    }

    /// Why there is no one grant for what was asked: for who may know it.
    ///
    /// # Errors
    /// If that cannot be found out.
    pub async fn nobody(&self, asked: &GrantResource) -> Result<BrokerError, BrokerError> {
        let tenant = &asked.tenant;
        self.refresher.directory.enabled(tenant).await?;
        match asked.subject() {
            Some(Subject::UserPrincipalName(name)) => {
                let found = self.refresher.named(tenant, &name).await?.len();
                if found > 1 {
                    return Ok(BrokerError::GrantAmbiguous(tenant.clone(), found));
                }
            }
            Some(Subject::Associate(id)) => {
                if let Some(kind) = (self.kind_of)(tenant, id)
                    && !kind.capabilities().sign_in
                {
                    return Ok(BrokerError::CannotSignIn(tenant.clone(), kind));
                }
            }
            Some(Subject::Grant(_)) | None => {}
        }
        Ok(BrokerError::ConsentRequired(tenant.clone(), WhyConsent::NotGiven))
    }
}

fn too_long(longest: Duration) -> BrokerError {
    let problem = format!("at most {} s, half of a token's life", longest.as_secs());
    BrokerError::Invalid { field: "min_ttl", problem }
}

#[cfg(test)]
pub(super) mod fakes;
#[cfg(test)]
mod tests;
