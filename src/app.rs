//! The one place where adapters meet use cases.

mod access;
mod applications;
mod gateway;
mod own_thread;
mod parts;
mod running;
mod storage;

pub(crate) use self::{
    access::{inspect_policy, usable_keys},
    applications::diagnoses,
    gateway::inspect_tls,
    storage::{known_applications, other_environment, read_keyring, store_path},
};
pub use self::{
    gateway::{Gateway, StartError, Surroundings},
    running::{Ended, Running},
    storage::{Storage, StorageError},
};
