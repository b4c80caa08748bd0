//! Outbound: where the public keys of callers' issuers are read from: a file, or the issuer's own host.
//!
//! An issuer may be a neighbour (a Kubernetes cluster is one), so private addresses are allowed here, unlike in the
//! room that speaks to SuperOffice; and what is sent is at most the token that was configured for this issuer.

mod discovery;
mod endpoint;
mod file;
mod http;

pub use self::{
    endpoint::{IssuerEndpoint, KeyEndpoint},
    file::KeyFile,
};
