//! Inbound HTTP: the listener that SuperOffice reaches, and the admin listener.

mod admin;
mod around;
mod problem;
mod server;
mod webhooks;

pub use self::{
    admin::{Admin, Readiness},
    server::{HttpPorts, HttpServer},
    webhooks::Webhooks,
};
