//! A simulated `SuperOffice CRM Online`, served over real HTTP for tests and local development.
//!
//! A [`Sandbox`] listens on four loopback ports: the login host (discovery, keys, the system user
//! exchange, the sign-in of people, tenant status), API hosts A and B (the Web API of the tenants that live there) and a
//! control host. It is as strict as the documented service, and stricter where the documentation
//! is silent, so that a client that works here does not depend on leniency.
//!
//! What the service should do is told through [`Control`], in Rust or as JSON on the control
//! port: add tenants and applications, move or suspend a tenant, revoke an authorization, roll
//! the signing key over, shift the clock, inject faults, and count the calls that arrived.
//!
//! # Signing in
//!
//! The authorize page works without scripts, so that a test can be the browser: `GET` the
//! authorize address, send each form to where it says, and read the `Location` in the end. Nobody
//! has a password. A person who can sign in to one tenant is not asked which, and with
//! `acr_values=tenant:…` or the address of a tenant nobody is.
//!
//! | page | fields of its form | ids |
//! |---|---|---|
//! | who are you | `request`, `user` | `sign-in`, `user`, `continue`, `refuse` |
//! | which tenant | `request`, `tenant` | `choose-tenant`, `tenant`, `continue`, `refuse` |
//! | do you approve | `request`, `decision=approve` | `approval`, `approve`, `refuse` |
//! | back, for `form_post` | those of the answer | `back`, `continue` |
//! | error | – | `error`, `request-id` |
//!
//! Every page but the last two takes `decision=refuse`. `request` is what the page before carried
//! along, sealed. [`SignInRules`] say what is otherwise than documented, [`SignIn`] which
//! application people can sign in to, and [`Control::begin_grant`] makes a grant without a browser.
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
mod form;
mod grants;
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
mod state_changes;
mod tickets;
mod traffic;
mod webhooks;
mod world;

pub use control::{Control, ControlError};
pub use counts::{Exchanges, SignIns};
pub use endpoint::{ApiHost, Endpoint};
pub use faults::{Fault, FaultBody, FaultScope};
pub use grants::{
    ApprovalPage, GrantRecord, PreviousToken, RefreshTokenRecord, RefreshTokenState, SignInRules,
};
pub use login::Refusal;
pub use options::{Options, StartError};
pub use sandbox::Sandbox;
pub use state_changes::{ChangeType, Forgery, StateChange};
pub use traffic::{CallRate, RateLimit, RetryAfter};
pub use webhooks::{NewWebhook, WebhookState};
pub use world::{Approval, Authorization, NewApplication, NewTenant, SignIn, TenantState};
