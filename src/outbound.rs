//! Outbound: shared by every room that sends requests to other hosts.

mod fault;
mod resolver;

pub use self::{
    fault::{Fault, TlsFault},
    resolver::{SystemAddresses, Unresolved},
};
