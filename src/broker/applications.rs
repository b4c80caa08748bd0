//! The configured applications, each with its way to SuperOffice and how that last went.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;

use super::{BrokerError, CallRate, credentials::Circumstances};
use crate::{
    access::{Authorized, Gateway, ReadTenants},
    domain::{
        AlarmLimit, ApplicationFailure, ApplicationId, ApplicationView, Environment, Redirects,
    },
    ports::{
        Clock, ExchangeError, NotificationVerifier, OAuth, PeopleCalls, SystemUserLogin,
        TenantStatusSource, TicketProbe, WebApiHost,
    },
};

/// One application and the adapters that speak for it.
pub struct Application {
    /// Our name for it.
    pub id: ApplicationId,
    /// Where it lives.
    pub environment: Environment,
    /// SuperOffice's name for it.
    pub client_id: String,
    /// Thumbprints of its public keys.
    pub key_ids: Vec<String>,
    /// Whether its client secret may be handed out at all.
    pub allow_reveal_application_token: bool,
    /// Where browsers may be sent while a person consents.
    pub redirects: Redirects,
    /// Asks for tickets.
    pub login: Arc<dyn SystemUserLogin>,
    /// Asks for the status of tenants.
    pub tenant_status: Arc<dyn TenantStatusSource>,
    /// Tries tickets.
    pub probe: Arc<dyn TicketProbe>,
    /// Signs people in, and acts for them.
    pub oauth: Arc<dyn OAuth>,
    /// Knows what its login host has signed.
    pub notifications: Arc<dyn NotificationVerifier>,
    /// Calls the Web API of tenants.
    pub web_api: Arc<dyn WebApiHost>,
    /// Knows which calls tell of people.
    pub people: Arc<dyn PeopleCalls>,
    /// How many of them it may make to each tenant.
    pub call_rate: CallRate,
    /// How it last went.
    pub history: History,
}

impl fmt::Debug for Application {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Application").field("id", &self.id).finish_non_exhaustive()
    }
}

/// A client secret that worked this recently works: SuperOffice refuses something else.
/// Longer than an access token lives: each grant in use is refreshed within this time.
const WORKED_RECENTLY: Duration = Duration::from_mins(65);

/// When asking for a credential last succeeded and last failed.
#[derive(Debug, Default)]
pub struct History {
    last: Mutex<Last>,
    alarm: AlarmLimit,
    /// Counts how often the credentials worked again after an alarm.
    recoveries: AtomicU64,
}

#[derive(Debug, Default, Clone)]
struct Last {
    success: Option<Timestamp>,
    /// When SuperOffice last accepted the client secret, by the monotonic clock.
    secret_accepted: Option<Duration>,
    failure: Option<ApplicationFailure>,
}

impl History {
    /// SuperOffice accepted the client secret, in an exchange that was sent at `time` and ended at `now` (monotonic).
    pub(super) fn succeeded(&self, time: Timestamp, now: Duration) {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).success = Some(time);
        self.secret_accepted(now);
    }

    /// SuperOffice accepted the client secret, whatever became of the rest.
    pub(super) fn secret_accepted(&self, now: Duration) {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).secret_accepted = Some(now);
        if self.alarm.clear() {
            self.recoveries.fetch_add(1, Ordering::Relaxed);
            tracing::info!("SuperOffice accepts the application's credentials again");
        }
    }

    pub(super) fn failed(&self, time: Timestamp, error: &BrokerError) {
        let failure = Some(ApplicationFailure { time, obstacle: error.obstacle() });
        self.last.lock().unwrap_or_else(PoisonError::into_inner).failure = failure;
    }

    fn secret_works(&self, now: Duration) -> bool {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.secret_accepted.is_some_and(|time| now.saturating_sub(time) < WORKED_RECENTLY)
    }
}

impl Application {
    /// Whether SuperOffice refuses the client secret itself. A 401 without the name of an error may as well be about the
    /// token that was shown: it is, as long as the same secret works for others.
    pub(super) fn secret_is_refused(&self, error: &ExchangeError, now: Duration) -> bool {
        match error {
            ExchangeError::InvalidClient => true,
            ExchangeError::Unauthorized => !self.history.secret_works(now),
            _ => false,
        }
    }

    /// Writes the alarm that the application's own secret, key or clock is refused, at most once a minute.
    pub(super) fn alarm(&self, cause: &dyn fmt::Display, now: Duration) {
        let alarm = "own_credential_or_clock";
        let application = &self.id;
        if let Some(held_back) = self.history.alarm.raise(now) {
            tracing::error!(alarm, %application, %cause, held_back, "SuperOffice refuses the application's own credentials, or the clock of this machine; no tenant and no grant is to blame");
        } else {
            tracing::debug!(alarm, %application, %cause, "refused again");
        }
    }

    /// Everything that can end a refusal of its credentials.
    pub(super) fn circumstances(&self, clock: &dyn Clock) -> Circumstances {
        Circumstances {
            now: clock.monotonic(),
            credential_changes: self.login.credential_changes()
                + self.history.recoveries.load(Ordering::Relaxed),
            clock_is_off: self.login.clock_is_off(),
        }
    }
}

/// All configured applications, by id.
#[derive(Debug, Default)]
pub struct Applications(BTreeMap<ApplicationId, Arc<Application>>);

impl Applications {
    /// Of applications with different ids.
    #[must_use]
    pub fn new(applications: impl IntoIterator<Item = Application>) -> Self {
        Self(applications.into_iter().map(|a| (a.id.clone(), Arc::new(a))).collect())
    }

    /// The ids, in order.
    pub fn ids(&self) -> impl Iterator<Item = &ApplicationId> {
        self.0.keys()
    }

    /// Whether there is such an application.
    ///
    /// # Errors
    /// `ApplicationNotConfigured`.
    pub fn check(&self, id: &ApplicationId) -> Result<(), BrokerError> {
        self.get(id).map(drop)
    }

    /// Whether the clock of a login host was too far from ours when it last answered.
    #[must_use]
    pub fn clock_is_off(&self) -> bool {
        self.all().any(|application| application.login.clock_is_off())
    }

    /// All of them, in order.
    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Application>> {
        self.0.values()
    }

    /// # Errors
    /// `ApplicationNotConfigured`.
    pub(super) fn get(&self, id: &ApplicationId) -> Result<&Arc<Application>, BrokerError> {
        self.0.get(id).ok_or_else(|| BrokerError::ApplicationNotConfigured(id.clone()))
    }

    /// Up to `limit` applications after `after`, in order of id.
    #[must_use]
    pub fn list(
        &self,
        _authorized: &Authorized<ReadTenants, Gateway>,
        after: Option<&ApplicationId>,
        limit: usize,
    ) -> Vec<ApplicationView> {
        let later = |id: &&ApplicationId| after.is_none_or(|after| *id > after);
        self.0.iter().filter(|(id, _)| later(id)).take(limit).map(|(_, a)| view(a)).collect()
    }
}

fn view(application: &Application) -> ApplicationView {
    let last = application.history.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
    ApplicationView {
        id: application.id.clone(),
        environment: application.environment,
        client_id: application.client_id.clone(),
        key_ids: application.key_ids.clone(),
        last_success: last.success,
        last_failure: last.failure,
    }
}
