//! The composition root: connects adapters and use cases.

mod access;
mod applications;
mod consents;
mod dedicated_thread;
mod gateway;
mod grants;
mod listeners;
mod network;
mod policy;
mod running;
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
    storage::{environment_mismatch, known_applications, read_keyring, store_path},
};
pub use self::{
    gateway::{Gateway, Runtime, StartError},
    running::{Running, ShutdownOutcome},
    storage::{Storage, StorageError},
};
