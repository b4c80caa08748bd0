//! Inbound HTTP: the listener that SuperOffice and browsers reach, the one through which services call SuperOffice, and
//! the admin listener.

mod admin;
mod around;
mod consent;
mod conversation;
mod egress;
mod heads;
mod held_body;
mod pages;
mod problem;
mod server;
mod state_change;
mod webhook_body;
mod webhooks;

#[cfg(fuzzing)]
pub(crate) use self::heads::compare as compare_heads;
pub use self::{
    admin::{Admin, Readiness},
    consent::ConsentPages,
    egress::{EgressPorts, EgressRules, EgressServer},
    server::{HttpDoors, HttpPorts, HttpServer},
    state_change::StateChanges,
    webhooks::Webhooks,
};
