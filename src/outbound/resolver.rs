//! Name resolution with a typed error, so that a fault can name its cause.

use std::net::SocketAddr;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Why a host's name leads nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unresolved {
    /// There is no such name, or no name server answers.
    #[error("the name of the host cannot be resolved")]
    Unknown,
    /// There is, but not on the public network.
    #[error("the name of the host has no public address")]
    NotPublic,
}

/// Resolves with the system, to any address.
#[derive(Debug)]
pub struct SystemAddresses;

impl Resolve for SystemAddresses {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await;
            let found: Vec<SocketAddr> = found.map_err(|_| Unresolved::Unknown)?.collect();
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}
