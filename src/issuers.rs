//! Outbound: reads the public keys of callers' token issuers, from a file or from the issuer's host.
//!
//! An issuer may be in the private network (a Kubernetes cluster is one), so private addresses are allowed here, unlike
//! in the module `superoffice`. The only credential that is sent is the token configured for this issuer.

mod discovery;
mod endpoint;
mod file;
mod http;

pub use self::{
    endpoint::{IssuerEndpoint, KeyEndpoint},
    file::KeyFile,
};
