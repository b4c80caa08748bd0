//! Starts the gateway: everything is opened, read and bound before the first call is accepted.

use std::{io, net::SocketAddr, sync::Arc};

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Running, Storage, StorageError,
    access::AccessSetup,
    applications::{ConnectedApplications, applications},
    dedicated_thread::DedicatedThread,
    listeners::{Listeners, egress_server, http_server},
    network::{log_proxy, network},
    running::PreparedGateway,
    use_cases::UseCases,
};
use crate::{
    broker::certify_public_keys,
    config::{Config, ConfigError, Secrets},
    crypto::SystemRandom,
    grpc::{GrpcOptions, GrpcServer, ServeError},
    http::{AdminServer, Readiness},
    listen::{IntakeBudget, bind_error_advice},
    ports::{Clock, Random, SystemClock},
    telemetry::Metrics,
};

/// An error that prevents the start of the gateway.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is invalid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The store cannot be used.
    #[error(transparent)]
    Storage(StorageError),
    /// An address cannot be listened on.
    #[error("{key} = {address}: cannot listen on this address: {source}; {remedy}")]
    Listen {
        /// The key of the configuration.
        key: &'static str,
        /// The address.
        address: SocketAddr,
        /// The error of the operating system.
        source: io::Error,
        /// The action that solves the problem.
        remedy: &'static str,
    },
    /// The operating system does not start another thread.
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

/// The sources of time and randomness.
#[derive(Clone)]
pub struct Runtime {
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The clock for short internal waits, such as that of the audit trail for the store. It is separate because a test
    /// that advances `clock` by hours must not make these waits time out.
    pub timer: Arc<dyn Clock>,
    /// The source of random ids and jitter.
    pub random: Arc<dyn Random>,
}

impl Runtime {
    /// Returns the clock and the random number generator of the system.
    #[must_use]
    pub fn system() -> Self {
        let clock = Arc::new(SystemClock);
        Self { clock: clock.clone(), timer: clock, random: Arc::new(SystemRandom) }
    }
}

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
        let mut reloadables = maintenance.reloadables();
        let listeners = Listeners::open(&config, &runtime.clock)?;
        reloadables.extend(listeners.reloadables());
        let storage = Storage::open_to_serve(&config).await?;
        let tasks = TaskTracker::new();
        let goaway = CancellationToken::new();
        let stopping = goaway.clone();
        let use_cases =
            UseCases::new(&config, &storage, applications, access, &runtime, &tasks, stopping);
        let metrics = Arc::new(Metrics::new(use_cases.observed(login_hosts)));
        let audit = Arc::clone(&use_cases.services.audit);
        maintenance.attach_trail(&audit.trail);
        let stalled = move || audit.trail.stalled();
        let statuses = Arc::clone(&use_cases.services.statuses);
        let stale = move || statuses.stale().map(|stale| stale.to_string());
        let readiness = Arc::new(Readiness::new(storage.store.clone(), stalled, stale));
        let certified = certify_public_keys(&*storage.store, &*storage.audit_signer).await;
        if let Err(error) = certified {
            // Only signatures of a key that has left the keyring depend on this, and the next start tries again.
            tracing::warn!(%error, "the public keys of the audit trail are not stored");
        }
        let page = Arc::clone(&metrics);
        let intake = Arc::<IntakeBudget>::default();
        let page = move || page.page();
        let admin = AdminServer::new(listeners.admin, Arc::clone(&readiness), page, intake.clone());
        let http = listeners.http.map(|listener| {
            http_server(
                listener,
                &config,
                secrets,
                &use_cases,
                &runtime,
                metrics.clone(),
                intake.clone(),
            )
        });
        let egress = listeners.egress.map(|listener| {
            egress_server(listener, &config, &use_cases, &runtime, metrics.clone(), intake.clone())
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
        let Runtime { clock, random, .. } = runtime;
        let services = Arc::clone(&use_cases.services);
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
        let audit_thread = DedicatedThread::start("audit").map_err(StartError::Thread)?;
        let started = PreparedGateway {
            grpc,
            http,
            egress,
            admin,
            readiness,
            use_cases,
            storage,
            clock,
            tasks,
            goaway,
            lifecycle,
            maintenance,
            reloadables,
            audit_thread,
        };
        started.run().await.map_err(|source| StartError::Listen {
            key: "grpc.listen",
            address: config.grpc.listen,
            remedy: bind_error_advice(config.grpc.listen, &source),
            source,
        })
    }
}
