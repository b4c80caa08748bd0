//! Name resolution, limited to the addresses of a profile.

use std::{
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    vec,
};

use async_trait::async_trait;
use hyper_util::client::legacy::connect::dns::Name;
use tower::Service;

use super::Addresses;
use crate::domain::{Nat64Prefix, is_public_address};

/// The reason why a host's name cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// The name does not exist, or no name server answers.
    #[error("the name of the host cannot be resolved")]
    Unknown,
    /// The name has no public address.
    #[error("the name of the host has no public address")]
    NotPublic,
}

/// Resolves names.
#[async_trait]
pub trait NameLookup: Send + Sync + 'static {
    /// Returns all addresses of a name, the preferred ones first.
    async fn lookup(&self, name: &str) -> io::Result<Vec<IpAddr>>;
}

/// Resolves with the system.
#[derive(Debug, Clone, Copy)]
pub struct SystemResolver;

#[async_trait]
impl NameLookup for SystemResolver {
    async fn lookup(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let found = tokio::net::lookup_host((name, 0)).await?;
        Ok(found.map(|address| address.ip()).collect())
    }
}

/// Resolves names to the addresses that a client may connect to.
#[derive(Clone)]
pub(super) struct Resolver {
    pub(super) names: Arc<dyn NameLookup>,
    pub(super) addresses: Addresses,
    pub(super) nat64: Arc<[Nat64Prefix]>,
}

impl Resolver {
    /// Returns whether the client may connect to an address.
    pub(super) fn allows(&self, address: IpAddr) -> bool {
        match self.addresses {
            Addresses::Any => true,
            Addresses::Public { allow_loopback } => {
                let loopback = allow_loopback && address.to_canonical().is_loopback();
                loopback || is_public_address(address, &self.nat64)
            }
        }
    }

    async fn resolve(&self, name: &str) -> Result<Vec<SocketAddr>, ResolveError> {
        let found = self.names.lookup(name).await.map_err(|_| ResolveError::Unknown)?;
        if found.is_empty() {
            return Err(ResolveError::Unknown);
        }
        let allowed = found.into_iter().filter(|address| self.allows(*address));
        let usable: Vec<_> = allowed.map(|address| SocketAddr::new(address, 0)).collect();
        if usable.is_empty() { Err(ResolveError::NotPublic) } else { Ok(usable) }
    }
}

impl Service<Name> for Resolver {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = ResolveError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, ResolveError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ResolveError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let resolver = self.clone();
        Box::pin(async move { Ok(resolver.resolve(name.as_str()).await?.into_iter()) })
    }
}
