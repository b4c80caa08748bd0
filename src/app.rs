//! The composition root: connects adapters and use cases.

mod access;
mod applications;
mod consents;
mod dedicated_thread;
mod gateway;
mod grants;
mod grpc_handlers;
mod journal_upkeep;
mod listeners;
mod metrics;
mod network;
mod policy;
mod running;
mod runtime;
mod servers;
mod start_error;
mod storage;
mod store_monitor;
mod use_cases;

pub(crate) use self::{
    access::inspect_keys,
    applications::login_host_diagnoses,
    grants::{connect_applications, impersonation},
    listeners::inspect_tls,
    network::network,
    policy::inspect_policy,
    storage::{
        audit_directory, environment_mismatch, known_applications, read_keyring, store_path,
    },
};
pub use self::{
    gateway::Gateway,
    running::{Running, ShutdownOutcome},
    start_error::StartError,
    storage::{Storage, StorageError},
};
pub use crate::broker::Runtime;
