//! Settings of each kind of client.

use std::time::Duration;

/// The time limit for connecting. One lost SYN is sent again after a second (RFC 6298 section 2). The limit is short so
/// that a call to a dead data centre can find the tenant's new one within a deadline of ten seconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Idle connections are closed early: a request on a connection that the other side has closed fails, and token
/// exchanges are not retried.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(15);

/// The age after which a connection takes no new request. So a host that moves to another address is found there, and a
/// change of the certificate authorities takes effect soon. Name servers commonly allow caching addresses for a minute.
const MAX_CONNECTION_AGE: Duration = Duration::from_mins(1);

/// The addresses that a client connects to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Addresses {
    /// Public addresses: a wrong or poisoned name must not send a credential into the private network.
    Public {
        /// Also allows loopback addresses, for tests.
        allow_loopback: bool,
    },
    /// All addresses, for hosts that the configuration names. They may be in the private network.
    Any,
}

/// Settings of one kind of client.
#[derive(Debug, Clone, Copy)]
pub struct Profile {
    /// The addresses that it connects to.
    pub addresses: Addresses,
    /// Whether `http://` is allowed.
    pub plain_http: bool,
    /// The time limit for connecting, including the TLS handshake.
    pub connect_timeout: Duration,
    /// The age after which a connection takes no new request.
    pub max_connection_age: Duration,
}

impl Profile {
    /// Returns the profile for SuperOffice: its login host, and the Web API of tenants. `timeout` limits a request, and
    /// its connection. Plain HTTP needs `allow_loopback`, which is for tests.
    #[must_use]
    pub fn superoffice(timeout: Duration, allow_loopback: bool) -> Self {
        Self {
            addresses: Addresses::Public { allow_loopback },
            plain_http: allow_loopback,
            connect_timeout: CONNECT_TIMEOUT.min(timeout),
            max_connection_age: MAX_CONNECTION_AGE,
        }
    }

    /// Returns the profile for an issuer of callers' tokens, which may be in the private network. The module `issuers`
    /// checks which addresses may use plain HTTP.
    #[must_use]
    pub fn issuer() -> Self {
        Self {
            addresses: Addresses::Any,
            plain_http: true,
            connect_timeout: CONNECT_TIMEOUT,
            max_connection_age: MAX_CONNECTION_AGE,
        }
    }
}
