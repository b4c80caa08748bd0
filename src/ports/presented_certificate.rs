//! The certificate that a client presented in the TLS handshake.

use std::fmt;

use jiff::Timestamp;

/// The client certificate of an open connection. Its chain was verified in the handshake.
pub trait PresentedCertificate: Send + Sync + fmt::Debug {
    /// Returns the client's own certificate, in DER.
    fn der(&self) -> &[u8];

    /// Returns whether a new connection with this chain would be accepted now: the issuing authority is still
    /// configured, and no certificate in the chain has expired.
    fn is_trusted(&self, now: Timestamp) -> bool;
}
