//! The client of a connection.

use std::{net::IpAddr, sync::Arc};

use crate::access::{CertificateProblem, PeerCertificate};

/// The client of a connection.
#[derive(Clone)]
pub(super) struct Peer {
    pub(super) address: IpAddr,
    /// The address as text, for the audit events.
    pub(super) text: Arc<str>,
    /// The identity in the client certificate, if there is one. It was verified against `client_ca_file`.
    pub(super) certificate: Option<Arc<Result<PeerCertificate, CertificateProblem>>>,
}

impl Peer {
    /// Returns the client with another address.
    pub(super) fn with_address(self, address: IpAddr) -> Self {
        if address == self.address {
            return self;
        }
        Self { address, text: address.to_string().into(), ..self }
    }
}
