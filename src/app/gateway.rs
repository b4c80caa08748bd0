//! Starts the gateway: everything is opened, read and bound before the first call is accepted.

use std::sync::Arc;

use super::{
    access::AccessSetup,
    applications::{ConnectedApplications, applications},
    dedicated_thread::DedicatedThread,
    listeners::Listeners,
    metrics::{observed_metrics, retention_metrics},
    network::{log_proxy, network},
    running::{PreparedGateway, Running},
    servers::ServerBuilder,
    start_error::StartError,
    storage::Storage,
    use_cases::UseCases,
};
use crate::{
    audit::{Retention, RetentionLimits, Trail, certify_public_keys},
    broker::Runtime,
    config::{Config, Secrets},
    http::Readiness,
    listen::IntakeBudget,
    ports::AuditStore as _,
    telemetry::Metrics,
};

/// The gateway.
pub struct Gateway;

impl Gateway {
    /// Starts all configured parts, and returns when they serve.
    ///
    /// # Errors
    /// If a part cannot be started. All other parts are stopped.
    pub async fn start(
        config: Config,
        secrets: &Secrets,
        runtime: Runtime,
    ) -> Result<Running, StartError> {
        config.check_servable()?;
        let network = network(&config, secrets.proxy_password.as_ref())?;
        log_proxy(&config);
        let ConnectedApplications { applications, login_hosts } =
            applications(&config, secrets, &runtime, &network)?;
        let (access, maintenance) = AccessSetup::new(&config, &runtime, network)?.into_parts();
        let listeners = Listeners::open(&config, &runtime.clock)?;
        let mut reloadables = maintenance.reloadables();
        reloadables.extend(listeners.reloadables());
        let storage = Storage::open_to_serve(&config).await?;
        read_chains(&storage).await;
        let use_cases = UseCases::new(&config, &storage, applications, access, &runtime);
        let retention = retention(&config, &storage, &runtime);
        let mut observed = observed_metrics(&use_cases, &runtime.counters, login_hosts);
        observed.extend(retention_metrics(retention.counters()));
        maintenance.attach_trail(&use_cases.audit.trail);
        let readiness = Arc::new(readiness(&storage, &use_cases));
        store_public_keys(&storage).await;
        prepare_chain(&storage, &use_cases.audit.trail).await;
        let builder = ServerBuilder {
            config: &config,
            secrets,
            storage: &storage,
            use_cases: &use_cases,
            runtime: &runtime,
            metrics: Arc::new(Metrics::new(observed)),
            intake: Arc::<IntakeBudget>::default(),
        };
        let servers = builder.build(listeners, &readiness).await?;
        let prepared = PreparedGateway {
            addresses: servers.addresses(&config)?,
            servers,
            readiness,
            retention,
            use_cases: Arc::new(use_cases),
            storage,
            runtime,
            lifecycle: config.lifecycle,
            maintenance,
            reloadables,
            audit_thread: DedicatedThread::start("audit").map_err(StartError::Thread)?,
        };
        Ok(prepared.run().await)
    }
}

fn readiness(storage: &Storage, use_cases: &UseCases) -> Readiness {
    let (trail, statuses) = (use_cases.audit.trail.clone(), use_cases.statuses.clone());
    let stale = move || statuses.stale().map(|stale| stale.to_string());
    Readiness::new(storage.store.clone(), move || trail.stalled(), stale)
}

/// Reads the end of every audit chain. The first event links to all of them, and must not wait for files to be read.
async fn read_chains(storage: &Storage) {
    if let Err(error) = storage.audit.chains().await {
        tracing::warn!(%error, "the audit chains cannot be read yet");
    }
}

/// Prepares the file for the first audit events. A failure does not prevent the start: the file is made with the first
/// event then.
async fn prepare_chain(storage: &Storage, trail: &Trail) {
    if let Err(error) = storage.audit.prepare(trail.chain()).await {
        tracing::warn!(%error, "the first segment of the audit chain cannot be prepared");
    }
}

/// Stores the public keys that verify the audit trail. Only signatures of a key that has left the keyring depend on
/// this, and the next start tries again, so a failure does not prevent the start.
async fn store_public_keys(storage: &Storage) {
    if let Err(error) = certify_public_keys(&*storage.audit, &*storage.audit_signer).await {
        tracing::warn!(%error, "the public keys of the audit trail are not stored");
    }
}

/// Returns the part that deletes audit events.
fn retention(config: &Config, storage: &Storage, runtime: &Runtime) -> Retention {
    let (store, signer) = (storage.audit.clone(), storage.audit_signer.clone());
    let limits =
        RetentionLimits { max_age: config.audit.retention, max_bytes: config.audit.max_bytes };
    Retention::new(store, signer, runtime.clock.clone(), limits)
}
