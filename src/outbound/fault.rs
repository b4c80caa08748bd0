//! Why no answer came, in words of ours alone: what the other side sent, such as the names in its certificate, is not
//! among them.

use std::{error::Error, io, time::Duration};

use http::StatusCode;
use hyper_util::client::legacy;
use rustls::CertificateError;

use super::{proxy::ProxyFault, resolver::Unresolved};
use crate::domain::ProxyAddress;

/// The reason why a request was not answered, by how far it came.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The host's name leads nowhere, or to addresses of our own network.
    #[error("{0}")]
    Name(Unresolved),
    /// The host takes no connection.
    #[error("cannot connect ({0})")]
    Connect(String),
    /// The host does not prove who it is, or speaks no TLS.
    #[error("cannot connect (TLS: {0})")]
    Tls(TlsFault),
    /// The outbound proxy does not lead to the host.
    #[error("the proxy {proxy} {why}")]
    Proxy {
        /// The proxy.
        proxy: ProxyAddress,
        /// The cause, and what to do.
        why: ProxyFault,
    },
    /// It took too long to connect.
    #[error("no connection in time")]
    Unreached,
    /// It took too long.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The host refused the stream, or left before it took it on: it did not process the request (RFC 9113 sections 6.8
    /// and 8.7).
    #[error("the host did not process the request (HTTP/2)")]
    NotProcessed,
    /// It broke off.
    #[error("the connection broke ({0})")]
    Broken(String),
    /// The host says that it cannot serve.
    #[error("HTTP {0}")]
    Status(StatusCode),
    /// More came than an answer can be.
    #[error("more than {0} bytes")]
    TooLarge(usize),
}

/// Why TLS was not agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TlsFault {
    /// The certificate's `notAfter` has passed.
    #[error("its certificate has expired")]
    Expired,
    /// The certificate's `notBefore` is to come.
    #[error("its certificate is not valid yet")]
    NotValidYet,
    /// The certificate does not name the host.
    #[error("its certificate is for another name")]
    OtherName,
    /// None of the authorities that we trust signed the certificate.
    #[error("its certificate is of an authority that is not trusted here")]
    UnknownAuthority,
    /// The host shows the certificate of an authority as its own.
    #[error(
        "its certificate is that of an authority (CA:TRUE), which no server may show as its own"
    )]
    AuthorityAsServer,
    /// The certificate is for another use, such as that of clients.
    #[error("its certificate is not for servers (extended key usage)")]
    OtherPurpose,
    /// The certificate is revoked.
    #[error("its certificate is revoked")]
    Revoked,
    /// The signature is not that of the authority whose name the certificate bears.
    #[error("the signature on its certificate is not that of the trusted authority of this name")]
    BadSignature,
    /// Anything else with the certificate.
    #[error("its certificate is not valid")]
    InvalidCertificate,
    /// Something else than TLS came.
    #[error("it does not speak TLS")]
    NoTls,
    /// No version or cipher in common.
    #[error("it offers no version or cipher that is safe")]
    Incompatible,
    /// The host sent an alert.
    #[error("it refused the handshake")]
    Refused,
    /// Anything else.
    #[error("the handshake failed")]
    Other,
}

impl TlsFault {
    pub(super) fn of(error: &rustls::Error) -> Self {
        match error {
            rustls::Error::InvalidCertificate(certificate) => Self::of_certificate(certificate),
            rustls::Error::InvalidMessage(_) => Self::NoTls,
            rustls::Error::PeerIncompatible(_) => Self::Incompatible,
            rustls::Error::AlertReceived(_) => Self::Refused,
            _ => Self::Other,
        }
    }

    fn of_certificate(error: &CertificateError) -> Self {
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
            // The type behind it is of a crate that only rustls knows; its text is the name of the error.
            CertificateError::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => {
                Self::AuthorityAsServer
            }
            _ => Self::InvalidCertificate,
        }
    }
}

impl Fault {
    /// Finds the cause of an error of the client. Only connecting has a limit there.
    pub(super) fn of_sending(error: &legacy::Error) -> Self {
        let mut causes = std::iter::successors(error.source(), |&cause| cause.source());
        match causes.find_map(|cause| cause.downcast_ref::<Self>()) {
            // The connector has found the cause already.
            Some(fault) => fault.clone(),
            None => Self::from_causes(error, error.is_connect()),
        }
    }

    /// Finds the cause of an error. `connecting`: no connection was made yet.
    pub(super) fn from_causes(error: &(dyn Error + 'static), connecting: bool) -> Self {
        let mut last = error;
        for cause in std::iter::successors(error.source(), |&cause| cause.source()) {
            if let Some(unresolved) = cause.downcast_ref() {
                return Self::Name(*unresolved);
            }
            if connecting {
                // Only while connecting: later, the request may have arrived.
                if let Some(tls) = tls_error(cause) {
                    return Self::Tls(TlsFault::of(tls));
                }
                if is_timeout(cause) {
                    return Self::Unreached;
                }
            }
            if cause.downcast_ref().is_some_and(is_not_processed) {
                return Self::NotProcessed;
            }
            last = cause;
        }
        let words = match last.downcast_ref::<io::Error>() {
            Some(error) => kind(error),
            None if std::ptr::addr_eq(last, error) => "unknown".to_owned(),
            None => own_words(last).to_owned(),
        };
        if connecting { Self::Connect(words) } else { Self::Broken(words) }
    }
}

/// Names the kind of an I/O error, without what the other side said.
pub(super) fn kind(error: &io::Error) -> String {
    deepest(error).kind().to_string()
}

fn is_timeout(cause: &(dyn Error + 'static)) -> bool {
    cause.downcast_ref().is_some_and(|error: &io::Error| error.kind() == io::ErrorKind::TimedOut)
}

fn is_not_processed(error: &h2::Error) -> bool {
    error.is_remote()
        && (error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM)
            || error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR))
}

/// Libraries print what the other side said, such as the debug data of a GOAWAY; we do not.
fn own_words(cause: &(dyn Error + 'static)) -> &'static str {
    if tls_error(cause).is_some() {
        "TLS failed"
    } else {
        "the other side broke the protocol or left"
    }
}

pub(super) fn tls_error<'e>(cause: &'e (dyn Error + 'static)) -> Option<&'e rustls::Error> {
    match cause.downcast_ref::<io::Error>() {
        Some(error) => deepest(error).get_ref()?.downcast_ref(),
        None => cause.downcast_ref(),
    }
}

/// An I/O error that wraps another one does not name it as its source.
fn deepest(error: &io::Error) -> &io::Error {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    inner.map_or(error, deepest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_certificate_says_is_not_repeated() {
        let names = CertificateError::NotValidForNameContext {
            expected: rustls::pki_types::ServerName::try_from("sod.superoffice.com").unwrap(),
            presented: vec!["canary.example".to_owned()],
        };
        let tls = rustls::Error::InvalidCertificate(names);
        let wrapped = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, tls));
        let fault = Fault::Tls(TlsFault::of(tls_error(&wrapped).unwrap()));
        assert_eq!(fault.to_string(), "cannot connect (TLS: its certificate is for another name)");
    }
}
