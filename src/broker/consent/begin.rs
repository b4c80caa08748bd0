//! Beginning a consent, and its link.

use std::time::Duration;

use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};

use super::{
    Asked, Consents, Shared,
    failed::{self, WhyInvalid},
};
use crate::{
    access::{ManageGrants, ManageTenants},
    broker::{Application, BrokerError},
    domain::{
        ATTEMPT_LIFE, CONSENT_LIFE, Consent, ConsentAttempt, ConsentId, ConsentOutcome, TenantName,
    },
    ports::{AuthorizationRequest, Begun, ConsentLimits},
};

/// One vendor asks the administrators of all its customers at once.
const LIMITS: ConsentLimits = ConsentLimits { open_per_caller: 10_000, total: 100_000 };

/// What a caller asks a person for, beside the application and the tenant.
#[derive(Debug, Clone, Default)]
pub struct ConsentRequest {
    /// Whom SuperOffice's sign-in page suggests.
    pub login_hint: Option<String>,
    /// Where the person is sent at the end.
    pub return_uri: Option<String>,
    /// Where the caller itself receives the code.
    pub redirect_uri: Option<String>,
    /// Nobody else may consent.
    pub expected_user_principal_name: Option<String>,
    /// Why.
    pub reason: String,
}

/// A consent that was begun: whoever has what is in it can complete it.
#[derive(Debug)]
pub struct BegunConsent {
    /// SuperOffice's sign-in page.
    pub authorization_uri: SecretString,
    /// What comes back with the code.
    pub state: SecretString,
    /// Until when these two work.
    pub expire_time: Timestamp,
    /// The page to mail; none where no consent pages are served.
    pub consent_uri: Option<SecretString>,
}

/// What a link leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Link {
    /// The person is asked for this.
    Open(Box<Consent>),
    /// It ended so.
    Ended(ConsentOutcome),
    /// It is too old.
    Expired,
    /// There is no such consent, or it was forgotten.
    Unknown,
}

/// Where the browser goes when the person clicks, and what it must show when it comes back.
#[derive(Debug)]
pub struct Departure {
    /// SuperOffice's sign-in page.
    pub authorization_uri: SecretString,
    /// The cookie's value.
    pub cookie: SecretString,
    /// How long it is needed.
    pub cookie_life: Duration,
}

/// An attempt that is kept.
struct Minted {
    authorization_uri: SecretString,
    state: SecretString,
    expire_time: Timestamp,
}

impl Consents {
    /// Begins a consent. With `enrol`, which must be for the same, an administrator's consent also enrols the tenant
    /// and its system user.
    ///
    /// # Errors
    /// `ApplicationNotConfigured`, `TenantNotFound`, `TenantDisabled`, `TooManyConsents`, and `Invalid` for addresses
    /// that are not the application's.
    pub async fn begin(
        &self,
        asked: &Asked<ManageGrants>,
        enrol: Option<&Asked<ManageTenants>>,
        request: ConsentRequest,
    ) -> Result<BegunConsent, BrokerError> {
        let shared = &*self.shared;
        let (id, tenant) = asked.scope();
        same_scope(asked, enrol)?;
        let application = shared.applications.get(id)?;
        if let Some(tenant) = tenant {
            let name = TenantName { application: id.clone(), tenant };
            shared.check_tenant(&name, enrol.is_some()).await?;
        }
        let redirect_uri = redirect_uri(application, &request)?.to_owned();
        if let Some(uri) = &request.return_uri {
            let invalid = |refused: crate::domain::ReturnRefused| BrokerError::Invalid {
                field: "return_uri",
                problem: refused.to_string(),
            };
            application.redirects.check_return(uri).map_err(invalid)?;
        }
        let now = shared.clock.now();
        let consent = Consent {
            id: ConsentId::new(shared.random.bytes()),
            application: id.clone(),
            tenant,
            caller: asked.caller().on_record(),
            return_uri: request.return_uri,
            redirect_uri: request.redirect_uri,
            login_hint: request.login_hint,
            enroll_system_user: enrol.is_some(),
            expected_user_principal_name: request.expected_user_principal_name,
            reason: request.reason,
            create_time: now,
            expire_time: later(now, CONSENT_LIFE),
            outcome: None,
        };
        match shared.stores.consents.begin(&consent, LIMITS).await? {
            Begun::Yes => {}
            Begun::TooManyOfCaller | Begun::TooMany => return Err(BrokerError::TooManyConsents),
        }
        let minted = shared.mint(application, &consent, redirect_uri, None).await?;
        let Minted { authorization_uri, state, expire_time } = minted;
        // The page's own codes come to the gateway, whoever receives the caller's.
        let public_uri =
            shared.public_uri.as_deref().filter(|_| application.redirects.own.is_some());
        let consent_uri = public_uri.map(|uri| format!("{uri}/consent/{}", consent.id).into());
        Ok(BegunConsent { authorization_uri, state, expire_time, consent_uri })
    }

    /// What the link of a consent leads to.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn open(&self, id: &ConsentId) -> Result<Link, BrokerError> {
        let Some(consent) = self.shared.stores.consents.get(id).await? else {
            return Ok(Link::Unknown);
        };
        Ok(match &consent.outcome {
            Some(outcome) => Link::Ended(outcome.clone()),
            None if consent.is_open(self.shared.clock.now()) => Link::Open(Box::new(consent)),
            None => Link::Expired,
        })
    }

    /// The person clicks. `cookie` is what the browser has of an earlier click: another tab may still need it.
    /// `request_id` names the click in the log.
    ///
    /// # Errors
    /// `ConsentInvalid` if the link leads nowhere (any more).
    pub async fn proceed(
        &self,
        id: &ConsentId,
        cookie: Option<SecretString>,
        request_id: &str,
    ) -> Result<Departure, BrokerError> {
        let failed = |consent: Option<&Consent>, error: BrokerError| {
            failed::log(request_id, consent, None, &error);
            error
        };
        match self.open(id).await {
            Ok(Link::Open(consent)) => {
                let departed = self.depart(&consent, cookie).await;
                departed.map_err(|error| failed(Some(&consent), error))
            }
            Ok(_) => Err(failed(None, BrokerError::ConsentInvalid(WhyInvalid::LinkEnded))),
            Err(error) => Err(failed(None, error)),
        }
    }

    async fn depart(
        &self,
        consent: &Consent,
        cookie: Option<SecretString>,
    ) -> Result<Departure, BrokerError> {
        let shared = &*self.shared;
        let application = shared.applications.get(&consent.application)?;
        let own = application
            .redirects
            .own
            .clone()
            .ok_or(BrokerError::ConsentInvalid(WhyInvalid::NoCallback))?;
        // Only pages of ours can set a cookie of that name, so what looks like one is one.
        let cookie = cookie.filter(is_secret).unwrap_or_else(|| shared.secret());
        let digest = shared.digest(&cookie);
        let minted = shared.mint(application, consent, own, Some(digest)).await?;
        let authorization_uri = minted.authorization_uri;
        Ok(Departure { authorization_uri, cookie, cookie_life: ATTEMPT_LIFE })
    }
}

impl Shared {
    /// Whether a person can be asked for this tenant: it is there, or will be.
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

    /// Keeps a new way to SuperOffice and back, which works once.
    async fn mint(
        &self,
        application: &Application,
        consent: &Consent,
        redirect_uri: String,
        cookie_digest: Option<[u8; 32]>,
    ) -> Result<Minted, BrokerError> {
        let now = self.clock.now();
        let (state, verifier) = (self.secret(), self.secret());
        let attempt = ConsentAttempt {
            consent: consent.id.clone(),
            nonce: self.secret().expose_secret().to_owned(),
            verifier,
            redirect_uri,
            cookie_digest,
            expire_time: later(now, ATTEMPT_LIFE).min(consent.expire_time),
        };
        if !self.stores.consents.mint(&self.digest(&state), &attempt, now).await? {
            return Err(BrokerError::ConsentInvalid(WhyInvalid::Ended));
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
        Ok(Minted { authorization_uri, state, expire_time: attempt.expire_time })
    }
}

/// Nobody may enrol where it was not permitted.
pub(super) fn same_scope(
    asked: &Asked<ManageGrants>,
    enrol: Option<&Asked<ManageTenants>>,
) -> Result<(), BrokerError> {
    match enrol {
        Some(enrol) if enrol.scope() != asked.scope() => {
            Err(BrokerError::Internal("enrolment was permitted for something else".into()))
        }
        _ => Ok(()),
    }
}

fn redirect_uri<'a>(
    application: &'a Application,
    request: &'a ConsentRequest,
) -> Result<&'a str, BrokerError> {
    let problem = match &request.redirect_uri {
        Some(uri) if application.redirects.receive_codes_at(uri) => return Ok(uri),
        Some(_) => {
            "must be a redirect_uri or one of the redirect_uris of the application, to the letter"
        }
        None => match &application.redirects.own {
            Some(own) => return Ok(own),
            None => "must be given: the application has no redirect_uri of its own",
        },
    };
    Err(BrokerError::Invalid { field: "redirect_uri", problem: problem.to_owned() })
}

fn later(now: Timestamp, by: Duration) -> Timestamp {
    now.saturating_add(by).unwrap_or(Timestamp::MAX)
}

/// Whether it can be one of ours.
pub(super) fn is_secret(text: &SecretString) -> bool {
    let text = text.expose_secret();
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}
