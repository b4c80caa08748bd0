//! Consent (DESIGN section 7): a person is asked to let the gateway act as them.
//!
//! A caller begins it and gets two ways to SuperOffice. `authorization_uri` is for the browser at hand: its state
//! alone completes it. `consent_uri` is mailed: its page mints a state at each click, and binds it to the browser by a
//! cookie. The code comes back to the gateway ([`Consents::callback`]), or to a front end whose caller completes it
//! ([`Consents::complete`]). What happens with the code belongs to the gateway and runs to its end whoever goes away:
//! a refresh token is stored, or it is revoked.

mod again;
mod begin;
mod complete;
mod events;
mod failed;
mod keeping;
mod refused;
mod revoking;
mod shown;

#[cfg(test)]
pub(super) mod fakes;

use std::{fmt, sync::Arc, time::Duration};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

use self::keeping::Keeping;
pub use self::{
    again::{AskAgain, NoLonger, StillPermitted},
    begin::{BegunConsent, ConsentRequest, Departure, Link},
    complete::{Answer, Arrival, Arrived, ConsentTaken, ReturnTo},
    failed::{Way, WhyInvalid},
    shown::ShownState,
};
use super::{Applications, BrokerError, Directory, Tenants, Trail};
use crate::{
    access::{Authorized, Caller},
    domain::{ApplicationId, ContextIdentifier, Grant, GrantEventKind, TenantName},
    ports::{Clock, ConsentStore, GrantStore, Random},
};

/// How often what expired is looked for.
const LOOK: Duration = Duration::from_hours(1);

/// So long a link still says that it is too old, rather than that there is nothing.
const REMEMBER: Duration = Duration::from_hours(7 * 24);

/// Is told of each grant that a person gave.
pub type GrantListener = Box<dyn Fn(&Grant, GrantEventKind) + Send + Sync>;

/// What may be done, to an application or to one of its tenants.
pub enum Asked<A> {
    /// The person chooses the tenant.
    Application(Authorized<A, ApplicationId>),
    /// For this tenant only.
    Tenant(Authorized<A, TenantName>),
}

impl<A> Asked<A> {
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
    /// Keeps consents while people are asked.
    pub consents: Arc<dyn ConsentStore>,
    /// Keeps what they gave.
    pub grants: Arc<dyn GrantStore>,
}

/// The use cases of consent.
pub struct Consents {
    shared: Arc<Shared>,
}

struct Shared {
    applications: Arc<Applications>,
    tenants: Arc<Tenants>,
    directory: Arc<Directory>,
    stores: ConsentStores,
    trail: Arc<Trail>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    /// Where browsers reach the consent pages, if there are any.
    public_uri: Option<String>,
    ask_again: AskAgain,
    keeping: Keeping,
    listener: GrantListener,
    tasks: TaskTracker,
    /// Where codes are exchanged, whoever brings them: callers may stand on a runtime that ends before the gateway.
    runtime: Handle,
}

impl Consents {
    /// Consents of these applications. `public_uri` is where browsers reach the consent pages, without a slash at the
    /// end; without it there are none, and only front ends receive codes. Work will run on the runtime that this is
    /// called on.
    #[must_use]
    #[expect(
        clippy::too_many_arguments,
        reason = "wiring: every collaborator is named once, in app"
    )]
    pub fn new(
        applications: Arc<Applications>,
        tenants: Arc<Tenants>,
        directory: Arc<Directory>,
        stores: ConsentStores,
        trail: Arc<Trail>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        public_uri: Option<String>,
        ask_again: AskAgain,
        listener: GrantListener,
        tasks: TaskTracker,
    ) -> Self {
        let shared = Shared {
            applications,
            tenants,
            directory,
            stores,
            trail,
            clock,
            random,
            public_uri,
            ask_again,
            keeping: Keeping::default(),
            listener,
            tasks,
            runtime: Handle::current(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Forgets what expired long ago, for as long as it is polled.
    pub async fn forget_expired(&self) {
        let Shared { clock, stores, .. } = &*self.shared;
        loop {
            clock.sleep(LOOK).await;
            match stores.consents.forget_expired(REMEMBER, clock.now()).await {
                Ok(0) => {}
                Ok(consents) => tracing::info!(consents, "expired consents forgotten"),
                Err(error) => tracing::warn!(%error, "expired consents not forgotten"),
            }
        }
    }

    /// Work that is not broken off.
    async fn to_the_end<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, BrokerError> {
        let Shared { tasks, runtime, .. } = &*self.shared;
        tasks
            .spawn_on(work, runtime)
            .await
            .map_err(|error| BrokerError::Internal(error.to_string().into()))
    }
}

impl Shared {
    /// 32 random bytes in hexadecimal: what nobody guesses, and legal wherever it must stand.
    fn secret(&self) -> SecretString {
        let [first, second] = [self.random.bytes(), self.random.bytes()].map(u128::from_be_bytes);
        format!("{first:032x}{second:032x}").into()
    }

    /// Secrets are kept by this only: each has 256 random bits, so it needs no key.
    fn digest(&self, secret: &SecretString) -> [u8; 32] {
        self.trail.digest(secret.expose_secret().as_bytes())
    }

    /// RFC 7636 section 4.2.
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
