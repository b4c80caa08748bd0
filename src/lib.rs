//! Tenant Gateway holds the credentials for customers' SuperOffice CRM Online tenants, so that no other service needs
//! them.
//!
//! Modules: [`domain`] has the types and rules, [`ports`] the traits for the outside, [`broker`] the use cases,
//! [`audit`] the audit trail, and [`access`] authenticates and authorizes callers. The other modules are adapters.
//! `docs/development/architecture.md` follows one request through the modules, and `tests/architecture.rs` checks
//! their dependencies.

#![cfg_attr(test, expect(clippy::too_many_lines, reason = "tests with tables of cases are long"))]

pub mod access;
pub mod app;
pub mod audit;
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
pub mod journal;
pub mod lifecycle;
pub mod listen;
pub mod outbound;
pub mod ports;
pub mod store;
pub mod superoffice;
pub mod telemetry;
