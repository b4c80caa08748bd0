//! The configured applications, each with its adapters to SuperOffice and the time of its last success and failure.

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

use super::{BrokerError, CallRate, credential_cache::FailureConditions};
use crate::{
    access::{Authorized, Gateway, ReadTenants},
    domain::{
        AlarmLimit, ApplicationFailure, ApplicationId, ApplicationView, Environment, RedirectUris,
    },
    ports::{
        AssociateQueries, Clock, ExchangeError, NotificationVerifier, OAuth, SystemUserLogin,
        TenantStatusSource, TicketProbe, WebApiHost,
    },
};

/// One application and its adapters.
pub struct Application {
    /// The id of the application in this gateway.
    pub id: ApplicationId,
    /// The SuperOffice environment of the application.
    pub environment: Environment,
    /// The OAuth client id at SuperOffice.
    pub client_id: String,
    /// The thumbprints of its public keys.
    pub key_ids: Vec<String>,
    /// Whether callers may get its client secret.
    pub allow_reveal_application_token: bool,
    /// The allowed redirect targets while a person consents.
    pub redirects: RedirectUris,
    /// Requests tickets.
    pub login: Arc<dyn SystemUserLogin>,
    /// Reads the status of tenants.
    pub tenant_status: Arc<dyn TenantStatusSource>,
    /// Probes tickets.
    pub probe: Arc<dyn TicketProbe>,
    /// Signs people in, and refreshes and revokes their tokens.
    pub oauth: Arc<dyn OAuth>,
    /// Verifies notifications signed by the login host.
    pub notifications: Arc<dyn NotificationVerifier>,
    /// Calls the Web API of tenants.
    pub web_api: Arc<dyn WebApiHost>,
    /// Builds the Web API calls that read people.
    pub people: Arc<dyn AssociateQueries>,
    /// The allowed rate of Web API calls to each tenant.
    pub call_rate: CallRate,
    /// The last success and failure.
    pub history: History,
}

impl fmt::Debug for Application {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Application").field("id", &self.id).finish_non_exhaustive()
    }
}

/// A client secret that was accepted within this time counts as valid. The time is longer than the lifetime of an
/// access token, because each grant in use is refreshed within that lifetime.
const WORKED_RECENTLY: Duration = Duration::from_mins(65);

/// The times of the last successful and the last failed credential request.
#[derive(Debug, Default)]
pub struct History {
    last: Mutex<LastResults>,
    alarm: AlarmLimit,
    /// The number of times that the credentials worked again after an alarm.
    recoveries: AtomicU64,
}

#[derive(Debug, Default, Clone)]
struct LastResults {
    success: Option<Timestamp>,
    /// The time at which SuperOffice last accepted the client secret, on the monotonic clock.
    secret_accepted: Option<Duration>,
    failure: Option<ApplicationFailure>,
}

impl History {
    /// Records a successful exchange that was sent at `time` and ended at `now` (monotonic).
    pub(super) fn record_success(&self, time: Timestamp, now: Duration) {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).success = Some(time);
        self.record_secret_accepted(now);
    }

    /// Records that SuperOffice accepted the client secret, even if the exchange failed for another reason.
    pub(super) fn record_secret_accepted(&self, now: Duration) {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).secret_accepted = Some(now);
        if self.alarm.clear() {
            self.recoveries.fetch_add(1, Ordering::Relaxed);
            tracing::info!("SuperOffice accepts the application's credentials again");
        }
    }

    pub(super) fn record_failure(&self, time: Timestamp, error: &BrokerError) {
        let failure = Some(ApplicationFailure { time, obstacle: error.obstacle() });
        self.last.lock().unwrap_or_else(PoisonError::into_inner).failure = failure;
    }

    fn secret_works(&self, now: Duration) -> bool {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.secret_accepted.is_some_and(|time| now.saturating_sub(time) < WORKED_RECENTLY)
    }
}

impl Application {
    /// Returns whether SuperOffice refuses the client secret itself. A 401 without an error code may also concern the
    /// token; it counts as that while the same secret works for other tenants.
    pub(super) fn secret_is_refused(&self, error: &ExchangeError, now: Duration) -> bool {
        match error {
            ExchangeError::InvalidClient => true,
            ExchangeError::Unauthorized => !self.history.secret_works(now),
            _ => false,
        }
    }

    /// Logs the alarm that SuperOffice refuses the application's secret or key, or this machine's clock; at most once a
    /// minute.
    pub(super) fn alarm(&self, cause: &dyn fmt::Display, now: Duration) {
        let alarm = "own_credential_or_clock";
        let application = &self.id;
        if let Some(held_back) = self.history.alarm.raise(now) {
            tracing::error!(alarm, %application, %cause, held_back, "SuperOffice refuses the client secret or private key of the application, or the clock of this machine; every tenant of the application is affected");
        } else {
            tracing::debug!(alarm, %application, %cause, "SuperOffice refuses the application's credentials or this machine's clock again");
        }
    }

    /// Returns the current values of everything that can end a cached failure.
    pub(super) fn failure_conditions(&self, clock: &dyn Clock) -> FailureConditions {
        FailureConditions {
            now: clock.monotonic(),
            credential_changes: self.login.credential_changes()
                + self.history.recoveries.load(Ordering::Relaxed),
            has_clock_skew: self.login.has_clock_skew(),
        }
    }
}

/// All configured applications, by id.
#[derive(Debug, Default)]
pub struct Applications(BTreeMap<ApplicationId, Arc<Application>>);

impl Applications {
    /// Creates the set of applications, whose ids must differ.
    #[must_use]
    pub fn new(applications: impl IntoIterator<Item = Application>) -> Self {
        Self(applications.into_iter().map(|a| (a.id.clone(), Arc::new(a))).collect())
    }

    /// Returns the ids, in order.
    pub fn ids(&self) -> impl Iterator<Item = &ApplicationId> {
        self.0.keys()
    }

    /// Checks that an application is configured.
    ///
    /// # Errors
    /// `ApplicationNotConfigured`.
    pub fn check(&self, id: &ApplicationId) -> Result<(), BrokerError> {
        self.get(id).map(drop)
    }

    /// Returns whether the clock of a login host differed too much from this machine's clock at its last answer.
    #[must_use]
    pub fn has_clock_skew(&self) -> bool {
        self.all().any(|application| application.login.has_clock_skew())
    }

    /// Returns all applications, ordered by id.
    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Application>> {
        self.0.values()
    }

    /// Returns an application, or the error `ApplicationNotConfigured`.
    pub(super) fn get(&self, id: &ApplicationId) -> Result<&Arc<Application>, BrokerError> {
        self.0.get(id).ok_or_else(|| BrokerError::ApplicationNotConfigured(id.clone()))
    }

    /// Returns up to `limit` applications after `after`, ordered by id.
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
