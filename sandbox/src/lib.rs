//! A simulated `SuperOffice CRM Online`, served over real HTTP for tests and local development.
//!
//! A [`Sandbox`] listens on four loopback ports: the login host (discovery, keys, the system user
//! exchange, the sign-in of people, tenant status), API hosts A and B (the Web API of the tenants that live there) and a
//! control host. It is as strict as the documented service, and stricter where the documentation
//! is silent, so that a client that works here does not depend on leniency.
//!
//! [`Control`] configures the service, in Rust or as JSON on the control port. It adds tenants and applications, moves
//! or suspends a tenant, revokes an authorization, rolls the signing key over, shifts the clock, injects faults, and
//! counts the calls that arrived.
//!
//! # Signing in
//!
//! The authorize page works without scripts, so a test can act as the browser: `GET` the authorize address, submit each
//! form to its `action`, and read the final `Location`. There are no passwords. The tenant page is skipped if the user
//! has one tenant only, or if the request or its path names a tenant.
//!
//! | page | form fields | ids |
//! |---|---|---|
//! | choose a user | `request`, `user` | `sign-in`, `user`, `continue`, `refuse` |
//! | choose a tenant | `request`, `tenant` | `choose-tenant`, `tenant`, `continue`, `refuse` |
//! | approve | `request`, `decision=approve` | `approval`, `approve`, `refuse` |
//! | return to the application, for `form_post` | the response parameters | `back`, `continue` |
//! | error | – | `error`, `request-id` |
//!
//! Every page but the last two accepts `decision=refuse`. `request` is the signed state of the sign-in, copied from the
//! page before. [`SignInRules`] changes the documented behaviour, [`SignIn`] registers how people sign in to an
//! application, and [`Control::begin_grant`] creates a grant without a browser. In comments, *documented* means
//! SuperOffice's documentation, *observed* its samples and logs.
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
mod call;
mod clock;
pub mod control;
mod counts;
pub mod demo;
mod endpoint;
mod error;
mod faults;
mod form;
mod grants;
mod http_client;
mod jwt;
mod keys;
mod lock;
mod login;
mod net;
mod options;
pub mod people;
mod platform;
mod random;
mod refusal;
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
pub use options::{Options, StartError};
pub use refusal::Refusal;
pub use sandbox::Sandbox;
pub use state_changes::{ChangeType, Forgery, StateChange};
pub use traffic::{CallRate, RateLimit, RetryAfter};
pub use webhooks::{NewWebhook, WebhookState};
pub use world::{Approval, Authorization, NewApplication, NewTenant, SignIn, TenantState};
