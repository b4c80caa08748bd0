//! Outbound: creates every HTTP client that sends requests to other hosts.
//!
//! [`Network`] holds what all of them share: the proxy, the certificate authorities, the resolver and the rules for
//! addresses. A [`Profile`] says how one kind of client behaves, and [`HttpClient`] sends the requests.

mod client;
mod connector;
mod fault;
mod network;
mod profile;
mod proxy;
mod request;
mod resolver;
mod stream;
mod tls;
mod tls_fault;
mod tunnel;

pub use self::{
    client::{AGENT, HttpClient},
    fault::Fault,
    network::{Network, NetworkError, NetworkOptions},
    profile::{Addresses, Profile},
    proxy::{OutboundProxy, ProxyFault},
    request::{Body, Request, Response, StreamedBody},
    resolver::{NameLookup, ResolveError, SystemResolver},
    tls::{Authorities, AuthoritiesError, TlsError},
    tls_fault::TlsFault,
};

#[cfg(test)]
mod tests;
