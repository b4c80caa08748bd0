//! The validity period of a certificate. TLS libraries check it but do not return it.

use jiff::Timestamp;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// The validity period, including both ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Validity {
    pub(super) not_before: Timestamp,
    pub(super) not_after: Timestamp,
}

impl Validity {
    /// Reads the period from a DER certificate (RFC 5280, 4.1).
    pub(super) fn from_der(certificate: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
        let validity = certificate.validity();
        let instant = |seconds| Timestamp::from_second(seconds).ok();
        Some(Self {
            not_before: instant(validity.not_before.timestamp())?,
            not_after: instant(validity.not_after.timestamp())?,
        })
    }
}
