//! The proxy, the certificate authorities and the resolver that all clients share.

use std::{convert::Infallible, fmt, path::PathBuf, sync::Arc};

use async_trait::async_trait;

use super::{
    Profile,
    connector::Connector,
    proxy::OutboundProxy,
    resolver::{NameLookup, Resolver, SystemResolver},
    tls::{CaFileError, ReloadableTls, Tls, TlsError},
};
use crate::{
    domain::Nat64Prefix,
    ports::{Clock, Reloadable},
};

/// The configuration of outbound connections.
#[derive(Debug, Clone, Default)]
pub struct NetworkOptions {
    /// The proxy, if there is one.
    pub proxy: Option<OutboundProxy>,
    /// A PEM file of authorities that are trusted in addition to those of the system. It is reloaded when it changes.
    pub ca_file: Option<PathBuf>,
    /// NAT64 prefixes of the local network, in addition to the well-known one.
    pub nat64_prefixes: Vec<Nat64Prefix>,
}

/// The network cannot be set up.
#[derive(Debug, Clone, thiserror::Error)]
pub enum NetworkError {
    /// The file of authorities cannot be used.
    #[error("{}: {what}", file.display())]
    CaFile {
        /// The file.
        file: PathBuf,
        /// The problem.
        what: String,
    },
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// The proxy, the certificate authorities and the resolver that all clients share. Cheap to clone.
#[derive(Clone)]
pub struct Network(Arc<Inner>);

struct Inner {
    proxy: Option<Arc<OutboundProxy>>,
    trust: ReloadableTls,
    names: Arc<dyn NameLookup>,
    nat64: Arc<[Nat64Prefix]>,
}

impl Network {
    /// Reads the certificate authorities. Opens no connection.
    ///
    /// # Errors
    /// If they cannot be used.
    pub fn new(options: NetworkOptions) -> Result<Self, NetworkError> {
        Self::with_names(options, Arc::new(SystemResolver))
    }

    /// Like [`Self::new`], with a resolver other than the system's.
    ///
    /// # Errors
    /// If the certificate authorities cannot be used.
    pub fn with_names(
        options: NetworkOptions,
        names: Arc<dyn NameLookup>,
    ) -> Result<Self, NetworkError> {
        let NetworkOptions { proxy, ca_file, nat64_prefixes } = options;
        let trust =
            ReloadableTls::load(ca_file.clone()).map_err(|error| match (error, ca_file) {
                (CaFileError::Tls(error), _) => NetworkError::Tls(error),
                (error, file) => {
                    NetworkError::CaFile { file: file.unwrap_or_default(), what: error.to_string() }
                }
            })?;
        let (proxy, nat64) = (proxy.map(Arc::new), nat64_prefixes.into());
        Ok(Self(Arc::new(Inner { proxy, trust, names, nat64 })))
    }

    /// Returns the current TLS settings.
    pub(super) fn tls(&self) -> Arc<Tls> {
        self.0.trust.current()
    }

    pub(super) fn connector(&self, profile: Profile, tls: Arc<Tls>) -> Connector {
        let Inner { proxy, names, nat64, .. } = &*self.0;
        let (names, nat64) = (Arc::clone(names), Arc::clone(nat64));
        let resolver = Resolver { names, addresses: profile.addresses, nat64 };
        Connector::new(profile, tls, proxy.clone(), resolver)
    }

    /// Reloads the file of authorities when it changes. Never returns.
    pub async fn watch(&self, clock: &dyn Clock) -> Infallible {
        self.0.trust.watch(clock).await
    }
}

#[async_trait]
impl Reloadable for Network {
    async fn reload(&self) {
        self.0.trust.check_file(true).await;
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network").field("proxy", &self.0.proxy).finish_non_exhaustive()
    }
}
