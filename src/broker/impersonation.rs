//! Acting as a person, with the refresh token of the person's grant.
//!
//! A cached access token is issued at once. A cache miss starts one refresh, which continues if the caller disconnects;
//! concurrent callers wait for the same refresh, and a lease allows one refresh of a grant in the whole fleet. Tokens
//! in use are renewed in the background well before they expire.

mod broken;
mod feed;
mod grant_cache;
mod lease;
mod management;
mod persistence;
mod refresh;
mod rejected;
mod renewal;
mod revocation;

use std::{sync::Arc, time::Duration};

use tokio::sync::Notify;

use self::{
    broken::BrokenGrants,
    feed::GrantEventSender,
    grant_cache::GrantCache,
    lease::Leases,
    refresh::{RefreshPurpose, Refresher},
};
pub use self::{
    feed::{GrantEvent, GrantEventReceiver},
    management::{AuthorizedGrantScope, GrantPage},
};
use super::{
    Applications, BrokerError, ConsentReason, Runtime, Statuses, TenantChanges, TenantDirectory,
    credential_cache::CredentialCache, error::RETRY_SOON, single_flight::SingleFlight,
    tickets::missing_web_api_uri,
};
use crate::{
    access::{Authorized, GrantResource, IssueAccessToken},
    domain::{
        AccessToken, AssociateId, AssociateType, CredentialId, Grant, GrantName, GrantState,
        PersonSelector, Tenant, TenantName, TenantStatus, WebApiUri,
    },
    ports::{GrantStore, LeaseStore},
};

/// The most attempts of a call: it tries again if the grant changed while it waited. More conflicts indicate a bug.
const MAX_ATTEMPTS: usize = 3;

/// The documented lifetime of an access token. The response for each token gives its real lifetime.
const ACCESS_TOKEN_LIFETIME: Duration = Duration::from_hours(1);

/// The minimum remaining lifetime of an access token.
#[derive(Debug, Clone, Copy)]
pub(super) enum MinTtl {
    /// The minimum that a caller requests. More than half of the token's lifetime is an error.
    Requested(Duration),
    /// The minimum of the gateway's own calls. Half of the token's lifetime is enough.
    Preferred(Duration),
}

impl MinTtl {
    /// Returns the minimum for a token of this lifetime, or of the documented one if there is no token yet.
    fn for_lifetime(self, lifetime: Option<Duration>) -> Result<Duration, BrokerError> {
        let longest = lifetime.unwrap_or(ACCESS_TOKEN_LIFETIME) / 2;
        match self {
            Self::Requested(min_ttl) if min_ttl > longest => Err(min_ttl_too_long(longest)),
            Self::Requested(min_ttl) => Ok(min_ttl),
            Self::Preferred(min_ttl) => Ok(min_ttl.min(longest)),
        }
    }
}

/// The stores that grants need.
#[derive(Clone)]
pub struct GrantStores {
    /// Stores grants and their tokens.
    pub grants: Arc<dyn GrantStore>,
    /// Stores the leases that allow one refresh of a grant at a time.
    pub leases: Arc<dyn LeaseStore>,
}

/// Returns the type of an associate, if it is known without a call to SuperOffice.
pub type AssociateTypeLookup =
    Box<dyn Fn(&TenantName, AssociateId) -> Option<AssociateType> + Send + Sync>;

/// An access token for a caller, with everything that the caller needs to use it.
#[derive(Debug, Clone)]
pub struct IssuedAccessToken {
    /// The grant of the token.
    pub grant: Arc<Grant>,
    /// The token.
    pub token: Arc<AccessToken>,
    /// The current URI of the tenant's Web API.
    pub web_api_uri: WebApiUri,
}

impl IssuedAccessToken {
    /// Returns whether both have the same token and URI, so that a watch need not send it again.
    #[must_use]
    pub fn same_as(&self, other: &Self) -> bool {
        self.token.credential_id == other.token.credential_id
            && self.web_api_uri == other.web_api_uri
    }
}

/// The use cases of grants and their access tokens.
pub struct Impersonation {
    refresher: Arc<Refresher>,
    refreshes: SingleFlight<GrantName, Result<(), BrokerError>>,
    token_checks: SingleFlight<(GrantName, CredentialId), Result<(), BrokerError>>,
    grant_writes: SingleFlight<GrantName, Result<Arc<Grant>, BrokerError>>,
    renew_if_used_within: Duration,
    associate_type_of: AssociateTypeLookup,
}

impl Impersonation {
    /// Creates the use cases with empty caches.
    #[must_use]
    pub fn new(
        applications: Arc<Applications>,
        directory: Arc<TenantDirectory>,
        statuses: Arc<Statuses>,
        stores: GrantStores,
        renew_if_used_within: Duration,
        associate_type_of: AssociateTypeLookup,
        runtime: &Runtime,
    ) -> Self {
        let Runtime { clock, timer, random, counters, tasks, .. } = runtime.clone();
        let leases = Leases {
            store: stores.leases,
            clock: Arc::clone(&clock),
            timer,
            owner: format!("{:032x}", u128::from_be_bytes(random.bytes())),
            random: Arc::clone(&random),
        };
        let refresher = Refresher {
            applications,
            directory,
            statuses,
            grant_cache: GrantCache::new(Arc::clone(&stores.grants)),
            grants: stores.grants,
            leases,
            token_cache: CredentialCache::default(),
            broken_grants: BrokenGrants::default(),
            events: GrantEventSender::new(),
            to_revoke: Notify::new(),
            clock,
            random,
            counters,
        };
        Self {
            refresher: Arc::new(refresher),
            refreshes: SingleFlight::new(tasks.clone()),
            token_checks: SingleFlight::new(tasks.clone()),
            grant_writes: SingleFlight::new(tasks),
            renew_if_used_within,
            associate_type_of,
        }
    }

    /// Finds the grant of `person` as a resource for the policy decision. If there is not exactly one grant, the
    /// resource describes the requested person. The result must not be returned to the caller before that decision.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn find(
        &self,
        tenant: &TenantName,
        person: &PersonSelector,
    ) -> Result<GrantResource, BrokerError> {
        let refresher = &self.refresher;
        let grant = match person {
            PersonSelector::Associate(id) => refresher.grant_cache.find(tenant, *id).await?,
            PersonSelector::UserPrincipalName(name) => {
                let mut found = refresher.find_by_user_principal_name(tenant, name).await?;
                if found.len() == 1 { found.pop().map(Arc::new) } else { None }
            }
            PersonSelector::Grant(grant) => match refresher.directory.get(tenant).await {
                Ok(found) => {
                    let name = GrantName { tenant: tenant.clone(), grant: grant.clone() };
                    refresher.grant_cache.get(&found, &name).await?
                }
                Err(BrokerError::TenantNotFound(_)) => None,
                Err(error) => return Err(error),
            },
        };
        let absent = || GrantResource::requested(tenant, person);
        Ok(grant.map_or_else(absent, |grant| GrantResource::from_grant(&grant)))
    }

    /// Issues the person's access token, valid for at least `min_ttl`. Returns `None` if the user principal name
    /// changed since the policy decision: then the caller must find the grant and decide again.
    ///
    /// # Errors
    /// If the tenant or grant is not usable, or no token can be obtained.
    pub async fn issue(
        &self,
        authorized: &Authorized<IssueAccessToken, GrantResource>,
        min_ttl: Duration,
    ) -> Result<Option<IssuedAccessToken>, BrokerError> {
        let resource = authorized.resource();
        if min_ttl > self.longest_min_ttl() {
            return Err(min_ttl_too_long(self.longest_min_ttl()));
        }
        self.refresher.applications.check(&resource.tenant.application)?;
        match resource.name() {
            Some(name) => {
                let token = self.access_token(&name, MinTtl::Requested(min_ttl)).await?;
                let same = resource.matches_grant(&token.grant);
                Ok(same.then_some(token))
            }
            None => Err(self.explain_missing_grant(resource).await?),
        }
    }

    /// Returns the longest `min_ttl` that is accepted: with more than half of a token's lifetime, almost every call
    /// would need a new token.
    #[must_use]
    pub fn longest_min_ttl(&self) -> Duration {
        ACCESS_TOKEN_LIFETIME / 2
    }

    /// Returns a watch that fires when a grant or access token of the tenant may have changed.
    #[must_use]
    pub fn changes(&self, tenant: &TenantName) -> TenantChanges {
        let clock = Arc::clone(&self.refresher.clock);
        self.refresher.directory.changes().subscribe(tenant, clock)
    }

    /// Returns the number of cache entries.
    #[must_use]
    pub fn cached_count(&self) -> usize {
        self.refresher.token_cache.len()
    }

    /// Drops all cached grants and restarts all watches, because another process changed the store.
    pub fn forget_all(&self) {
        self.refresher.grant_cache.forget_all();
        self.refresher.events.send_resync(self.refresher.clock.now());
    }

    /// Drops the cached data of a tenant.
    pub(super) fn forget_tenant(&self, name: &TenantName) {
        self.refresher.token_cache.forget(|grant| grant.tenant == *name);
        self.refresher.grant_cache.forget_tenant(name);
    }

    /// Returns the tenants of cached access tokens, errors and grants.
    pub(super) fn tenants(&self) -> Vec<TenantName> {
        let grants = self.refresher.token_cache.keys().into_iter().map(|grant| grant.tenant);
        grants.chain(self.refresher.grant_cache.tenants()).collect()
    }

    /// Marks all grants of a tenant as unconfirmed, because the customer's database was restored from a backup. Each
    /// grant is then verified by a refresh before its next use.
    ///
    /// # Errors
    /// If the store does not answer; then the caller must retry.
    pub async fn mark_all_unconfirmed(&self, tenant: &TenantName) -> Result<(), BrokerError> {
        let marked = self.refresher.grants.mark_all_unconfirmed(tenant).await;
        self.forget_tenant(tenant);
        self.refresher.directory.changes().notify(tenant);
        // Outside the macro, which evaluates nothing if its level is disabled.
        let grants = marked?;
        tracing::info!(%tenant, grants, "grants are verified again before their next use");
        Ok(())
    }

    /// Returns the access token of a grant, the grant and the URI of the Web API.
    pub(super) async fn access_token(
        &self,
        name: &GrantName,
        min_ttl: MinTtl,
    ) -> Result<IssuedAccessToken, BrokerError> {
        let refresher = &self.refresher;
        let mut waited = false;
        for _ in 0..MAX_ATTEMPTS {
            let (tenant, status) = self.usable_tenant(&name.tenant).await?;
            let grant = self.active_grant(&tenant, name).await?;
            // SuperOffice may issue tokens with a shorter lifetime than documented.
            let min_ttl = min_ttl.for_lifetime(refresher.token_cache.lifetime(name))?;
            let now = refresher.clock.moment();
            let token = refresher.token_cache.get_valid(name, grant.token_version, min_ttl, now);
            if let Some(token) = token.filter(|_| !grant.identity_unconfirmed) {
                if !waited {
                    refresher.counters.access_token_hits.increment();
                }
                let web_api_uri = status.web_api_uri.clone();
                let web_api_uri = web_api_uri.ok_or_else(|| missing_web_api_uri(&name.tenant))?;
                return Ok(IssuedAccessToken { grant, token, web_api_uri });
            }
            if !waited {
                refresher.counters.access_token_misses.increment();
                waited = true;
            }
            let work =
                || Arc::clone(refresher).refresh(name.clone(), RefreshPurpose::Token(min_ttl));
            let result = self.refreshes.join(name.clone(), work).await;
            result.unwrap_or_else(|crash| Err(BrokerError::Internal(crash.to_string().into())))?;
        }
        let cause = "the grant changed repeatedly while its token was requested".into();
        Err(BrokerError::UpstreamUnavailable { retry_after: RETRY_SOON, cause })
    }

    /// Returns the tenant if it is enabled and the grant is active.
    pub(super) async fn require_active_grant(
        &self,
        name: &GrantName,
    ) -> Result<Arc<Tenant>, BrokerError> {
        let tenant = self.refresher.directory.enabled(&name.tenant).await?;
        self.active_grant(&tenant, name).await?;
        Ok(tenant)
    }

    /// Returns the tenant and its status if both allow calls as a person now.
    async fn usable_tenant(
        &self,
        name: &TenantName,
    ) -> Result<(Arc<Tenant>, Arc<TenantStatus>), BrokerError> {
        let tenant = self.refresher.directory.enabled(name).await?;
        let status = self.refresher.statuses.require_usable(&tenant).await?;
        // Read again after the wait, so that disabling or deleting a tenant takes effect at once.
        Ok((self.refresher.directory.enabled(name).await?, status))
    }

    async fn active_grant(
        &self,
        tenant: &Tenant,
        name: &GrantName,
    ) -> Result<Arc<Grant>, BrokerError> {
        let grant = self.refresher.grant_cache.get(tenant, name).await?;
        let grant = grant.ok_or_else(|| BrokerError::GrantNotFound(name.to_string()))?;
        let why = match grant.state {
            GrantState::Active => return Ok(grant),
            GrantState::ConsentRequired => ConsentReason::NoLongerWorks,
            GrantState::Revoked => ConsentReason::Revoked,
        };
        Err(BrokerError::ConsentRequired(name.tenant.clone(), why))
    }

    /// Returns the error that explains why there is not exactly one grant. Only for callers that may know it.
    ///
    /// # Errors
    /// If the tenant is not enabled, or the store does not answer.
    pub async fn explain_missing_grant(
        &self,
        requested: &GrantResource,
    ) -> Result<BrokerError, BrokerError> {
        let tenant = &requested.tenant;
        self.refresher.directory.enabled(tenant).await?;
        match requested.person() {
            Some(PersonSelector::UserPrincipalName(name)) => {
                let found = self.refresher.find_by_user_principal_name(tenant, &name).await?.len();
                if found > 1 {
                    return Ok(BrokerError::GrantAmbiguous(tenant.clone(), found));
                }
            }
            Some(PersonSelector::Associate(id)) => {
                if let Some(kind) = (self.associate_type_of)(tenant, id)
                    && !kind.capabilities().sign_in
                {
                    return Ok(BrokerError::CannotSignIn(tenant.clone(), kind));
                }
            }
            Some(PersonSelector::Grant(_)) | None => {}
        }
        Ok(BrokerError::ConsentRequired(tenant.clone(), ConsentReason::NotGiven))
    }
}

fn min_ttl_too_long(longest: Duration) -> BrokerError {
    let problem = format!("must be at most {} s, half of a token's lifetime", longest.as_secs());
    BrokerError::Invalid { field: "min_ttl", problem }
}

#[cfg(test)]
pub(super) mod fakes;
#[cfg(test)]
mod tests;
