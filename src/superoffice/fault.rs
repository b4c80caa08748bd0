//! Why no answer came, in words of ours alone: what the other side sent, such as the names in its certificate, is not
//! among them.

use std::{error::Error, io, time::Duration};

use hyper_util::client::legacy;
use reqwest::StatusCode;
use rustls::CertificateError;

use super::{
    client::{Profile, Repeat},
    resolver::Unresolved,
};
use crate::ports::UpstreamError;

/// What became of a request that was not answered, by how far it came.
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
    Tls(&'static str),
    /// It took too long to connect.
    #[error("no connection in time")]
    Unreached,
    /// It took too long.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
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

impl Fault {
    pub(super) fn new(error: &reqwest::Error, timeout: Duration) -> Self {
        if error.is_timeout() && !error.is_connect() {
            return Self::Timeout(timeout);
        }
        Self::from_causes(error, error.is_connect(), error.is_timeout())
    }

    /// A call of the Web API that was not answered. Only connecting has a limit there.
    pub(super) fn of_sending(error: &legacy::Error) -> Self {
        let causes = std::iter::successors(error.source(), |&cause| cause.source());
        let timed_out = causes
            .filter_map(|cause| cause.downcast_ref::<io::Error>())
            .any(|cause| cause.kind() == io::ErrorKind::TimedOut);
        Self::from_causes(error, error.is_connect(), timed_out)
    }

    fn from_causes(error: &(dyn Error + 'static), connecting: bool, timed_out: bool) -> Self {
        if connecting && timed_out {
            return Self::Unreached;
        }
        let mut last = error;
        for cause in std::iter::successors(error.source(), |&cause| cause.source()) {
            if let Some(unresolved) = cause.downcast_ref() {
                return Self::Name(*unresolved);
            }
            // Only while connecting: later, the request may have arrived.
            if connecting && let Some(tls) = tls_error(cause) {
                return Self::Tls(tls_words(tls));
            }
            last = cause;
        }
        let words = match last.downcast_ref::<io::Error>() {
            Some(error) => deepest(error).kind().to_string(),
            None if std::ptr::addr_eq(last, error) => "unknown".to_owned(),
            None => own_words(last).to_owned(),
        };
        if connecting { Self::Connect(words) } else { Self::Broken(words) }
    }

    /// Whether the request may be sent again. Not after a time-out, which has used up the caller's patience.
    pub(super) fn may_be_repeated(&self, repeat: Repeat) -> bool {
        match self {
            Self::Name(_) | Self::Connect(_) | Self::Tls(_) => true,
            Self::Broken(_) | Self::Status(_) => repeat == Repeat::Reads,
            Self::Unreached | Self::Timeout(_) | Self::TooLarge(_) => false,
        }
    }

    /// Whether the request surely did not arrive.
    pub(super) fn is_before_sending(&self) -> bool {
        matches!(self, Self::Unreached) || self.may_be_repeated(Repeat::OnlyIfNotSent)
    }

    /// Whether the host as a whole does not answer. A status that may be about one tenant says nothing of others.
    pub(super) fn is_the_hosts(&self) -> bool {
        match self {
            Self::Name(_)
            | Self::Connect(_)
            | Self::Tls(_)
            | Self::Unreached
            | Self::Timeout(_)
            | Self::Broken(_) => true,
            Self::Status(status) => matches!(
                *status,
                StatusCode::BAD_GATEWAY
                    | StatusCode::SERVICE_UNAVAILABLE
                    | StatusCode::GATEWAY_TIMEOUT
            ),
            Self::TooLarge(_) => false,
        }
    }

    pub(super) fn of(self, profile: Profile) -> UpstreamError {
        let text = format!("{}: {self}", profile.what);
        match self {
            Self::TooLarge(_) => UpstreamError::InvalidResponse(text),
            _ => UpstreamError::Unavailable(text),
        }
    }
}

/// Libraries print what the other side said, such as the debug data of a GOAWAY; we do not.
fn own_words(cause: &(dyn Error + 'static)) -> &'static str {
    if tls_error(cause).is_some() {
        "TLS failed"
    } else {
        "the other side broke the protocol or left"
    }
}

fn tls_error<'e>(cause: &'e (dyn Error + 'static)) -> Option<&'e rustls::Error> {
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

fn tls_words(error: &rustls::Error) -> &'static str {
    match error {
        rustls::Error::InvalidCertificate(certificate) => match certificate {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "its certificate has expired"
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "its certificate is not valid yet"
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "its certificate is for another name"
            }
            CertificateError::UnknownIssuer => {
                "its certificate is of an authority that this machine does not know"
            }
            _ => "its certificate is not valid",
        },
        rustls::Error::InvalidMessage(_) => "it does not speak TLS",
        rustls::Error::PeerIncompatible(_) => "it offers no version or cipher that is safe",
        rustls::Error::AlertReceived(_) => "it refused the handshake",
        _ => "the handshake failed",
    }
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
        let words = tls_words(tls_error(&wrapped).unwrap());
        assert_eq!(words, "its certificate is for another name");
    }

    #[test]
    fn only_what_surely_was_not_sent_is_repeated_where_doing_it_twice_costs() {
        let connect = Fault::Connect(String::new());
        let broken = Fault::Broken(String::new());
        let timeout = Fault::Timeout(Duration::ZERO);
        for (fault, read, exchange) in
            [(connect, true, true), (broken, true, false), (timeout, false, false)]
        {
            assert_eq!(fault.may_be_repeated(Repeat::Reads), read, "{fault}");
            assert_eq!(fault.may_be_repeated(Repeat::OnlyIfNotSent), exchange, "{fault}");
            assert_eq!(fault.is_before_sending(), exchange, "{fault}");
        }
        // It has used up the caller's patience, and no more than that.
        assert!(Fault::Unreached.is_before_sending());
        assert!(!Fault::Unreached.may_be_repeated(Repeat::Reads));
    }
}
