//! From when until when a certificate is valid. Libraries for TLS judge it and do not tell it.

use jiff::Timestamp;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Both ends belong to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Validity {
    pub(super) not_before: Timestamp,
    pub(super) not_after: Timestamp,
}

impl Validity {
    /// Reads it out of a certificate in DER (RFC 5280, 4.1).
    pub(super) fn of(certificate: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
        let validity = certificate.validity();
        let instant = |seconds| Timestamp::from_second(seconds).ok();
        Some(Self {
            not_before: instant(validity.not_before.timestamp())?,
            not_after: instant(validity.not_after.timestamp())?,
        })
    }
}
