//! The outbound proxy: the hosts that it is used for, and its faults.

use std::{fmt, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::{HeaderValue, StatusCode};
use secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroizing;

use super::tls_fault::TlsFault;
use crate::domain::{NoProxy, ProxyAddress};

/// An HTTP proxy that connects to hosts with `CONNECT`.
#[derive(Clone)]
pub struct OutboundProxy {
    /// The address of the proxy, which may be private.
    pub address: ProxyAddress,
    /// User name and password for HTTP Basic authentication, if configured.
    pub credential: Option<(String, SecretString)>,
    /// The hosts that are connected to directly.
    pub no_proxy: NoProxy,
}

/// The reason why the proxy does not connect to the host, and what to do. The text follows the name of the proxy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProxyFault {
    /// Its name cannot be resolved.
    #[error(
        "cannot be resolved; correct its name in [proxy] or in the environment variable, or configure this machine to \
         use a name server that knows it"
    )]
    Name,
    /// It accepts no connection.
    #[error(
        "cannot be connected to ({0}); check whether it runs and listens there, and whether a firewall blocks this \
         machine"
    )]
    Connect(String),
    /// The TLS handshake with the proxy failed.
    #[error(
        "cannot be connected to (TLS: {0}); write http:// if it is a plain HTTP proxy, or set outbound.ca_file to the \
         CA of its certificate"
    )]
    Tls(TlsFault),
    /// It did not connect in time.
    #[error(
        "did not connect to the host within {0:?}; check whether it is overloaded, and whether it can reach the host"
    )]
    Timeout(Duration),
    /// It closed the connection.
    #[error(
        "closed the connection without a response to CONNECT; check its log, and whether it allows this machine"
    )]
    Closed,
    /// It requires a credential, and none is configured.
    #[error(
        "requires a user name and password (HTTP 407); set proxy.username and proxy.password_file"
    )]
    CredentialMissing,
    /// It rejected the credential.
    #[error(
        "rejected the user name and password (HTTP 407); correct proxy.username and the content of proxy.password_file"
    )]
    CredentialRefused,
    /// It requires an authentication scheme that the gateway does not support.
    #[error(
        "requires an authentication scheme other than Basic (HTTP 407), such as Negotiate or NTLM; configure it to \
         accept Basic from this machine, or to allow this machine without a credential"
    )]
    OtherScheme,
    /// It does not allow the host.
    #[error("does not allow the host (HTTP 403); allow CONNECT to it in the rules of the proxy")]
    Denied,
    /// It could not connect to the host, or cannot serve.
    #[error(
        "did not connect to the host (HTTP {0}); check its log, and whether it can resolve and reach the host"
    )]
    Status(StatusCode),
    /// The response is not that of a proxy.
    #[error(
        "does not respond as an HTTP proxy, but with HTML or another protocol; correct its address and port, and check \
         whether it allows CONNECT"
    )]
    NotAProxy,
    /// It closed the connection during the TLS handshake with the host.
    #[error("closed the connection to the host ({0}); check its log")]
    Broken(String),
    /// It connected to something other than the host.
    #[error("connected, but the TLS handshake with the host failed: {0}{advice}", advice = tunnel_advice(*.0))]
    Host(TlsFault),
}

fn tunnel_advice(fault: TlsFault) -> &'static str {
    match fault {
        TlsFault::OtherName => {
            "; the proxy has connected to another host: check how it resolves the name, or, if it inspects TLS, configure \
             it to issue certificates for the requested name"
        }
        TlsFault::UnknownAuthority | TlsFault::BadSignature => {
            "; if the proxy inspects TLS, set outbound.ca_file to the certificate of its CA"
        }
        TlsFault::NoTls => {
            "; the proxy responds instead of the host, for example with an HTML page: allow CONNECT in its rules"
        }
        _ => "; check whether the proxy inspects TLS, and compare the clocks",
    }
}

impl ProxyFault {
    /// Returns whether a time limit has passed.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::Timeout(_))
    }
}

impl OutboundProxy {
    /// Returns whether the proxy is used for a host.
    pub(super) fn applies_to(&self, host: &str, port: u16) -> bool {
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
}

impl fmt::Debug for OutboundProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutboundProxy")
            .field("address", &self.address)
            .field("no_proxy", &self.no_proxy)
            .finish_non_exhaustive()
    }
}
