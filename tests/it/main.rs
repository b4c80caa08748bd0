//! The gateway over real gRPC, against a simulated SuperOffice over real HTTP. One test a promise, named as it.

mod support;

mod fault_matrix;
mod login_host;
mod rejected;
mod rotation;
mod tickets;
mod upstream;
mod watches;
