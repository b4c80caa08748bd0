//! A simulated `SuperOffice CRM Online`, served over real HTTP for tests and local development.
//!
//! A [`Sandbox`] listens on four loopback ports: the login host (discovery, keys, the system user
//! exchange, tenant status), API hosts A and B (the Web API of the tenants that live there) and a
//! control host. It is as strict as the documented service, and stricter where the documentation
//! is silent, so that a client that works here does not depend on leniency.
//!
//! What the service should do is told through [`Control`], in Rust or as JSON on the control
//! port: add tenants and applications, move or suspend a tenant, revoke an authorization, roll
//! the signing key over, shift the clock, inject faults, and count the calls that arrived.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use superoffice_sandbox::{Options, Sandbox, demo};
//!
//! let sandbox = Sandbox::start(Options::default()).await?;
//! let demo = demo::populate(sandbox.control())?;
//! let login = sandbox.login_uri(); // "http://127.0.0.1:…"
//! # let _ = (demo, login);
//! sandbox.shutdown().await;
//! # Ok(())
//! # }
//! ```

mod answer;
mod api;
mod clock;
pub mod control;
mod counts;
pub mod demo;
mod endpoint;
mod faults;
mod jwt;
mod keys;
mod lock;
mod login;
mod net;
mod options;
pub mod people;
mod platform;
mod post;
mod random;
mod sandbox;
mod tickets;
mod traffic;
mod webhooks;
mod world;

pub use control::{Control, ControlError};
pub use counts::Exchanges;
pub use endpoint::{ApiHost, Endpoint};
pub use faults::{Fault, FaultBody, FaultScope};
pub use login::Refusal;
pub use options::{Options, StartError};
pub use sandbox::Sandbox;
pub use traffic::{CallRate, RateLimit, RetryAfter};
pub use webhooks::{NewWebhook, WebhookState};
pub use world::{Authorization, NewApplication, NewTenant, TenantState};
