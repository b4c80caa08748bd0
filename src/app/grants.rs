//! Grants for commands, which may run while a server uses the same store.

use std::{sync::Arc, time::Duration};

use tokio_util::task::TaskTracker;

use super::{Runtime, StartError, Storage, applications::applications, network::network};
use crate::{
    broker::{Applications, Counters, GrantStores, Impersonation, Statuses, TenantDirectory},
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
    tasks: &TaskTracker,
) -> Impersonation {
    let Runtime { clock, timer, random } = Runtime::system();
    let (applications, counters) = (Arc::new(applications), Arc::new(Counters::default()));
    let directory = Arc::new(TenantDirectory::new(storage.store.clone(), tasks.clone()));
    let statuses = Arc::new(Statuses::new(
        applications.clone(),
        directory.clone(),
        storage.store.clone(),
        clock.clone(),
        random.clone(),
        counters.clone(),
        max_stale_status,
        tasks.clone(),
    ));
    Impersonation::new(
        applications,
        directory,
        statuses,
        GrantStores { grants: storage.store.clone(), leases: storage.store.clone() },
        clock,
        timer,
        random,
        counters,
        Duration::ZERO,
        Box::new(|_, _| None),
        tasks.clone(),
    )
}
