//! The gateway over real gRPC, against a simulated SuperOffice over real HTTP. One test a promise, named as it.
#![cfg(test)]
#![expect(clippy::disallowed_methods, reason = "the tasks of a test end with its runtime")]

mod support;

mod canary;
mod commands;
mod configuration;
mod process;
mod tickets;
