//! Start options and start errors.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

/// Listen addresses of a sandbox, and rules that SuperOffice's documentation leaves open.
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
    /// The largest difference between the timestamp of a signed system user token and the sandbox's
    /// clock.
    pub allowed_skew: Duration,
    /// The validity that a tenant status states. [`Control`](crate::Control) can change it.
    pub status_validity: Duration,
    /// The lifetime of a ticket after its last use.
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

/// The reason why a sandbox could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A listener could not be opened.
    #[error("cannot listen on {address}")]
    Listen {
        /// The configured address.
        address: SocketAddr,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The first signing key could not be generated.
    #[error("cannot generate a signing key")]
    SigningKey,
}
