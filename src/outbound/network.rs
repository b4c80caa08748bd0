//! The network: the proxy, the certificate authorities and the resolver that all clients share.

use std::{convert::Infallible, fmt, path::PathBuf, sync::Arc};

use async_trait::async_trait;

use super::{
    HttpClient, Profile,
    client::Shared,
    connector::Connector,
    proxy::OutboundProxy,
    resolver::{NameLookup, Resolver, SystemNames},
    tls::{Authorities, CaFileError, Tls, TlsError, Trust},
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
    /// PEM certificates of authorities that are trusted beside those of the system. Read again when it changes.
    pub ca_file: Option<PathBuf>,
    /// Prefixes of the own network's NAT64, beside the well-known one.
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
        /// The mistake in it.
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
    trust: Trust,
    names: Arc<dyn NameLookup>,
    nat64: Arc<[Nat64Prefix]>,
}

impl Network {
    /// Reads the certificate authorities. Connects nothing.
    ///
    /// # Errors
    /// If they cannot be used.
    pub fn new(options: NetworkOptions) -> Result<Self, NetworkError> {
        Self::with_names(options, Arc::new(SystemNames))
    }

    /// As [`Self::new`], with another resolver than the system's.
    ///
    /// # Errors
    /// If the certificate authorities cannot be used.
    pub fn with_names(
        options: NetworkOptions,
        names: Arc<dyn NameLookup>,
    ) -> Result<Self, NetworkError> {
        let NetworkOptions { proxy, ca_file, nat64_prefixes } = options;
        let trust = Trust::load(ca_file.clone()).map_err(|error| match (error, ca_file) {
            (CaFileError::Tls(error), _) => NetworkError::Tls(error),
            (error, file) => {
                NetworkError::CaFile { file: file.unwrap_or_default(), what: error.to_string() }
            }
        })?;
        let (proxy, nat64) = (proxy.map(Arc::new), nat64_prefixes.into());
        Ok(Self(Arc::new(Inner { proxy, trust, names, nat64 })))
    }

    /// Makes a client.
    #[must_use]
    pub fn client(&self, profile: Profile) -> HttpClient {
        HttpClient::new(Shared { network: self.clone(), profile, own: None })
    }

    /// Makes a client for hosts whose certificates these authorities alone may sign.
    ///
    /// # Errors
    /// If TLS cannot be set up with them.
    pub fn client_trusting(
        &self,
        profile: Profile,
        authorities: Authorities,
    ) -> Result<HttpClient, TlsError> {
        let own = Tls::only(authorities, &self.0.trust.in_force())?;
        let own = Some(Arc::new(own));
        Ok(HttpClient::new(Shared { network: self.clone(), profile, own }))
    }

    /// Returns the settings of TLS that are in force.
    pub(super) fn tls(&self) -> Arc<Tls> {
        self.0.trust.in_force()
    }

    pub(super) fn connector(&self, profile: Profile, tls: Arc<Tls>) -> Connector {
        let Inner { proxy, names, nat64, .. } = &*self.0;
        let (names, nat64) = (Arc::clone(names), Arc::clone(nat64));
        let resolver = Resolver { names, addresses: profile.addresses, nat64 };
        Connector::new(profile, tls, proxy.clone(), resolver)
    }

    /// Takes changes of the file of authorities, for ever.
    pub async fn watch(&self, clock: &dyn Clock) -> Infallible {
        self.0.trust.watch(clock).await
    }
}

#[async_trait]
impl Reloadable for Network {
    async fn reload(&self) {
        self.0.trust.look(true).await;
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network").field("proxy", &self.0.proxy).finish_non_exhaustive()
    }
}
