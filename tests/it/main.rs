//! The gateway over real gRPC, against a simulated SuperOffice over real HTTP. One test a promise, named as it.
#![cfg(test)]
#![expect(clippy::disallowed_methods, reason = "the tasks of a test end with its runtime")]

mod support;

mod applications;
mod bad_input;
mod fault_matrix;
mod login_host;
mod rejected;
mod rotation;
mod server;
mod tenants;
mod tickets;
mod upstream;
mod watches;
