//! Inbound HTTP: the listener that SuperOffice and browsers reach, and the admin listener.

mod admin;
mod around;
mod consent;
mod pages;
mod problem;
mod server;
mod state_change;
mod webhooks;

pub use self::{
    admin::{Admin, Readiness},
    consent::ConsentPages,
    server::{HttpDoors, HttpPorts, HttpServer},
    state_change::StateChanges,
    webhooks::Webhooks,
};
