//! How a sandbox is started.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

/// Where a sandbox listens, and the rules the documentation leaves open.
#[derive(Clone, Debug)]
pub struct Options {
    /// Address of the login host. Port 0 takes any free port.
    pub login: SocketAddr,
    /// Addresses of API hosts A and B.
    pub api: [SocketAddr; 2],
    /// Address of the control host.
    pub control: SocketAddr,
    /// The issuer in the discovery document. The default is the login address, without a
    /// trailing slash and without `/login`.
    pub issuer: Option<String>,
    /// How far the timestamp of a signed system user token may be from the sandbox's clock.
    pub allowed_skew: Duration,
    /// How long a tenant status says it is valid. [`Control`](crate::Control) can change it.
    pub status_validity: Duration,
    /// How long a ticket lives after its last use.
    pub ticket_lifetime: Duration,
    /// Answers 404 for the status of an unknown tenant, instead of 200 with state `Unknown`.
    pub unknown_tenant_is_404: bool,
    /// Whether a ticket is refused from the moment its application's authorization is not active.
    pub revocation_ends_tickets: bool,
}

impl Default for Options {
    fn default() -> Self {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self {
            login: any,
            api: [any, any],
            control: any,
            issuer: None,
            // Not documented by SuperOffice; five minutes is the customary allowance.
            allowed_skew: Duration::from_mins(5),
            status_validity: Duration::from_mins(1),
            ticket_lifetime: Duration::from_hours(6),
            unknown_tenant_is_404: false,
            revocation_ends_tickets: true,
        }
    }
}

/// Why a sandbox could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A listener could not be opened.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The first signing key could not be made.
    #[error("cannot make a signing key")]
    SigningKey,
}
