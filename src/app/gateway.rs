//! Starting: everything is opened, read and bound before the first call is let in.

use std::{io, net::SocketAddr, sync::Arc};

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Running, Storage, StorageError,
    access::Doors,
    applications::{Connected, applications},
    listeners::{Listeners, egress_server, http_server},
    network::{announce, network},
    own_thread::OwnThread,
    parts::Parts,
    running::Started,
};
use crate::{
    broker::certify_public_keys,
    config::{Config, ConfigError, Secrets},
    crypto::SystemRandom,
    grpc::{GrpcOptions, GrpcServer, ServeError},
    http::{Admin, Readiness},
    listen::{IntakeBudget, why_not_bound},
    ports::{Clock, Random, SystemClock},
    telemetry::Metrics,
};

/// Why the gateway does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is the cause.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The store is.
    #[error(transparent)]
    Storage(StorageError),
    /// A listener cannot be had.
    #[error("{key} = {address}: cannot listen there: {source}; {mend}")]
    Listen {
        /// The key of the configuration.
        key: &'static str,
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
        /// What to do.
        mend: &'static str,
    },
    /// There is no thread to be had.
    #[error("a thread cannot be started: {0}")]
    Thread(io::Error),
    /// The gRPC services cannot be set up.
    #[error(transparent)]
    Grpc(#[from] ServeError),
}

impl From<StorageError> for StartError {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Config(error) => Self::Config(error),
            other => Self::Storage(other),
        }
    }
}

/// What comes in from outside the program.
#[derive(Clone)]
pub struct Surroundings {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// By which the audit trail waits for the store. The same time; apart because a test that leaps over hours would
    /// leap over the patience with a store that answers in a millisecond.
    pub pace: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
}

impl Surroundings {
    /// The machine's.
    #[must_use]
    pub fn of_the_machine() -> Self {
        let clock = Arc::new(SystemClock);
        Self { clock: clock.clone(), pace: clock, random: Arc::new(SystemRandom) }
    }
}

/// The gateway.
pub struct Gateway;

impl Gateway {
    /// Starts all that the configuration asks for, and returns once it serves.
    ///
    /// # Errors
    /// With what is wrong and how to mend it; then nothing runs.
    pub async fn start(
        config: Config,
        secrets: &Secrets,
        surroundings: Surroundings,
    ) -> Result<Running, StartError> {
        config.check_servable()?;
        let network = network(&config, secrets.proxy_password.as_ref())?;
        announce(&config);
        let Connected { applications, login_hosts } =
            applications(&config, secrets, &surroundings, &network)?;
        let (access, upkeep) = Doors::new(&config, &surroundings, network)?.open();
        let mut reloadables = upkeep.reloadables();
        let listeners = Listeners::open(&config, &surroundings.clock)?;
        reloadables.extend(listeners.reloadables());
        let storage = Storage::open_to_serve(&config).await?;
        let tasks = TaskTracker::new();
        let goaway = CancellationToken::new();
        let stopping = goaway.clone();
        let parts =
            Parts::new(&config, &storage, applications, access, &surroundings, &tasks, stopping);
        let metrics = Arc::new(Metrics::new(parts.observed(login_hosts)));
        let audit = Arc::clone(&parts.services.audit);
        upkeep.tell(&audit.trail);
        let stalled = move || audit.trail.stalled();
        let statuses = Arc::clone(&parts.services.statuses);
        let stale = move || statuses.stale().map(|stale| stale.to_string());
        let readiness = Arc::new(Readiness::new(storage.store.clone(), stalled, stale));
        let certified = certify_public_keys(&*storage.store, &*storage.audit_signer).await;
        if let Err(error) = certified {
            // Only a rotated key that has left the keyring will be missed, and the next start tries again.
            tracing::warn!(%error, "the public keys of the audit trail are not stored");
        }
        let page = Arc::clone(&metrics);
        let intake = Arc::<IntakeBudget>::default();
        let page = move || page.page();
        let admin = Admin::new(listeners.admin, Arc::clone(&readiness), page, intake.clone());
        let http = listeners.http.map(|listener| {
            http_server(
                listener,
                &config,
                secrets,
                &parts,
                &surroundings,
                metrics.clone(),
                intake.clone(),
            )
        });
        let egress = listeners.egress.map(|listener| {
            egress_server(listener, &config, &parts, &surroundings, metrics.clone(), intake.clone())
        });
        let options = GrpcOptions {
            reflection: config.grpc.reflection,
            envoy: config.envoy.enabled,
            default_deadline: config.grpc.default_deadline,
            web_api_timeout: config.web_api.timeout,
            max_connection_age: config.grpc.max_connection_age,
            tls: listeners.grpc.tls,
            proxies: listeners.grpc.proxies,
            intake,
        };
        let Surroundings { clock, random, .. } = surroundings;
        let services = Arc::clone(&parts.services);
        let grpc = GrpcServer::new(
            listeners.grpc.socket,
            services,
            clock.clone(),
            random,
            metrics,
            options,
        )
        .await?;
        let lifecycle = config.lifecycle;
        let audit_thread = OwnThread::start("audit").map_err(StartError::Thread)?;
        let started = Started {
            grpc,
            http,
            egress,
            admin,
            readiness,
            parts,
            storage,
            clock,
            tasks,
            goaway,
            lifecycle,
            upkeep,
            reloadables,
            audit_thread,
        };
        started.run().await.map_err(|source| StartError::Listen {
            key: "grpc.listen",
            address: config.grpc.listen,
            mend: why_not_bound(config.grpc.listen, &source),
            source,
        })
    }
}
