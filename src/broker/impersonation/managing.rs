//! Grants themselves: seeing, storing and revoking them.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use secrecy::{ExposeSecret as _, SecretString};

use super::{GrantEvent, GrantFeed, Impersonation, Refresher, lease::EXCHANGE_TIME_OUT};
use crate::{
    access::{ActionName, Authorized, GrantResource, ManageGrants, ReadGrants, Rights},
    broker::{
        Application, BrokerError, WhyConsent,
        error::RETRY_SOON,
        looking::{BATCH, Looking},
    },
    domain::{
        ApplicationId, AssociateId, Filter, Grant, GrantEventKind, GrantId, GrantName, GrantScope,
        Identity, ListedGrant, RefreshToken, TenantName,
    },
    ports::{Consented, ExchangeError, Refusal, StoreError},
};

/// So many are looked up one by one.
const FEW: usize = 8;

/// So many are too many to decide on at each call which of them is meant.
const MANY: usize = 64;

/// How long is waited before what came of an import is tried to be stored again.
const STORE_PAUSES: [Duration; 4] = [
    Duration::from_millis(100),
    Duration::from_millis(400),
    Duration::from_secs(2),
    Duration::from_secs(5),
];

/// A page of grants.
#[derive(Debug, Clone)]
pub struct GrantPage {
    /// The grants: maybe none, though there is a next page.
    pub grants: Vec<Grant>,
    /// Behind which the next page begins, if there is one.
    pub next: Option<GrantName>,
}

/// Whose grants a list or a watch is permitted to be over.
#[derive(Debug, Clone, Copy)]
pub enum GrantsOf<'a> {
    /// All tenants of an application.
    Application(&'a Authorized<ReadGrants, ApplicationId>),
    /// One tenant.
    Tenant(&'a Authorized<ReadGrants, TenantName>),
}

impl GrantsOf<'_> {
    /// What it is over.
    #[must_use]
    pub fn scope(&self) -> GrantScope {
        match self {
            Self::Application(authorized) => GrantScope::Application(authorized.resource().clone()),
            Self::Tenant(authorized) => GrantScope::Tenant(authorized.resource().clone()),
        }
    }
}

impl Impersonation {
    /// One grant, as the store has it.
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
        let found = self.refresher.read(&name).await?;
        found.ok_or_else(|| BrokerError::GrantNotFound(name.to_string()))
    }

    /// A page of grants, in order of their names.
    ///
    /// # Errors
    /// `ApplicationNotConfigured`; or the store does not answer.
    pub async fn list(
        &self,
        of: GrantsOf<'_>,
        filter: &Filter,
        after: Option<GrantName>,
        most: usize,
    ) -> Result<GrantPage, BrokerError> {
        let scope = of.scope();
        let (GrantScope::Application(application)
        | GrantScope::Tenant(TenantName { application, .. })) = &scope;
        self.refresher.applications.check(application)?;
        let mut looking = Looking::begin(&*self.refresher.clock);
        let (mut looked_at, mut grants) = (after, Vec::new());
        // One more than asked for tells whether there is a next page.
        let mut step = most.saturating_add(1);
        loop {
            let limit = looking.batch(step);
            if limit == 0 {
                return Ok(GrantPage { grants, next: looked_at });
            }
            let wanted = u32::try_from(limit).unwrap_or(u32::MAX);
            let found = self.refresher.grants.list(&scope, looked_at.as_ref(), wanted).await?;
            let end = found.len() < limit;
            looking.looked_at(found.len());
            for grant in found {
                let place = grant.name.clone();
                if filter.matches(&ListedGrant::new(&grant)) {
                    if grants.len() == most {
                        return Ok(GrantPage { grants, next: looked_at });
                    }
                    grants.push(grant);
                }
                looked_at = Some(place);
            }
            if end {
                return Ok(GrantPage { grants, next: None });
            }
            step = BATCH;
        }
    }

    /// The first thousand grants of a tenant, for deciding which of them a caller may be told of.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn of_tenant(&self, tenant: &TenantName) -> Result<Vec<Arc<Grant>>, BrokerError> {
        let scope = GrantScope::Tenant(tenant.clone());
        let limit = u32::try_from(BATCH).unwrap_or(u32::MAX);
        let grants = self.refresher.grants.list(&scope, None, limit).await?;
        Ok(grants.into_iter().map(Arc::new).collect())
    }

    /// Whom one could act as on a tenant, for a decision: all who ever consented. `None` if there are too many to look
    /// at.
    pub(in crate::broker) async fn everybody(
        &self,
        tenant: &TenantName,
    ) -> Result<Option<Vec<GrantResource>>, BrokerError> {
        let scope = GrantScope::Tenant(tenant.clone());
        let limit = u32::try_from(MANY).unwrap_or(u32::MAX);
        let grants = self.refresher.grants.list(&scope, None, limit).await?;
        Ok((grants.len() < MANY).then(|| grants.iter().map(GrantResource::of).collect()))
    }

    /// The grants of these associates. `None` if the caller may not know of grants.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn of_associates(
        &self,
        rights: Option<&Rights<TenantName>>,
        ids: &[AssociateId],
    ) -> Result<Option<HashMap<AssociateId, Arc<Grant>>>, BrokerError> {
        let Some(rights) = rights.filter(|rights| rights.holds(ActionName::ReadGrants)) else {
            return Ok(None);
        };
        let mut found = HashMap::new();
        if ids.len() > FEW {
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
            if let Some(grant) = self.refresher.known.find(rights.resource(), *id).await? {
                found.insert(*id, grant);
            }
        }
        Ok(Some(found))
    }

    /// Some of the grants behind `after`, as a watch begins with them: up to a batch, and whether there may be more.
    ///
    /// # Errors
    /// `ApplicationNotConfigured`; or the store does not answer.
    pub async fn some(
        &self,
        of: GrantsOf<'_>,
        after: Option<&GrantName>,
    ) -> Result<(Vec<GrantEvent>, bool), BrokerError> {
        let scope = of.scope();
        let (GrantScope::Application(application)
        | GrantScope::Tenant(TenantName { application, .. })) = &scope;
        self.refresher.applications.check(application)?;
        let limit = u32::try_from(BATCH).unwrap_or(u32::MAX);
        let grants = self.refresher.grants.list(&scope, after, limit).await?;
        let (more, time) = (grants.len() == BATCH, self.refresher.clock.now());
        let event = |grant| {
            let grant = Some(Arc::new(grant));
            GrantEvent { grant, kind: GrantEventKind::Resync, time }
        };
        Ok((grants.into_iter().map(event).collect(), more))
    }

    /// Says that a watch has told all that there was.
    #[must_use]
    pub fn end_of_resync(&self) -> GrantEvent {
        let time = self.refresher.clock.now();
        GrantEvent { grant: None, kind: GrantEventKind::Resync, time }
    }

    /// Everything that happens to grants from now on. Only for what the caller is permitted to see.
    #[must_use]
    pub fn feed(&self) -> GrantFeed {
        self.refresher.feed.subscribe()
    }

    /// Revokes a grant: from now on nobody acts as the person. SuperOffice is told in the background.
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
            // Also after an error: its outcome may be unknown.
            refresher.known.forget(&name);
            refresher.cache.forget(|other| *other == name);
            refresher.broken.mended(&name);
            let grant = revoked?.ok_or_else(|| BrokerError::GrantNotFound(name.to_string()))?;
            let grant = refresher.known.learn(grant);
            refresher.directory.changes().tell(&name.tenant);
            refresher.feed.tell(&grant, GrantEventKind::Revoked, refresher.clock.now());
            refresher.to_revoke.notify_one();
            Ok(grant)
        };
        let landed = self.changes.join(key, work).await;
        landed.unwrap_or_else(|crash| Err(BrokerError::Internal(crash.to_string().into())))
    }

    /// Stores a refresh token that was got elsewhere, after it has shown whose it is.
    ///
    /// # Errors
    /// `SubjectMismatch` for one of another tenant, `ConsentRequired` for one that SuperOffice does not accept; and
    /// what stands between a tenant and its people.
    pub async fn import(
        &self,
        authorized: &Authorized<ManageGrants, TenantName>,
        token: RefreshToken,
    ) -> Result<Arc<Grant>, BrokerError> {
        let tenant = authorized.resource().clone();
        self.refresher.applications.check(&tenant.application)?;
        self.usable(&tenant).await?;
        let id = GrantId::new(self.refresher.random.bytes());
        let grants = Granting { refresher: Arc::clone(&self.refresher) };
        let (key, tasks) = (GrantName { tenant: tenant.clone(), grant: id.clone() }, &self.changes);
        // To its end whatever becomes of the caller: a token that was rotated must not be lost.
        let landed = tasks.join(key, || async move { grants.import(&tenant, token, &id).await });
        let landed = landed.await;
        landed.unwrap_or_else(|crash| Err(BrokerError::Internal(crash.to_string().into())))
    }

    /// Another use case has stored what a person gave: nothing that was known of the grant before counts, and those who
    /// watch are told.
    pub fn told(&self, grant: &Grant, kind: GrantEventKind) {
        self.refresher.consented(grant.clone(), kind);
    }
}

impl Refresher {
    /// A person gave a refresh token: whatever was known of the former one does not count any more.
    fn consented(&self, grant: Grant, kind: GrantEventKind) -> Arc<Grant> {
        let grant = self.known.learn(grant);
        self.cache.forget(|name| *name == grant.name);
        self.broken.mended(&grant.name);
        self.feed.tell(&grant, kind, self.clock.now());
        self.directory.changes().tell(&grant.name.tenant);
        grant
    }
}

/// Storing what people consented to.
struct Granting {
    refresher: Arc<Refresher>,
}

impl Granting {
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
            () = self.refresher.leases.pace.sleep(EXCHANGE_TIME_OUT) => {
                Err(ExchangeError::Transient(format!("not within {EXCHANGE_TIME_OUT:?}")))
            }
        };
        let now = self.refresher.clock.monotonic();
        let refreshed = answer.map_err(|error| not_imported(&application, tenant, &error, now))?;
        application.history.secret_accepted(now);
        // Whose it is only the rest of the answer says; until then it is held here, and revoked if it comes to nothing.
        let mut rotated = None;
        let kept = refreshed.once_kept(|new| {
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
        // Where the store may have kept it, revoking it would end a grant that the store shows as active.
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
        person: &Identity,
        token: &RefreshToken,
        id: &GrantId,
    ) -> Result<Arc<Grant>, BrokerError> {
        let refresher = &self.refresher;
        let (now, secret) = (refresher.clock.now(), token.secret());
        let write = || refresher.grants.consented(application, person, secret, id, now);
        let is_unknown = |stored: &Result<Option<Consented>, StoreError>| {
            matches!(stored, Err(StoreError::OutcomeUnknown(_)))
        };
        let mut stored = write().await;
        let mut may_be_kept = is_unknown(&stored);
        for pause in STORE_PAUSES {
            if stored.is_ok() {
                break;
            }
            // The one that was brought may be spent: much is tried before this one is given up.
            refresher.leases.pace.sleep(pause).await;
            stored = write().await;
            may_be_kept |= is_unknown(&stored);
        }
        // A later write that surely failed says nothing about an earlier one that may have been kept.
        let stored = stored.map_err(|error| {
            let already = matches!(error, StoreError::OutcomeUnknown(_));
            if may_be_kept && !already { error.after_commit() } else { error }
        });
        let Some(Consented { grant, created, replaced }) = stored? else {
            let name = TenantName { application: application.clone(), tenant: person.tenant };
            return Err(BrokerError::TenantNotFound(name.to_string()));
        };
        let kind = if created { GrantEventKind::Created } else { GrantEventKind::Reconsented };
        let grant = refresher.consented(grant, kind);
        // Also where a write that seemed to fail was the one that replaced it.
        let replaced = replaced.filter(|old| old.expose_secret() != secret.expose_secret());
        if let Some(replaced) = replaced {
            self.revoke(application, &replaced).await;
        }
        Ok(grant)
    }

    /// Revokes a refresh token that is not kept, as far as SuperOffice can be reached.
    async fn revoke(&self, application: &ApplicationId, token: &SecretString) {
        let Ok(application) = self.refresher.applications.get(application) else { return };
        if let Err(error) = application.oauth.revoke(token).await {
            tracing::warn!(%error, application = %application.id, "a refresh token that is not kept lives on at SuperOffice");
        }
    }
}

fn not_imported(
    application: &Application,
    tenant: &TenantName,
    error: &ExchangeError,
    now: Duration,
) -> BrokerError {
    tracing::warn!(%error, %tenant, "a refresh token is not imported");
    let cause = error.to_string().into();
    match error {
        ExchangeError::InvalidGrant => {
            BrokerError::ConsentRequired(tenant.clone(), WhyConsent::NotAccepted)
        }
        ExchangeError::InvalidClient | ExchangeError::Unauthorized => {
            if application.secret_is_refused(error, now) {
                application.alarm(error, now);
                BrokerError::Refused(tenant.clone(), Refusal::Credential)
            } else {
                BrokerError::ConsentRequired(tenant.clone(), WhyConsent::NotAccepted)
            }
        }
        ExchangeError::NotSent(error) => BrokerError::from_upstream(tenant, error),
        ExchangeError::Transient(_) => {
            BrokerError::UpstreamUnavailable { retry_after: RETRY_SOON, cause }
        }
        ExchangeError::InvalidResponse(_) => BrokerError::UpstreamInvalid(cause),
    }
}
