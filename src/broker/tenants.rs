//! Tenants: adding, stopping, enrolling, removing and listing them.
//!
//! Every change runs to its end on the task tracker, also when its caller goes away: what is in memory never
//! misses a change that reached the store.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, OnceLock},
};

use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

use super::{BrokerError, Directory};
use crate::{
    access::{Authorized, Gateway, ManageTenants, ReadTenants},
    domain::{ApplicationId, ContextIdentifier, Labels, SystemUserToken, Tenant, TenantName},
    ports::{Clock, Deletion, StoreError, TenantStore},
};

/// Is told of each tenant that was stopped or removed.
pub type StopListener = Box<dyn Fn(&TenantName) + Send + Sync>;

/// The use cases of tenants.
pub struct Tenants {
    applications: BTreeSet<ApplicationId>,
    directory: Arc<Directory>,
    store: Arc<dyn TenantStore>,
    clock: Arc<dyn Clock>,
    tasks: TaskTracker,
    /// Is told of tenants that were stopped or removed.
    on_stop: Arc<OnceLock<StopListener>>,
    /// Where changes run, whoever asks for them: callers may stand on a runtime that ends before the gateway does.
    runtime: Handle,
}

/// Where a page of tenants begins, and how many it may have.
#[derive(Debug, Clone)]
pub struct Page {
    /// The last tenant of the page before.
    pub after: Option<TenantName>,
    /// At most so many.
    pub limit: u32,
}

impl Tenants {
    /// Over a store and the directory that remembers what is in it, for these applications. Changes will run on the
    /// runtime that this is called on.
    #[must_use]
    pub fn new(
        applications: BTreeSet<ApplicationId>,
        directory: Arc<Directory>,
        store: Arc<dyn TenantStore>,
        clock: Arc<dyn Clock>,
        tasks: TaskTracker,
    ) -> Self {
        let (on_stop, runtime) = (Arc::default(), Handle::current());
        Self { applications, directory, store, clock, tasks, on_stop, runtime }
    }

    /// Tells `listener` of each tenant that is stopped or removed from now on. The first listener stays: what it clears
    /// is built after this.
    pub fn on_stop(&self, listener: StopListener) {
        // Set once, by whoever puts the use cases together.
        let _ = self.on_stop.set(listener);
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
        let application = self.configured(authorized.resource())?.clone();
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
        self.configured(&authorized.resource().application)?;
        self.directory.get(authorized.resource()).await
    }

    /// A page of the tenants of one application, in order of their ids.
    ///
    /// # Errors
    /// `ApplicationNotConfigured`.
    pub async fn list_of_application(
        &self,
        authorized: &Authorized<ReadTenants, ApplicationId>,
        page: Page,
    ) -> Result<Vec<Tenant>, BrokerError> {
        let application = self.configured(authorized.resource())?;
        Ok(self.store.list(Some(application), page.after.as_ref(), page.limit).await?)
    }

    /// A page of the tenants of all applications.
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

    /// Sets or lifts the emergency stop. Deletes nothing.
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
        let unknown = self.unknown(&name);
        self.stop_or_remove(name.clone(), async move {
            store.set_disabled(&name, disabled, now).await?.ok_or(unknown)
        })
        .await
    }

    /// Stores the system user token, and with it drops the ticket of the former one.
    ///
    /// # Errors
    /// `ApplicationNotConfigured`, `TenantNotFound`.
    pub async fn set_system_user_token(
        &self,
        authorized: &Authorized<ManageTenants, TenantName>,
        token: SystemUserToken,
    ) -> Result<Tenant, BrokerError> {
        let name = authorized.resource().clone();
        self.configured(&name.application)?;
        let (store, now) = (Arc::clone(&self.store), self.clock.now());
        self.change(name.clone(), async move {
            found(&name, store.set_system_user_token(&name, token.secret(), now).await?)
        })
        .await
    }

    /// Removes a tenant with its secrets. With `force` its grants are revoked, else there may be none.
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
        let expected = etag.map(version_of);
        let (store, unknown) = (Arc::clone(&self.store), self.unknown(&name));
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

    /// What a consent with `enroll_system_user` does, whose caller had `manageTenants`: adds the tenant if it is not
    /// there, and stores its system user token where an administrator's sign-in brought one.
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
                    found(&name, set).map(drop)
                }
                None => Ok(()),
            }
        })
        .await
    }

    /// Applications that have this tenant. Only for choosing among those already authorized.
    pub(super) async fn applications_of(
        &self,
        tenant: ContextIdentifier,
    ) -> Result<Vec<ApplicationId>, BrokerError> {
        Ok(self.store.applications_of(tenant).await?)
    }

    /// What a tenant that is not in the store lacks. One of an application that is no longer configured can still
    /// be stopped and removed.
    fn unknown(&self, name: &TenantName) -> BrokerError {
        match self.configured(&name.application) {
            Ok(_) => BrokerError::TenantNotFound(name.to_string()),
            Err(error) => error,
        }
    }

    fn configured<'a>(&self, id: &'a ApplicationId) -> Result<&'a ApplicationId, BrokerError> {
        let unknown = || BrokerError::ApplicationNotConfigured(id.clone());
        self.applications.contains(id).then_some(id).ok_or_else(unknown)
    }

    /// A change after which nothing of the tenant may be in memory any more.
    async fn stop_or_remove<T: Send + 'static>(
        &self,
        name: TenantName,
        change: impl Future<Output = Result<T, BrokerError>> + Send + 'static,
    ) -> Result<T, BrokerError> {
        let (directory, on_stop) = (Arc::clone(&self.directory), Arc::clone(&self.on_stop));
        let stopped = name.clone();
        let then = async move {
            // Also after an error: its outcome may be unknown. The tenant is read again.
            if directory.is_stopped(&stopped).await
                && let Some(listener) = on_stop.get()
            {
                listener(&stopped);
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
        let task = self.tasks.spawn_on(change, &self.runtime);
        task.await.unwrap_or_else(|error| Err(BrokerError::Internal(error.to_string().into())))
    }
}

/// Finds the one application under which the `applications/-` name in a field is meant, among those permitted.
///
/// # Errors
/// `TenantNotFound` if none has the tenant, `Invalid` if several have.
pub async fn choose_enrolled<T>(
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

fn found(name: &TenantName, tenant: Option<Tenant>) -> Result<Tenant, BrokerError> {
    tenant.ok_or_else(|| BrokerError::TenantNotFound(name.to_string()))
}

/// The version behind an etag. What is not an etag of ours was never the current one.
fn version_of(etag: &str) -> i64 {
    const NEVER: i64 = -1;
    let version = etag.strip_prefix('"').and_then(|e| e.strip_suffix('"'));
    version.and_then(|version| version.parse().ok()).unwrap_or(NEVER)
}
