//! Tenants: adding, stopping, enrolling, removing and listing them.
//!
//! Each change runs to its end on the task tracker, even if its caller disconnects. So the cache never misses a change
//! that reached the store.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

use super::{BrokerError, Runtime, TenantDirectory};
use crate::{
    access::{Authorized, Gateway, ManageTenants, ReadTenants},
    domain::{ApplicationId, ContextIdentifier, Labels, SystemUserToken, Tenant, TenantName},
    ports::{Clock, Deletion, StoreError, TenantStore},
};

/// The callback for each tenant that was disabled or removed.
pub type StopListener = Arc<dyn Fn(&TenantName) + Send + Sync>;

/// The use cases of tenants.
pub struct Tenants {
    applications: BTreeSet<ApplicationId>,
    directory: Arc<TenantDirectory>,
    store: Arc<dyn TenantStore>,
    clock: Arc<dyn Clock>,
    tasks: TaskTracker,
    /// The callback for tenants that were disabled or removed.
    on_stop: StopListener,
    /// The Tokio runtime for all changes: a caller's own runtime may end before the gateway does.
    handle: Handle,
}

/// The start and the maximum size of a page of tenants.
#[derive(Debug, Clone)]
pub struct Page {
    /// The last tenant of the previous page.
    pub after: Option<TenantName>,
    /// The maximum number of tenants on the page.
    pub limit: u32,
}

impl Tenants {
    /// Creates the use cases for these applications. `directory` caches the tenants of `store`. Changes run on the
    /// Tokio runtime on which this is called.
    #[must_use]
    pub fn new(
        applications: BTreeSet<ApplicationId>,
        directory: Arc<TenantDirectory>,
        store: Arc<dyn TenantStore>,
        on_stop: StopListener,
        runtime: &Runtime,
    ) -> Self {
        let Runtime { clock, tasks, .. } = runtime.clone();
        let handle = Handle::current();
        Self { applications, directory, store, clock, tasks, on_stop, handle }
    }

    /// Adds a tenant to an application.
    ///
    /// # Errors
    /// `ApplicationNotConfigured`, `TenantExists`.
    pub async fn create(
        &self,
        authorized: &Authorized<ManageTenants, ApplicationId>,
        tenant: ContextIdentifier,
        labels: Labels,
    ) -> Result<Tenant, BrokerError> {
        let application = self.require_configured(authorized.resource())?.clone();
        let name = TenantName { application, tenant };
        let (store, now) = (Arc::clone(&self.store), self.clock.now());
        self.change(name.clone(), async move {
            store.create(&name, labels.as_map(), now).await.map_err(|error| match error {
                StoreError::AlreadyExists => BrokerError::TenantExists(name),
                other => other.into(),
            })
        })
        .await
    }

    /// Reads a tenant.
    ///
    /// # Errors
    /// `ApplicationNotConfigured`, `TenantNotFound`.
    pub async fn get(
        &self,
        authorized: &Authorized<ReadTenants, TenantName>,
    ) -> Result<Arc<Tenant>, BrokerError> {
        self.require_configured(&authorized.resource().application)?;
        self.directory.get(authorized.resource()).await
    }

    /// Returns a page of the tenants of one application, ordered by id.
    ///
    /// # Errors
    /// `ApplicationNotConfigured`.
    pub async fn list_of_application(
        &self,
        authorized: &Authorized<ReadTenants, ApplicationId>,
        page: Page,
    ) -> Result<Vec<Tenant>, BrokerError> {
        let application = self.require_configured(authorized.resource())?;
        Ok(self.store.list(Some(application), page.after.as_ref(), page.limit).await?)
    }

    /// Returns a page of the tenants of all applications.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn list_all(
        &self,
        _authorized: &Authorized<ReadTenants, Gateway>,
        page: Page,
    ) -> Result<Vec<Tenant>, BrokerError> {
        Ok(self.store.list(None, page.after.as_ref(), page.limit).await?)
    }

    /// Disables or enables a tenant. Deletes nothing.
    ///
    /// # Errors
    /// `ApplicationNotConfigured`, `TenantNotFound`.
    pub async fn set_disabled(
        &self,
        authorized: &Authorized<ManageTenants, TenantName>,
        disabled: bool,
    ) -> Result<Tenant, BrokerError> {
        let name = authorized.resource().clone();
        let (store, now) = (Arc::clone(&self.store), self.clock.now());
        let unknown = self.not_found_error(&name);
        self.stop_or_remove(name.clone(), async move {
            store.set_disabled(&name, disabled, now).await?.ok_or(unknown)
        })
        .await
    }

    /// Stores the system user token, and deletes the ticket of the old token in the same transaction.
    ///
    /// # Errors
    /// `ApplicationNotConfigured`, `TenantNotFound`.
    pub async fn set_system_user_token(
        &self,
        authorized: &Authorized<ManageTenants, TenantName>,
        token: SystemUserToken,
    ) -> Result<Tenant, BrokerError> {
        let name = authorized.resource().clone();
        self.require_configured(&name.application)?;
        let (store, now) = (Arc::clone(&self.store), self.clock.now());
        self.change(name.clone(), async move {
            require_found(&name, store.set_system_user_token(&name, token.secret(), now).await?)
        })
        .await
    }

    /// Removes a tenant with its secrets. With `force` its grants are revoked; otherwise a tenant with grants is kept.
    ///
    /// # Errors
    /// `ApplicationNotConfigured`, `TenantNotFound`, `TenantHasGrants`, `VersionConflict` if `etag` is not its etag.
    pub async fn delete(
        &self,
        authorized: &Authorized<ManageTenants, TenantName>,
        etag: Option<&str>,
        force: bool,
    ) -> Result<(), BrokerError> {
        let name = authorized.resource().clone();
        let expected = etag.map(parse_etag);
        let (store, unknown) = (Arc::clone(&self.store), self.not_found_error(&name));
        self.stop_or_remove(name.clone(), async move {
            match store.delete(&name, expected, force).await {
                Ok(Deletion::Deleted) => Ok(()),
                Ok(Deletion::NotFound) => Err(unknown),
                Ok(Deletion::HasGrants) => Err(BrokerError::TenantHasGrants(name)),
                Err(StoreError::Conflict) => Err(BrokerError::VersionConflict(name)),
                Err(other) => Err(other.into()),
            }
        })
        .await
    }

    /// Completes a consent with `enroll_system_user` by a caller with `manageTenants`: adds the tenant if it does not
    /// exist, and stores its system user token if the sign-in of an administrator returned one.
    pub(super) async fn enroll(
        &self,
        name: TenantName,
        token: Option<SystemUserToken>,
        company_name: String,
    ) -> Result<(), BrokerError> {
        let (store, now) = (Arc::clone(&self.store), self.clock.now());
        self.change(name.clone(), async move {
            match store.create(&name, &BTreeMap::new(), now).await {
                Ok(_) | Err(StoreError::AlreadyExists) => {}
                Err(other) => return Err(other.into()),
            }
            if !company_name.is_empty() {
                store.put_company_name(&name, &company_name).await?;
            }
            match token {
                Some(token) => {
                    let set = store.set_system_user_token(&name, token.secret(), now).await?;
                    require_found(&name, set).map(drop)
                }
                None => Ok(()),
            }
        })
        .await
    }

    /// Returns the applications that have this tenant. Use it only to choose among applications already authorized.
    pub(super) async fn applications_of(
        &self,
        tenant: ContextIdentifier,
    ) -> Result<Vec<ApplicationId>, BrokerError> {
        Ok(self.store.applications_of(tenant).await?)
    }

    /// Returns the error for a tenant that is not in the store. A tenant of an application that is no longer configured
    /// can still be disabled and removed, so the application is not checked first.
    fn not_found_error(&self, name: &TenantName) -> BrokerError {
        match self.require_configured(&name.application) {
            Ok(_) => BrokerError::TenantNotFound(name.to_string()),
            Err(error) => error,
        }
    }

    fn require_configured<'a>(
        &self,
        id: &'a ApplicationId,
    ) -> Result<&'a ApplicationId, BrokerError> {
        let unknown = || BrokerError::ApplicationNotConfigured(id.clone());
        self.applications.contains(id).then_some(id).ok_or_else(unknown)
    }

    /// Makes a change, and clears everything about the tenant from memory if it is disabled or removed afterwards.
    async fn stop_or_remove<T: Send + 'static>(
        &self,
        name: TenantName,
        change: impl Future<Output = Result<T, BrokerError>> + Send + 'static,
    ) -> Result<T, BrokerError> {
        let (directory, on_stop) = (Arc::clone(&self.directory), Arc::clone(&self.on_stop));
        let stopped = name.clone();
        let then = async move {
            // Also after an error: its outcome may be unknown. The tenant is read again.
            if directory.is_stopped(&stopped).await {
                on_stop(&stopped);
            }
        };
        self.change_then(name, change, then).await
    }

    async fn change<T: Send + 'static>(
        &self,
        name: TenantName,
        change: impl Future<Output = Result<T, BrokerError>> + Send + 'static,
    ) -> Result<T, BrokerError> {
        self.change_then(name, change, std::future::ready(())).await
    }

    async fn change_then<T: Send + 'static>(
        &self,
        name: TenantName,
        change: impl Future<Output = Result<T, BrokerError>> + Send + 'static,
        then: impl Future<Output = ()> + Send + 'static,
    ) -> Result<T, BrokerError> {
        let directory = Arc::clone(&self.directory);
        let change = async move {
            let result = change.await;
            // Also after an error: its outcome may be unknown.
            directory.forget(&name);
            then.await;
            result
        };
        let task = self.tasks.spawn_on(change, &self.handle);
        task.await.unwrap_or_else(|error| Err(BrokerError::Internal(error.to_string().into())))
    }
}

/// Resolves the wildcard application of a name `applications/-/tenants/…` in `field`, among the permitted candidates.
///
/// # Errors
/// `TenantNotFound` if none has the tenant, `Invalid` if several have.
pub async fn resolve_application<T>(
    tenants: &Tenants,
    field: &'static str,
    tenant: ContextIdentifier,
    permitted: Vec<T>,
    name: impl Fn(&T) -> &TenantName,
) -> Result<T, BrokerError> {
    let enrolled = tenants.applications_of(tenant).await?;
    let mut candidates =
        permitted.into_iter().filter(|witness| enrolled.contains(&name(witness).application));
    match (candidates.next(), candidates.next()) {
        (Some(only), None) => Ok(only),
        (None, _) => Err(BrokerError::TenantNotFound(format!("applications/-/tenants/{tenant}"))),
        (Some(_), Some(_)) => Err(BrokerError::Invalid {
            field,
            problem: format!(
                "{tenant} is enrolled under several applications: name the one you mean"
            ),
        }),
    }
}

fn require_found(name: &TenantName, tenant: Option<Tenant>) -> Result<Tenant, BrokerError> {
    tenant.ok_or_else(|| BrokerError::TenantNotFound(name.to_string()))
}

/// Returns the version of an etag. Any other text gives a version that never matches.
fn parse_etag(etag: &str) -> i64 {
    const NEVER: i64 = -1;
    let version = etag.strip_prefix('"').and_then(|e| e.strip_suffix('"'));
    version.and_then(|version| version.parse().ok()).unwrap_or(NEVER)
}
