//! Grants for a command, beside a server that may be running.

use std::{sync::Arc, time::Duration};

use tokio_util::task::TaskTracker;

use super::{StartError, Storage, Surroundings, applications::applications, network::network};
use crate::{
    broker::{Applications, Counters, Directory, GrantStores, Impersonation, Statuses},
    config::{Config, Secrets},
};

/// The applications, able to talk to SuperOffice; opens no connection.
///
/// # Errors
/// If a private key cannot be read, or outbound TLS cannot be set up.
pub(crate) fn connected(config: &Config, secrets: &Secrets) -> Result<Applications, StartError> {
    let network = network(config, secrets.proxy_password.as_ref())?;
    let surroundings = Surroundings::of_the_machine();
    Ok(applications(config, secrets, &surroundings, &network)?.applications)
}

/// The use cases of grants, over the store alone: nothing is renewed, and no kind of associate is known.
pub(crate) fn impersonation(
    storage: &Storage,
    applications: Applications,
    max_stale_status: Duration,
    tasks: &TaskTracker,
) -> Impersonation {
    let Surroundings { clock, pace, random } = Surroundings::of_the_machine();
    let (applications, counters) = (Arc::new(applications), Arc::new(Counters::default()));
    let directory = Arc::new(Directory::new(storage.store.clone(), tasks.clone()));
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
        pace,
        random,
        counters,
        Duration::ZERO,
        Box::new(|_, _| None),
        tasks.clone(),
    )
}
