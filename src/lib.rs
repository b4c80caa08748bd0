//! Tenant Gateway: holds the credentials that open customers' SuperOffice CRM Online tenants, so that nobody
//! else has to.
//!
//! The map: [`domain`] has the types and rules, [`ports`] what use cases need of the outside, [`broker`] the use
//! cases, [`access`] who may reach them; around these the adapters. `docs/ARCHITECTURE.md` walks one request
//! through the rooms, and `tests/architecture.rs` holds the arrows between them.

pub mod access;
pub mod app;
pub mod broker;
pub mod cli;
pub mod config;
pub mod crypto;
pub mod domain;
#[cfg(fuzzing)]
pub mod fuzzing;
pub mod grpc;
pub mod http;
pub mod issuers;
pub mod lifecycle;
pub mod listen;
pub mod outbound;
pub mod ports;
pub mod store;
pub mod superoffice;
pub mod telemetry;
