//! Beginning a consent, and opening its link.

use std::time::Duration;

use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};

use super::{
    AuthorizedConsentScope, Consents, Shared, failure, invalid_cause::InvalidConsentCause,
};
use crate::{
    access::{ManageGrants, ManageTenants},
    broker::{Application, BrokerError},
    domain::{
        ATTEMPT_LIFETIME, CONSENT_LIFETIME, Consent, ConsentAttempt, ConsentId, ConsentOutcome,
        TenantName,
    },
    ports::{AuthorizationRequest, BeginConsentResult, ConsentLimits},
};

/// The limits of pending consents: high enough for a vendor that asks the administrators of all its customers at once.
const LIMITS: ConsentLimits = ConsentLimits { open_per_caller: 10_000, total: 100_000 };

/// The parameters of a consent other than the application and the tenant.
#[derive(Debug, Clone, Default)]
pub struct ConsentRequest {
    /// The user name that SuperOffice's sign-in page suggests.
    pub login_hint: Option<String>,
    /// The URI to which the person is sent at the end.
    pub return_uri: Option<String>,
    /// The URI at which the caller's front end receives the code.
    pub redirect_uri: Option<String>,
    /// The only user who may consent, if given.
    pub expected_user_principal_name: Option<String>,
    /// The reason, for the audit trail.
    pub reason: String,
}

/// A consent that was begun. Its values are secrets: anyone who has them can complete the consent.
#[derive(Debug)]
pub struct BegunConsent {
    /// The URI of SuperOffice's sign-in page.
    pub authorization_uri: SecretString,
    /// The state that comes back with the code.
    pub state: SecretString,
    /// The time until which `authorization_uri` and `state` work.
    pub expire_time: Timestamp,
    /// The URI of the consent page, for an e-mail; none if no consent pages are served.
    pub consent_uri: Option<SecretString>,
}

/// The state of the consent that a link belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConsentLinkState {
    /// The consent is pending.
    Open(Box<Consent>),
    /// The consent ended with this outcome.
    Ended(ConsentOutcome),
    /// The consent has expired.
    Expired,
    /// There is no such consent, or it was deleted.
    Unknown,
}

/// The redirect of the browser when the person clicks, and the cookie that it must send when it comes back.
#[derive(Debug)]
pub struct ConsentRedirect {
    /// The URI of SuperOffice's sign-in page.
    pub authorization_uri: SecretString,
    /// The value of the cookie.
    pub cookie: SecretString,
    /// The lifetime of the cookie.
    pub cookie_life: Duration,
}

/// A new sign-in attempt that is stored.
struct NewAttempt {
    authorization_uri: SecretString,
    state: SecretString,
    expire_time: Timestamp,
}

impl Consents {
    /// Begins a consent. With `enrol`, which must have the same scope as `asked`, an administrator's consent also
    /// enrols the tenant and its system user.
    ///
    /// # Errors
    /// `ApplicationNotConfigured`, `TenantNotFound`, `TenantDisabled`, `TooManyConsents`, and `Invalid` for URIs that
    /// are not registered for the application.
    pub async fn begin(
        &self,
        scope: &AuthorizedConsentScope<ManageGrants>,
        enrol: Option<&AuthorizedConsentScope<ManageTenants>>,
        request: ConsentRequest,
    ) -> Result<BegunConsent, BrokerError> {
        let shared = &*self.shared;
        let (id, tenant) = scope.scope();
        same_scope(scope, enrol)?;
        let application = shared.applications.get(id)?;
        if let Some(tenant) = tenant {
            let name = TenantName { application: id.clone(), tenant };
            shared.check_tenant(&name, enrol.is_some()).await?;
        }
        let redirect_uri = redirect_uri(application, &request)?.to_owned();
        if let Some(uri) = &request.return_uri {
            let invalid = |refused: crate::domain::ReturnUriError| BrokerError::Invalid {
                field: "return_uri",
                problem: refused.to_string(),
            };
            application.redirects.check_return_uri(uri).map_err(invalid)?;
        }
        let now = shared.clock.now();
        let consent = Consent {
            id: ConsentId::new(shared.random.bytes()),
            application: id.clone(),
            tenant,
            caller: scope.caller().to_record(),
            return_uri: request.return_uri,
            redirect_uri: request.redirect_uri,
            login_hint: request.login_hint,
            enroll_system_user: enrol.is_some(),
            expected_user_principal_name: request.expected_user_principal_name,
            reason: request.reason,
            create_time: now,
            expire_time: add_duration(now, CONSENT_LIFETIME),
            outcome: None,
        };
        match shared.stores.consents.begin(&consent, LIMITS).await? {
            BeginConsentResult::Stored => {}
            BeginConsentResult::CallerLimitReached | BeginConsentResult::TotalLimitReached => {
                return Err(BrokerError::TooManyConsents);
            }
        }
        let minted = shared.create_attempt(application, &consent, redirect_uri, None).await?;
        let NewAttempt { authorization_uri, state, expire_time } = minted;
        // Codes of the consent page always come to the gateway, also if the caller has its own redirect URI.
        let public_uri =
            shared.public_uri.as_deref().filter(|_| application.redirects.own.is_some());
        let consent_uri = public_uri.map(|uri| format!("{uri}/consent/{}", consent.id).into());
        Ok(BegunConsent { authorization_uri, state, expire_time, consent_uri })
    }

    /// Returns the state of the consent that a link belongs to.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn find_by_link(&self, id: &ConsentId) -> Result<ConsentLinkState, BrokerError> {
        let Some(consent) = self.shared.stores.consents.get(id).await? else {
            return Ok(ConsentLinkState::Unknown);
        };
        Ok(match &consent.outcome {
            Some(outcome) => ConsentLinkState::Ended(outcome.clone()),
            None if consent.is_open(self.shared.clock.now()) => {
                ConsentLinkState::Open(Box::new(consent))
            }
            None => ConsentLinkState::Expired,
        })
    }

    /// Handles the person's click on the consent page. `cookie` is the browser's cookie of an earlier click, which is
    /// kept because another tab may need it. `request_id` identifies the click in the log.
    ///
    /// # Errors
    /// `ConsentInvalid` if the consent is not pending.
    pub async fn redirect_to_sign_in(
        &self,
        id: &ConsentId,
        cookie: Option<SecretString>,
        request_id: &str,
    ) -> Result<ConsentRedirect, BrokerError> {
        let failed = |consent: Option<&Consent>, error: BrokerError| {
            failure::log(request_id, consent, None, &error);
            error
        };
        match self.find_by_link(id).await {
            Ok(ConsentLinkState::Open(consent)) => {
                let departed = self.new_redirect(&consent, cookie).await;
                departed.map_err(|error| failed(Some(&consent), error))
            }
            Ok(_) => {
                Err(failed(None, BrokerError::ConsentInvalid(InvalidConsentCause::LinkNotPending)))
            }
            Err(error) => Err(failed(None, error)),
        }
    }

    async fn new_redirect(
        &self,
        consent: &Consent,
        cookie: Option<SecretString>,
    ) -> Result<ConsentRedirect, BrokerError> {
        let shared = &*self.shared;
        let application = shared.applications.get(&consent.application)?;
        let own = application
            .redirects
            .own
            .clone()
            .ok_or(BrokerError::ConsentInvalid(InvalidConsentCause::NoCallback))?;
        // Only the gateway's pages can set a cookie of this name, so a value of the right form is trusted.
        let cookie = cookie.filter(has_secret_form).unwrap_or_else(|| shared.secret());
        let digest = shared.digest(&cookie);
        let minted = shared.create_attempt(application, consent, own, Some(digest)).await?;
        let authorization_uri = minted.authorization_uri;
        Ok(ConsentRedirect { authorization_uri, cookie, cookie_life: ATTEMPT_LIFETIME })
    }
}

impl Shared {
    /// Checks that a person can consent for this tenant: it exists, or may be added.
    pub(super) async fn check_tenant(
        &self,
        name: &TenantName,
        may_be_added: bool,
    ) -> Result<(), BrokerError> {
        match self.directory.get(name).await {
            Ok(tenant) if tenant.disabled => Err(BrokerError::TenantDisabled(name.clone())),
            Err(BrokerError::TenantNotFound(_)) if may_be_added => Ok(()),
            found => found.map(drop),
        }
    }

    /// Creates and stores a sign-in attempt, which works once.
    async fn create_attempt(
        &self,
        application: &Application,
        consent: &Consent,
        redirect_uri: String,
        cookie_digest: Option<[u8; 32]>,
    ) -> Result<NewAttempt, BrokerError> {
        let now = self.clock.now();
        let (state, verifier) = (self.secret(), self.secret());
        let attempt = ConsentAttempt {
            consent: consent.id.clone(),
            nonce: self.secret().expose_secret().to_owned(),
            verifier,
            redirect_uri,
            cookie_digest,
            expire_time: add_duration(now, ATTEMPT_LIFETIME).min(consent.expire_time),
        };
        if !self.stores.consents.add_attempt(&self.digest(&state), &attempt, now).await? {
            return Err(BrokerError::ConsentInvalid(InvalidConsentCause::Ended));
        }
        let authorization_uri = application.oauth.authorization_uri(&AuthorizationRequest {
            tenant: consent.tenant,
            redirect_uri: &attempt.redirect_uri,
            state: &state,
            nonce: &attempt.nonce,
            code_challenge: &self.challenge(&attempt.verifier),
            login_hint: consent
                .login_hint
                .as_deref()
                .or(consent.expected_user_principal_name.as_deref()),
        });
        Ok(NewAttempt { authorization_uri, state, expire_time: attempt.expire_time })
    }
}

/// Checks that the two authorizations have the same scope, so that no other tenant is enrolled.
pub(super) fn same_scope(
    scope: &AuthorizedConsentScope<ManageGrants>,
    enrol: Option<&AuthorizedConsentScope<ManageTenants>>,
) -> Result<(), BrokerError> {
    match enrol {
        Some(enrol) if enrol.scope() != scope.scope() => {
            Err(BrokerError::Internal("the enrolment is authorized for another scope".into()))
        }
        _ => Ok(()),
    }
}

fn redirect_uri<'a>(
    application: &'a Application,
    request: &'a ConsentRequest,
) -> Result<&'a str, BrokerError> {
    let problem = match &request.redirect_uri {
        Some(uri) if application.redirects.is_registered(uri) => return Ok(uri),
        Some(_) => {
            "must be exactly the redirect_uri or one of the redirect_uris of the application"
        }
        None => match &application.redirects.own {
            Some(own) => return Ok(own),
            None => "is required because the application has no redirect_uri",
        },
    };
    Err(BrokerError::Invalid { field: "redirect_uri", problem: problem.to_owned() })
}

fn add_duration(now: Timestamp, by: Duration) -> Timestamp {
    now.saturating_add(by).unwrap_or(Timestamp::MAX)
}

/// Returns whether `text` has the form of a secret that this module creates.
pub(super) fn has_secret_form(text: &SecretString) -> bool {
    let text = text.expose_secret();
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}
