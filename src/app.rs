//! The one place where adapters meet use cases.

mod access;
mod applications;
mod consents;
mod gateway;
mod grants;
mod listeners;
mod network;
mod own_thread;
mod parts;
mod policy;
mod running;
mod storage;
mod store_watch;

pub(crate) use self::{
    access::inspect_keys,
    applications::diagnoses,
    grants::{connected, impersonation},
    listeners::inspect_tls,
    network::network,
    policy::inspect_policy,
    storage::{known_applications, other_environment, read_keyring, store_path},
};
pub use self::{
    gateway::{Gateway, StartError, Surroundings},
    running::{Ended, Running},
    storage::{Storage, StorageError},
};
