//! Reasons why a request failed. The texts contain nothing from the other side, such as names in its certificate.

use std::{error::Error, io, time::Duration};

use http::StatusCode;
use hyper_util::client::legacy;

use super::{proxy::ProxyFault, resolver::ResolveError, tls_fault::TlsFault};
use crate::domain::ProxyAddress;

/// The reason why a request failed, by how far it got.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The host's name cannot be resolved, or only to private addresses.
    #[error("{0}")]
    Name(ResolveError),
    /// The host accepts no connection.
    #[error("cannot connect ({0})")]
    Connect(String),
    /// The TLS handshake with the host failed.
    #[error("cannot connect (TLS: {0})")]
    Tls(TlsFault),
    /// The outbound proxy does not connect to the host.
    #[error("the proxy {proxy} {why}")]
    Proxy {
        /// The proxy.
        proxy: ProxyAddress,
        /// The cause, and what to do.
        why: ProxyFault,
    },
    /// Connecting took too long.
    #[error("the connection timed out")]
    ConnectTimeout,
    /// The response took too long.
    #[error("no response within {0:?}")]
    Timeout(Duration),
    /// The host refused the stream, or closed the connection before it accepted the stream: it did not process the
    /// request (RFC 9113 sections 6.8 and 8.7).
    #[error("the host did not process the request (HTTP/2)")]
    NotProcessed,
    /// The connection broke after the request was sent.
    #[error("the connection broke ({0})")]
    Broken(String),
    /// The host responded with an error status.
    #[error("HTTP {0}")]
    Status(StatusCode),
    /// The response is too large.
    #[error("the response is larger than {0} bytes")]
    TooLarge(usize),
}

impl Fault {
    /// Finds the cause of an error of the client. There, only connecting has a time limit.
    pub(super) fn from_client_error(error: &legacy::Error) -> Self {
        let mut causes = std::iter::successors(error.source(), |&cause| cause.source());
        match causes.find_map(|cause| cause.downcast_ref::<Self>()) {
            // The connector has already found the cause.
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
                    return Self::Tls(TlsFault::from_rustls(tls));
                }
                if is_timeout(cause) {
                    return Self::ConnectTimeout;
                }
            }
            if cause.downcast_ref().is_some_and(is_not_processed) {
                return Self::NotProcessed;
            }
            last = cause;
        }
        let words = match last.downcast_ref::<io::Error>() {
            Some(error) => error_kind(error),
            None if std::ptr::addr_eq(last, error) => "unknown".to_owned(),
            None => safe_description(last).to_owned(),
        };
        if connecting { Self::Connect(words) } else { Self::Broken(words) }
    }
}

/// Returns the kind of an I/O error, without text from the other side.
pub(super) fn error_kind(error: &io::Error) -> String {
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

/// Returns a fixed description, because libraries print data from the other side, such as the debug data of a GOAWAY.
fn safe_description(cause: &(dyn Error + 'static)) -> &'static str {
    if tls_error(cause).is_some() {
        "TLS failed"
    } else {
        "the other side violated the protocol or disconnected"
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
    use rustls::CertificateError;

    use super::*;

    #[test]
    fn error_text_contains_no_names_from_the_certificate() {
        let names = CertificateError::NotValidForNameContext {
            expected: rustls::pki_types::ServerName::try_from("sod.superoffice.com").unwrap(),
            presented: vec!["canary.example".to_owned()],
        };
        let tls = rustls::Error::InvalidCertificate(names);
        let wrapped = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, tls));
        let fault = Fault::Tls(TlsFault::from_rustls(tls_error(&wrapped).unwrap()));
        assert_eq!(fault.to_string(), "cannot connect (TLS: its certificate is for another name)");
    }
}
