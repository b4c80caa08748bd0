//! Grants for commands, which may run while a server uses the same store.

use std::{sync::Arc, time::Duration};

use super::{
    applications::applications, network::network, start_error::StartError, storage::Storage,
};
use crate::{
    broker::{Applications, GrantStores, Impersonation, Runtime, Statuses, TenantDirectory},
    config::{Config, Secrets},
};

/// Returns the applications with their clients for SuperOffice; opens no connection.
///
/// # Errors
/// If a private key cannot be read, or outbound TLS cannot be set up.
pub(crate) fn connect_applications(
    config: &Config,
    secrets: &Secrets,
) -> Result<Applications, StartError> {
    let network = network(config, secrets.proxy_password.as_ref())?;
    let runtime = Runtime::system();
    Ok(applications(config, secrets, &runtime, &network)?.applications)
}

/// Returns the use cases of grants on the store alone: without background renewal and without types of associates.
pub(crate) fn impersonation(
    storage: &Storage,
    applications: Applications,
    max_stale_status: Duration,
    runtime: &Runtime,
) -> Impersonation {
    let applications = Arc::new(applications);
    let directory = Arc::new(TenantDirectory::new(storage.store.clone(), runtime));
    let statuses = Arc::new(Statuses::new(
        applications.clone(),
        directory.clone(),
        storage.store.clone(),
        max_stale_status,
        runtime,
    ));
    Impersonation::new(
        applications,
        directory,
        statuses,
        GrantStores { grants: storage.store.clone(), leases: storage.store.clone() },
        Duration::ZERO,
        Box::new(|_, _| None),
        runtime,
    )
}
