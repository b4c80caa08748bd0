//! The certificate that a client showed when its connection began.

use std::fmt;

use jiff::Timestamp;

/// A client certificate of an open connection. Its chain was verified when the connection began.
pub trait ShownCertificate: Send + Sync + fmt::Debug {
    /// The client's own certificate, in DER.
    fn der(&self) -> &[u8];

    /// Returns whether the chain would be accepted from a new connection now: an authority that is still configured has
    /// issued it, and no certificate that this needs has expired.
    fn is_trusted(&self, now: Timestamp) -> bool;
}
