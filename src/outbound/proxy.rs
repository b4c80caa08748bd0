//! The outbound proxy: for which hosts it is used, and what its faults mean.

use std::{fmt, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::{HeaderValue, StatusCode};
use secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroizing;

use super::{Fault, TlsFault};
use crate::domain::{NoProxy, ProxyAddress};

/// An HTTP proxy through which hosts are reached by `CONNECT`.
#[derive(Clone)]
pub struct OutboundProxy {
    /// Where it listens. Its own address may be private.
    pub address: ProxyAddress,
    /// User name and password of HTTP's Basic authentication, if it asks for them.
    pub credential: Option<(String, SecretString)>,
    /// The hosts that are reached without it.
    pub no_proxy: NoProxy,
}

/// Why the proxy does not lead to the host. Displays what happened and what to do, after the name of the proxy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProxyFault {
    /// Its name leads nowhere.
    #[error(
        "cannot be found, because its name cannot be resolved; correct it in [proxy] or in the environment variable, or \
         let this machine ask a name server that knows it"
    )]
    Name,
    /// It takes no connection.
    #[error(
        "cannot be connected to ({0}); see whether it runs and listens there, and whether a firewall lets this machine \
         connect to it"
    )]
    Connect(String),
    /// It is to be reached over TLS, and does not agree on it.
    #[error(
        "cannot be connected to (TLS: {0}); write http:// if it is a plain HTTP proxy, or set outbound.ca_file to the \
         authority of its certificate"
    )]
    Tls(TlsFault),
    /// It did not connect in time.
    #[error(
        "made no connection to the host within {0:?}; see whether it is overloaded, and whether it reaches the host"
    )]
    Timeout(Duration),
    /// It closed the connection.
    #[error(
        "closed the connection without an answer to CONNECT; see its log, and whether it allows this machine"
    )]
    Closed,
    /// It asks for a credential, and none is configured.
    #[error(
        "asks for a user name and password (HTTP 407); set proxy.username and proxy.password_file"
    )]
    CredentialMissing,
    /// It refused the credential.
    #[error(
        "refused user name and password (HTTP 407); correct proxy.username and what proxy.password_file holds"
    )]
    CredentialRefused,
    /// It asks for a way to authenticate that the gateway does not have.
    #[error(
        "asks for another way to authenticate than Basic (HTTP 407), such as Negotiate or NTLM; let it take Basic from this \
         machine, or allow this machine without a credential"
    )]
    OtherScheme,
    /// It does not allow the host.
    #[error("does not allow the host (HTTP 403); allow CONNECT to it in the rules of the proxy")]
    Denied,
    /// It could not connect to the host, or cannot serve.
    #[error(
        "did not connect to the host (HTTP {0}); see its log, and whether it can resolve and reach the host"
    )]
    Status(StatusCode),
    /// The answer is not that of a proxy.
    #[error(
        "does not answer as an HTTP proxy, but with HTML or another protocol; correct its address and port, and see whether \
         it allows CONNECT"
    )]
    NotAProxy,
    /// It broke the connection while TLS was agreed on with the host.
    #[error("broke the connection to the host ({0}); see its log")]
    Broken(String),
    /// It connected to something else than the host.
    #[error("connected to something that TLS does not accept: {0}{advice}", advice = tunnel_advice(*.0))]
    Host(TlsFault),
}

fn tunnel_advice(fault: TlsFault) -> &'static str {
    match fault {
        TlsFault::OtherName => {
            "; the proxy has connected to another host: see how it resolves the name, or, if it inspects TLS, let it make \
             certificates for the name that was asked for"
        }
        TlsFault::UnknownAuthority | TlsFault::BadSignature => {
            "; if the proxy inspects TLS, set outbound.ca_file to the certificate of its authority"
        }
        TlsFault::NoTls => {
            "; the proxy answers in the host's place, for example with an HTML page: allow CONNECT to the host in its rules"
        }
        _ => "; see whether the proxy inspects TLS, and compare the clocks",
    }
}

impl ProxyFault {
    /// Whether a time limit has passed.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::Timeout(_))
    }
}

impl OutboundProxy {
    /// Returns whether a host is reached through the proxy.
    pub(super) fn is_for(&self, host: &str, port: u16) -> bool {
        !self.no_proxy.matches(host, port)
    }

    /// Returns the value of `Proxy-Authorization` (RFC 7617), if a credential is configured.
    pub(super) fn authorization(&self) -> Option<HeaderValue> {
        let (name, password) = self.credential.as_ref()?;
        let plain = Zeroizing::new(format!("{name}:{}", password.expose_secret()));
        let value = Zeroizing::new(format!("Basic {}", BASE64_STANDARD.encode(plain.as_bytes())));
        let mut value = HeaderValue::from_str(&value).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    pub(super) fn fault(&self, why: ProxyFault) -> Fault {
        Fault::Proxy { proxy: self.address.clone(), why }
    }
}

impl fmt::Debug for OutboundProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutboundProxy")
            .field("address", &self.address)
            .field("no_proxy", &self.no_proxy)
            .finish_non_exhaustive()
    }
}
