//! Consent: a person allows the gateway to act as them (the authorization code grant of RFC 6749 section 4.1).
//!
//! A caller begins a consent and gets two links. `authorization_uri` is for a browser that is at hand: its state alone
//! completes the consent. `consent_uri` can be mailed: its page creates a new state at each click and binds it to the
//! browser with a cookie. The code comes back to the gateway ([`Consents::callback`]), or to a front end whose caller
//! completes the consent ([`Consents::complete`]). The gateway processes the code to the end even if the client
//! disconnects: the refresh token is either stored or revoked.

mod begin;
mod callback;
mod complete;
mod completion_locks;
mod events;
mod failure;
mod invalid_cause;
mod presented_state;
mod reauthorization;
mod revocation;
mod sign_in_errors;

#[cfg(test)]
pub(super) mod fakes;

use std::{fmt, sync::Arc, time::Duration};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

use self::completion_locks::CompletionLocks;
pub use self::{
    begin::{BegunConsent, ConsentLinkState, ConsentRedirect, ConsentRequest},
    callback::{
        AuthorizationResponse, CallbackOutcome, CallbackRequest, CompletedConsent, ConsentEntry,
        ReturnTo,
    },
    invalid_cause::InvalidConsentCause,
    presented_state::PresentedState,
    reauthorization::{PermissionLost, Reauthorize, StillPermitted},
};
use super::{Applications, BrokerError, Runtime, TenantDirectory, Tenants};
use crate::{
    access::{Authorized, Caller},
    audit::Trail,
    domain::{ApplicationId, ContextIdentifier, Grant, GrantEventKind, TenantName},
    ports::{Clock, ConsentStore, GrantStore, Random},
};

/// The interval between deletions of expired consents.
const CLEANUP_INTERVAL: Duration = Duration::from_hours(1);

/// The time for which an expired consent stays stored, so that its link says "expired" instead of "unknown".
const EXPIRED_RETENTION: Duration = Duration::from_hours(7 * 24);

/// Receives each grant that a person gives.
pub type GrantListener = Box<dyn Fn(&Grant, GrantEventKind) + Send + Sync>;

/// The application, or the tenant of an application, for which the caller is authorized.
pub enum AuthorizedConsentScope<A> {
    /// The whole application; the person chooses the tenant.
    Application(Authorized<A, ApplicationId>),
    /// Only this tenant.
    Tenant(Authorized<A, TenantName>),
}

impl<A> AuthorizedConsentScope<A> {
    fn scope(&self) -> (&ApplicationId, Option<ContextIdentifier>) {
        match self {
            Self::Application(authorized) => (authorized.resource(), None),
            Self::Tenant(authorized) => {
                let TenantName { application, tenant } = authorized.resource();
                (application, Some(*tenant))
            }
        }
    }

    fn caller(&self) -> &Caller {
        match self {
            Self::Application(authorized) => authorized.caller(),
            Self::Tenant(authorized) => authorized.caller(),
        }
    }
}

/// The stores that consents need.
#[derive(Clone)]
pub struct ConsentStores {
    /// Stores consents while people are asked.
    pub consents: Arc<dyn ConsentStore>,
    /// Stores the grants that they give.
    pub grants: Arc<dyn GrantStore>,
}

/// The use cases of consent.
pub struct Consents {
    shared: Arc<Shared>,
}

struct Shared {
    applications: Arc<Applications>,
    tenants: Arc<Tenants>,
    directory: Arc<TenantDirectory>,
    stores: ConsentStores,
    trail: Arc<Trail>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    /// The base URI of the consent pages, if they are served.
    public_uri: Option<String>,
    reauthorize: Reauthorize,
    completion_locks: CompletionLocks,
    listener: GrantListener,
    tasks: TaskTracker,
    /// The Tokio runtime on which codes are exchanged, because a caller's own runtime may end before the gateway.
    handle: Handle,
}

impl Consents {
    /// Creates the use cases for these applications. `public_uri` is the base URI of the consent pages, without a
    /// trailing slash; without it there are no pages, and only front ends receive codes. Work runs on the current
    /// Tokio runtime.
    #[must_use]
    #[expect(
        clippy::too_many_arguments,
        reason = "wiring: every collaborator is named once, in app"
    )]
    pub fn new(
        applications: Arc<Applications>,
        tenants: Arc<Tenants>,
        directory: Arc<TenantDirectory>,
        stores: ConsentStores,
        trail: Arc<Trail>,
        public_uri: Option<String>,
        reauthorize: Reauthorize,
        listener: GrantListener,
        runtime: &Runtime,
    ) -> Self {
        let Runtime { clock, random, tasks, .. } = runtime.clone();
        let shared = Shared {
            applications,
            tenants,
            directory,
            stores,
            trail,
            clock,
            random,
            public_uri,
            reauthorize,
            completion_locks: CompletionLocks::default(),
            listener,
            tasks,
            handle: Handle::current(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Deletes consents that expired long ago, for as long as it is polled.
    pub async fn delete_expired(&self) {
        let Shared { clock, stores, .. } = &*self.shared;
        loop {
            clock.sleep(CLEANUP_INTERVAL).await;
            match stores.consents.delete_expired(EXPIRED_RETENTION, clock.now()).await {
                Ok(0) => {}
                Ok(consents) => tracing::info!(consents, "expired consents deleted"),
                Err(error) => tracing::warn!(%error, "expired consents could not be deleted"),
            }
        }
    }

    /// Runs `work` to its end, even if the caller stops waiting.
    async fn run_to_completion<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, BrokerError> {
        let Shared { tasks, handle, .. } = &*self.shared;
        tasks
            .spawn_on(work, handle)
            .await
            .map_err(|error| BrokerError::Internal(error.to_string().into()))
    }
}

impl Shared {
    /// Returns 32 random bytes in hexadecimal, which are valid as a state, cookie value and PKCE verifier.
    fn secret(&self) -> SecretString {
        let [first, second] = [self.random.bytes(), self.random.bytes()].map(u128::from_be_bytes);
        format!("{first:032x}{second:032x}").into()
    }

    /// Returns the digest under which a secret is stored. The secret has 256 random bits, so the digest needs no key.
    fn digest(&self, secret: &SecretString) -> [u8; 32] {
        self.trail.digest(secret.expose_secret().as_bytes())
    }

    /// Returns the PKCE code challenge (RFC 7636 section 4.2).
    fn challenge(&self, verifier: &SecretString) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(self.digest(verifier))
    }
}

impl fmt::Debug for Consents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consents").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
