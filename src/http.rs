//! Inbound HTTP: the public listener for SuperOffice and browsers, the egress listener through which services call
//! SuperOffice, and the admin listener.

mod admin;
mod consent;
mod egress;
mod guarded_body;
mod heads;
mod http_server;
mod middleware;
mod pages;
mod problem;
mod public_server;
mod state_change;
mod webhook_body;
mod webhooks;

#[cfg(fuzzing)]
pub(crate) use self::heads::compare as compare_heads;
pub use self::{
    admin::{AdminServer, Readiness},
    consent::ConsentPages,
    egress::{EgressPorts, EgressRules, EgressServer},
    public_server::{PublicEndpoints, PublicPorts, PublicServer},
    state_change::StateChanges,
    webhooks::Webhooks,
};
