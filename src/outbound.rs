//! Outbound: shared by every room that sends requests to other hosts.

mod fault;
mod resolver;
mod tls;

pub use self::{
    fault::{Fault, TlsFault},
    resolver::{SystemAddresses, Unresolved},
    tls::{PlatformTls, PlatformTlsError},
};
