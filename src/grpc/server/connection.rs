//! Who is at the other end of a connection.

use std::{net::SocketAddr, sync::Arc};

use tonic::transport::server::Connected;

use crate::{
    access::{CertificateProblem, PeerCertificate},
    listen::{ClientSlot, Connection, Seat},
};

/// Who is at the other end; in the extensions of each request.
#[derive(Debug, Clone)]
pub struct Peer {
    /// The address that the connection comes from.
    pub address: SocketAddr,
    /// Its host as text, for every event of the connection.
    pub ip: Arc<str>,
    /// Of a client that has shown a certificate, which was verified against `client_ca_file`: whom it names.
    pub certificate: Option<Arc<Result<PeerCertificate, CertificateProblem>>>,
    /// The slot of the connection.
    pub slot: ClientSlot,
}

/// What a worker knows of a connection.
pub(super) struct Called {
    peer: Peer,
    _seat: Seat,
}

/// A connection in the hands of its worker.
pub(super) fn called(connection: Connection<Seat>) -> Connection<Called> {
    let address = connection.address();
    let certificate = connection.client_certificate();
    let peer = Peer {
        address,
        ip: address.ip().to_canonical().to_string().into(),
        certificate: certificate.map(|der| Arc::new(PeerCertificate::read(der))),
        slot: connection.slot(),
    };
    let seat = connection.about().clone();
    connection.with(Called { peer, _seat: seat })
}

impl Connected for Connection<Called> {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.about().peer.clone()
    }
}
