//! Settings of each kind of client.

use std::time::Duration;

/// Connecting takes longer than this only if something is wrong. One lost SYN is sent again after a second (RFC 6298
/// section 2). It is short so that a call whose tenant has left a dead data centre can find it and go there within a
/// deadline of ten seconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Idle connections are closed early: one that the other side has closed would fail an exchange, which is not
/// repeated.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(15);

/// No request starts on an older connection, so that a host that has moved to another address is found there, and no
/// connection outlives a change of the certificate authorities for long. Name servers commonly let addresses be kept for
/// a minute.
const MAX_CONNECTION_AGE: Duration = Duration::from_mins(1);

/// The addresses that a client connects to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Addresses {
    /// Those of the public network: a name that SuperOffice would never use, or a poisoned one, must not lead a
    /// credential to a neighbour.
    Public {
        /// And loopback, which is for tests.
        allow_loopback: bool,
    },
    /// All, for hosts that the configuration names, which may be neighbours.
    Any,
}

/// Settings of one kind of client.
#[derive(Debug, Clone, Copy)]
pub struct Profile {
    /// The addresses that it connects to.
    pub addresses: Addresses,
    /// Whether `http://` is allowed.
    pub plain_http: bool,
    /// The time limit for a connection, the TLS handshake included.
    pub connect_timeout: Duration,
    /// No request starts on a connection that is older.
    pub max_connection_age: Duration,
}

impl Profile {
    /// The client for SuperOffice: its login host, and the Web API of tenants. `timeout` is the limit of a request, and
    /// of its connection. Plain http needs `allow_loopback`, which is for tests.
    #[must_use]
    pub fn superoffice(timeout: Duration, allow_loopback: bool) -> Self {
        Self {
            addresses: Addresses::Public { allow_loopback },
            plain_http: allow_loopback,
            connect_timeout: CONNECT_TIMEOUT.min(timeout),
            max_connection_age: MAX_CONNECTION_AGE,
        }
    }

    /// The client for an issuer of callers' tokens, which may be a neighbour. Which addresses may be plain http, the
    /// room of issuers decides.
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
