//! The one place where adapters meet use cases.

mod applications;
mod gateway;
mod parts;
mod running;
mod storage;

pub(crate) use self::storage::read_keyring;
pub use self::{
    gateway::{Gateway, StartError, Surroundings},
    running::{Ended, Running},
    storage::{Storage, StorageError},
};
