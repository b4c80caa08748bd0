//! Management of grants: reading, importing and revoking them.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use secrecy::{ExposeSecret as _, SecretString};

use super::{GrantEvent, GrantEventReceiver, Impersonation, Refresher, lease::EXCHANGE_TIMEOUT};
use crate::{
    access::{ActionName, Authorized, GrantResource, ManageGrants, ReadGrants, Rights},
    broker::{
        Application, BrokerError, ConsentReason,
        error::RETRY_SOON,
        scan_budget::{BATCH_SIZE, ScanBudget},
    },
    domain::{
        ApplicationId, AssociateId, Filter, Grant, GrantEventKind, GrantId, GrantName, GrantScope,
        ListedGrant, RefreshToken, TenantName, VerifiedIdentity,
    },
    ports::{ExchangeError, Refusal, StoreError, StoredConsent},
};

/// The most associates whose grants are looked up one by one; for more, all grants of the tenant are read.
const MAX_SINGLE_LOOKUPS: usize = 8;

/// The number of grants of a tenant that is too large for a policy decision on each of them.
const TOO_MANY_GRANTS: usize = 64;

/// The pauses before further attempts to store an imported grant.
const STORE_PAUSES: [Duration; 4] = [
    Duration::from_millis(100),
    Duration::from_millis(400),
    Duration::from_secs(2),
    Duration::from_secs(5),
];

/// A page of grants.
#[derive(Debug, Clone)]
pub struct GrantPage {
    /// The grants. The list may be empty although there is a next page.
    pub grants: Vec<Grant>,
    /// The name after which the next page begins, if there is one.
    pub next: Option<GrantName>,
}

/// The authorized scope of a list or watch.
#[derive(Debug, Clone, Copy)]
pub enum AuthorizedGrantScope<'a> {
    /// All tenants of an application.
    Application(&'a Authorized<ReadGrants, ApplicationId>),
    /// One tenant.
    Tenant(&'a Authorized<ReadGrants, TenantName>),
}

impl AuthorizedGrantScope<'_> {
    /// Returns the scope without the authorization.
    #[must_use]
    pub fn scope(&self) -> GrantScope {
        match self {
            Self::Application(authorized) => GrantScope::Application(authorized.resource().clone()),
            Self::Tenant(authorized) => GrantScope::Tenant(authorized.resource().clone()),
        }
    }
}

impl Impersonation {
    /// Reads one grant from the store.
    ///
    /// # Errors
    /// `ApplicationNotConfigured`, `GrantNotFound`; or the store does not answer.
    pub async fn get(
        &self,
        authorized: &Authorized<ReadGrants, TenantName>,
        grant: &GrantId,
    ) -> Result<Arc<Grant>, BrokerError> {
        let tenant = authorized.resource().clone();
        self.refresher.applications.check(&tenant.application)?;
        let name = GrantName { tenant, grant: grant.clone() };
        let found = self.refresher.read_grant(&name).await?;
        found.ok_or_else(|| BrokerError::GrantNotFound(name.to_string()))
    }

    /// Returns a page of grants, ordered by name.
    ///
    /// # Errors
    /// `ApplicationNotConfigured`; or the store does not answer.
    pub async fn list(
        &self,
        of: AuthorizedGrantScope<'_>,
        filter: &Filter,
        after: Option<GrantName>,
        page_size: usize,
    ) -> Result<GrantPage, BrokerError> {
        let scope = of.scope();
        let (GrantScope::Application(application)
        | GrantScope::Tenant(TenantName { application, .. })) = &scope;
        self.refresher.applications.check(application)?;
        let mut budget = ScanBudget::start(&*self.refresher.clock);
        let (mut last_scanned, mut grants) = (after, Vec::new());
        // One more than the limit shows whether there is a next page.
        let mut step = page_size.saturating_add(1);
        loop {
            let limit = budget.next_batch_size(step);
            if limit == 0 {
                return Ok(GrantPage { grants, next: last_scanned });
            }
            let wanted = u32::try_from(limit).unwrap_or(u32::MAX);
            let found = self.refresher.grants.list(&scope, last_scanned.as_ref(), wanted).await?;
            let end = found.len() < limit;
            budget.record_rows(found.len());
            for grant in found {
                let name = grant.name.clone();
                if filter.matches(&ListedGrant::new(&grant)) {
                    if grants.len() == page_size {
                        return Ok(GrantPage { grants, next: last_scanned });
                    }
                    grants.push(grant);
                }
                last_scanned = Some(name);
            }
            if end {
                return Ok(GrantPage { grants, next: None });
            }
            step = BATCH_SIZE;
        }
    }

    /// Returns the first thousand grants of a tenant, for deciding which of them a caller may see.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn first_grants_of_tenant(
        &self,
        tenant: &TenantName,
    ) -> Result<Vec<Arc<Grant>>, BrokerError> {
        let scope = GrantScope::Tenant(tenant.clone());
        let limit = u32::try_from(BATCH_SIZE).unwrap_or(u32::MAX);
        let grants = self.refresher.grants.list(&scope, None, limit).await?;
        Ok(grants.into_iter().map(Arc::new).collect())
    }

    /// Returns all grants of a tenant as resources for a policy decision, or `None` if there are too many.
    pub(in crate::broker) async fn all_grant_resources(
        &self,
        tenant: &TenantName,
    ) -> Result<Option<Vec<GrantResource>>, BrokerError> {
        let scope = GrantScope::Tenant(tenant.clone());
        let limit = u32::try_from(TOO_MANY_GRANTS).unwrap_or(u32::MAX);
        let grants = self.refresher.grants.list(&scope, None, limit).await?;
        Ok((grants.len() < TOO_MANY_GRANTS)
            .then(|| grants.iter().map(GrantResource::from_grant).collect()))
    }

    /// Returns the grants of these associates, or `None` if the caller may not read grants.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn grants_of_associates(
        &self,
        rights: Option<&Rights<TenantName>>,
        ids: &[AssociateId],
    ) -> Result<Option<HashMap<AssociateId, Arc<Grant>>>, BrokerError> {
        let Some(rights) = rights.filter(|rights| rights.holds(ActionName::ReadGrants)) else {
            return Ok(None);
        };
        let mut found = HashMap::new();
        if ids.len() > MAX_SINGLE_LOOKUPS {
            let ids: HashSet<_> = ids.iter().copied().collect();
            let wanted = |grant: &Grant| {
                if ids.contains(&grant.associate_id) {
                    found.insert(grant.associate_id, Arc::new(grant.clone()));
                }
            };
            let scope = GrantScope::Tenant(rights.resource().clone());
            self.for_each(&scope, wanted).await?;
            return Ok(Some(found));
        }
        for id in ids {
            if let Some(grant) = self.refresher.grant_cache.find(rights.resource(), *id).await? {
                found.insert(*id, grant);
            }
        }
        Ok(Some(found))
    }

    /// Returns the next batch of grants after `after` as events for the start of a watch, and whether there may be
    /// more.
    ///
    /// # Errors
    /// `ApplicationNotConfigured`; or the store does not answer.
    pub async fn grants_for_resync(
        &self,
        of: AuthorizedGrantScope<'_>,
        after: Option<&GrantName>,
    ) -> Result<(Vec<GrantEvent>, bool), BrokerError> {
        let scope = of.scope();
        let (GrantScope::Application(application)
        | GrantScope::Tenant(TenantName { application, .. })) = &scope;
        self.refresher.applications.check(application)?;
        let limit = u32::try_from(BATCH_SIZE).unwrap_or(u32::MAX);
        let grants = self.refresher.grants.list(&scope, after, limit).await?;
        let (more, time) = (grants.len() == BATCH_SIZE, self.refresher.clock.now());
        let event = |grant| {
            let grant = Some(Arc::new(grant));
            GrantEvent { grant, kind: GrantEventKind::Resync, time }
        };
        Ok((grants.into_iter().map(event).collect(), more))
    }

    /// Returns the event that marks the end of a resynchronization.
    #[must_use]
    pub fn end_of_resync(&self) -> GrantEvent {
        let time = self.refresher.clock.now();
        GrantEvent { grant: None, kind: GrantEventKind::Resync, time }
    }

    /// Returns a receiver of all events of grants. The caller must filter out what its client may not see.
    #[must_use]
    pub fn subscribe(&self) -> GrantEventReceiver {
        self.refresher.events.subscribe()
    }

    /// Revokes a grant in the gateway at once, and at SuperOffice in the background.
    ///
    /// # Errors
    /// `GrantNotFound`; or the store does not answer.
    pub async fn revoke(
        &self,
        authorized: &Authorized<ManageGrants, TenantName>,
        grant: &GrantId,
    ) -> Result<Arc<Grant>, BrokerError> {
        let name = GrantName { tenant: authorized.resource().clone(), grant: grant.clone() };
        let refresher = Arc::clone(&self.refresher);
        let key = name.clone();
        let work = || async move {
            let revoked = refresher.grants.revoke(&name).await;
            // Also after an error, because the write may have succeeded.
            refresher.grant_cache.forget(&name);
            refresher.token_cache.forget(|other| *other == name);
            refresher.broken_grants.remove(&name);
            let grant = revoked?.ok_or_else(|| BrokerError::GrantNotFound(name.to_string()))?;
            let grant = refresher.grant_cache.record(grant);
            refresher.directory.changes().notify(&name.tenant);
            refresher.events.send(&grant, GrantEventKind::Revoked, refresher.clock.now());
            refresher.to_revoke.notify_one();
            Ok(grant)
        };
        let result = self.grant_writes.join(key, work).await;
        result.unwrap_or_else(|crash| Err(BrokerError::Internal(crash.to_string().into())))
    }

    /// Imports a refresh token: uses it once to find its owner, and stores it.
    ///
    /// # Errors
    /// `SubjectMismatch` if it belongs to another tenant, `ConsentRequired` if SuperOffice rejects it; or the tenant is
    /// not usable.
    pub async fn import(
        &self,
        authorized: &Authorized<ManageGrants, TenantName>,
        token: RefreshToken,
    ) -> Result<Arc<Grant>, BrokerError> {
        let tenant = authorized.resource().clone();
        self.refresher.applications.check(&tenant.application)?;
        self.usable_tenant(&tenant).await?;
        let id = GrantId::new(self.refresher.random.bytes());
        let grants = GrantImporter { refresher: Arc::clone(&self.refresher) };
        let (key, tasks) =
            (GrantName { tenant: tenant.clone(), grant: id.clone() }, &self.grant_writes);
        // Runs to its end even if the caller disconnects, because a rotated token must not be lost.
        let result = tasks.join(key, || async move { grants.import(&tenant, token, &id).await });
        let result = result.await;
        result.unwrap_or_else(|crash| Err(BrokerError::Internal(crash.to_string().into())))
    }

    /// Handles a grant that another use case has stored: updates the caches and notifies watches.
    pub fn record_consent(&self, grant: &Grant, kind: GrantEventKind) {
        self.refresher.record_consent(grant.clone(), kind);
    }
}

impl Refresher {
    /// Updates the caches for a new refresh token, drops everything known about the former one, and notifies watches.
    fn record_consent(&self, grant: Grant, kind: GrantEventKind) -> Arc<Grant> {
        let grant = self.grant_cache.record(grant);
        self.token_cache.forget(|name| *name == grant.name);
        self.broken_grants.remove(&grant.name);
        self.events.send(&grant, kind, self.clock.now());
        self.directory.changes().notify(&grant.name.tenant);
        grant
    }
}

/// The import of a refresh token.
struct GrantImporter {
    refresher: Arc<Refresher>,
}

impl GrantImporter {
    async fn import(
        &self,
        tenant: &TenantName,
        token: RefreshToken,
        id: &GrantId,
    ) -> Result<Arc<Grant>, BrokerError> {
        let application = Arc::clone(self.refresher.applications.get(&tenant.application)?);
        let answer = tokio::select! {
            biased;
            answer = application.oauth.refresh(token.secret()) => answer,
            () = self.refresher.leases.timer.sleep(EXCHANGE_TIMEOUT) => {
                Err(ExchangeError::Transient(format!("not within {EXCHANGE_TIMEOUT:?}")))
            }
        };
        let now = self.refresher.clock.monotonic();
        let refreshed = answer.map_err(|error| import_error(&application, tenant, &error, now))?;
        application.history.record_secret_accepted(now);
        // The owner is known only after the ID token is verified. Until then the token is held here; a failure revokes
        // it.
        let mut rotated = None;
        let kept = refreshed.after_storing(|new| {
            rotated = new;
            std::future::ready(Ok::<_, BrokerError>(()))
        });
        let access = kept.await?;
        let stored = match access {
            Err(error) => Err(BrokerError::from_upstream(tenant, &error)),
            Ok(access) if access.identity.tenant != tenant.tenant => {
                Err(BrokerError::SubjectMismatch(tenant.clone()))
            }
            Ok(access) => {
                let present = rotated.as_ref().unwrap_or(&token);
                self.store(&tenant.application, &access.identity, present, id).await
            }
        };
        // If the store may have it, revoking it could break a grant that the store shows as active.
        if let (Err(error), Some(new)) = (&stored, &rotated)
            && !matches!(error, BrokerError::StoreOutcomeUnknown(_))
        {
            self.revoke(&tenant.application, new.secret()).await;
        }
        stored
    }

    async fn store(
        &self,
        application: &ApplicationId,
        person: &VerifiedIdentity,
        token: &RefreshToken,
        id: &GrantId,
    ) -> Result<Arc<Grant>, BrokerError> {
        let refresher = &self.refresher;
        let (now, secret) = (refresher.clock.now(), token.secret());
        let write = || refresher.grants.store_consent(application, person, secret, id, now);
        let is_unknown = |stored: &Result<Option<StoredConsent>, StoreError>| {
            matches!(stored, Err(StoreError::OutcomeUnknown(_)))
        };
        let mut stored = write().await;
        let mut may_be_kept = is_unknown(&stored);
        for pause in STORE_PAUSES {
            if stored.is_ok() {
                break;
            }
            // The imported token may already be used up, so this one is stored with several attempts.
            refresher.leases.timer.sleep(pause).await;
            stored = write().await;
            may_be_kept |= is_unknown(&stored);
        }
        // A later write that failed does not prove that an earlier one with an unknown outcome failed.
        let stored = stored.map_err(|error| {
            let already = matches!(error, StoreError::OutcomeUnknown(_));
            if may_be_kept && !already { error.after_commit() } else { error }
        });
        let Some(StoredConsent { grant, created, replaced }) = stored? else {
            let name = TenantName { application: application.clone(), tenant: person.tenant };
            return Err(BrokerError::TenantNotFound(name.to_string()));
        };
        let kind = if created { GrantEventKind::Created } else { GrantEventKind::Reconsented };
        let grant = refresher.record_consent(grant, kind);
        // Not if an earlier attempt that seemed to fail has already stored the same token.
        let replaced = replaced.filter(|old| old.expose_secret() != secret.expose_secret());
        if let Some(replaced) = replaced {
            self.revoke(application, &replaced).await;
        }
        Ok(grant)
    }

    /// Revokes a refresh token that is not stored. Logs a failure.
    async fn revoke(&self, application: &ApplicationId, token: &SecretString) {
        let Ok(application) = self.refresher.applications.get(application) else { return };
        if let Err(error) = application.oauth.revoke(token).await {
            tracing::warn!(%error, application = %application.id, "a refresh token that is not stored could not be revoked and stays valid at SuperOffice");
        }
    }
}

fn import_error(
    application: &Application,
    tenant: &TenantName,
    error: &ExchangeError,
    now: Duration,
) -> BrokerError {
    tracing::warn!(%error, %tenant, "a refresh token could not be imported");
    let cause = error.to_string().into();
    match error {
        ExchangeError::InvalidGrant => {
            BrokerError::ConsentRequired(tenant.clone(), ConsentReason::NotAccepted)
        }
        ExchangeError::InvalidClient | ExchangeError::Unauthorized => {
            if application.secret_is_refused(error, now) {
                application.alarm(error, now);
                BrokerError::Refused(tenant.clone(), Refusal::Credential)
            } else {
                BrokerError::ConsentRequired(tenant.clone(), ConsentReason::NotAccepted)
            }
        }
        ExchangeError::NotSent(error) => BrokerError::from_upstream(tenant, error),
        ExchangeError::Transient(_) => {
            BrokerError::UpstreamUnavailable { retry_after: RETRY_SOON, cause }
        }
        ExchangeError::InvalidResponse(_) => BrokerError::upstream_invalid(cause),
    }
}
