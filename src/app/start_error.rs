//! The errors that prevent the start of the gateway.

use std::{io, net::SocketAddr};

use super::storage::StorageError;
use crate::{config::ConfigError, grpc::ServeError, listen::bind_error_advice};

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

impl StartError {
    /// Returns the error for the listener that `key` configures.
    pub(super) fn listen(key: &'static str, address: SocketAddr, source: io::Error) -> Self {
        Self::Listen { key, address, remedy: bind_error_advice(address, &source), source }
    }
}

impl From<StorageError> for StartError {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Config(error) => Self::Config(error),
            other => Self::Storage(other),
        }
    }
}
