//! Inbound HTTP: for now the admin listener.

mod admin;

pub use self::admin::{Admin, Readiness};
