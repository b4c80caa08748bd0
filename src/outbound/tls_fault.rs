//! Reasons why a TLS handshake failed.

use rustls::CertificateError;

/// The reason why a TLS handshake failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TlsFault {
    /// The certificate's `notAfter` has passed.
    #[error("its certificate has expired")]
    Expired,
    /// The certificate's `notBefore` is in the future.
    #[error("its certificate is not valid yet")]
    NotValidYet,
    /// The certificate does not name the host.
    #[error("its certificate is for another name")]
    OtherName,
    /// No trusted authority signed the certificate.
    #[error("its certificate is signed by an authority that is not trusted here")]
    UnknownAuthority,
    /// The host uses the certificate of an authority as its own.
    #[error(
        "its certificate is that of an authority (CA:TRUE), which a server must not use as its own"
    )]
    AuthorityAsServer,
    /// The certificate is for another purpose, such as clients.
    #[error("its certificate is not for servers (extended key usage)")]
    OtherPurpose,
    /// The certificate is revoked.
    #[error("its certificate is revoked")]
    Revoked,
    /// The signature is not from the authority that the certificate names.
    #[error("the signature of its certificate is not from the trusted authority of this name")]
    BadSignature,
    /// Any other problem of the certificate.
    #[error("its certificate is not valid")]
    InvalidCertificate,
    /// The host responded with something other than TLS.
    #[error("it does not use TLS")]
    NoTls,
    /// There is no common version or cipher.
    #[error("it offers no secure version or cipher")]
    Incompatible,
    /// The host sent an alert.
    #[error("it refused the handshake")]
    Refused,
    /// Any other failure.
    #[error("the handshake failed")]
    Other,
}

impl TlsFault {
    pub(super) fn from_rustls(error: &rustls::Error) -> Self {
        match error {
            rustls::Error::InvalidCertificate(certificate) => {
                Self::from_certificate_error(certificate)
            }
            rustls::Error::InvalidMessage(_) => Self::NoTls,
            rustls::Error::PeerIncompatible(_) => Self::Incompatible,
            rustls::Error::AlertReceived(_) => Self::Refused,
            _ => Self::Other,
        }
    }

    fn from_certificate_error(error: &CertificateError) -> Self {
        match error {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                Self::NotValidYet
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                Self::OtherName
            }
            CertificateError::UnknownIssuer => Self::UnknownAuthority,
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                Self::OtherPurpose
            }
            CertificateError::Revoked => Self::Revoked,
            CertificateError::BadSignature => Self::BadSignature,
            // The inner type belongs to a crate that only rustls depends on; its text is the name of the error.
            CertificateError::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => {
                Self::AuthorityAsServer
            }
            _ => Self::InvalidCertificate,
        }
    }
}
