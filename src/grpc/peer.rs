//! The peer of a connection.

use std::{net::SocketAddr, sync::Arc};

use tonic::transport::server::Connected;

use crate::{
    access::{Access, CertificateProblem, PeerCertificate},
    listen::{ClientSlot, Connection, ConnectionCounter},
};

/// The peer of a connection, in the extensions of each request.
#[derive(Debug, Clone)]
pub struct Peer {
    /// The peer's address.
    pub address: SocketAddr,
    /// The peer's IP address as text, for the audit events.
    pub ip: Arc<str>,
    /// The identity in the client certificate, if there is one. It was verified against `client_ca_file`.
    pub certificate: Option<Arc<Result<PeerCertificate, CertificateProblem>>>,
    /// The connection's slot, which limits unauthorized connections.
    pub slot: ClientSlot,
}

/// The data that a worker adds to a connection.
pub(super) struct PeerConnection {
    peer: Peer,
    _counter: ConnectionCounter,
}

/// Adds the peer to a connection.
pub(super) fn with_peer(
    connection: Connection<ConnectionCounter>,
    access: &Access,
) -> Connection<PeerConnection> {
    let address = connection.address();
    let certificate = connection.client_certificate();
    let peer = Peer {
        address,
        ip: address.ip().to_canonical().to_string().into(),
        certificate: certificate.map(|chain| Arc::new(access.read_certificate(chain))),
        slot: connection.slot(),
    };
    let counter = connection.attachment().clone();
    connection.with_attachment(PeerConnection { peer, _counter: counter })
}

impl Connected for Connection<PeerConnection> {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.attachment().peer.clone()
    }
}
