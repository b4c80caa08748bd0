//! The gateway over real gRPC, against a simulated SuperOffice over real HTTP. One test a promise, named as it.
#![cfg(test)]

mod support;

mod rejected;
mod tickets;
mod tls;
mod upstream;
