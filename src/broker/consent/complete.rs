//! A browser or a caller brings the code.

use std::{sync::Arc, time::Duration};

use secrecy::{ExposeSecret as _, SecretString};

use super::{
    Asked, Consents, Shared,
    begin::{is_secret, same_scope},
    events::{Progress, no_trail},
    failed::{self, Way, WhyInvalid},
    refused::{not_exchanged, sign_in_failed},
};
use crate::{
    access::{Caller, ManageGrants, ManageTenants},
    broker::{Application, BrokerError, Mismatch, Weight},
    domain::{
        ApplicationId, AssociateId, AuditText, Consent, ConsentAttempt, ConsentOutcome,
        ContextIdentifier, Grant, GrantEventKind, GrantId, Identity, RefreshToken, TenantName,
        is_same_name,
    },
    ports::{Access, CodeExchange, Consented, ExchangeError, SignedIn},
};

/// The only error of RFC 6749 section 4.1.2.1 that a person decides.
const ACCESS_DENIED: &str = "access_denied";

/// What SuperOffice sends the browser back with.
#[derive(Debug, Clone)]
pub enum Answer {
    /// The person consented.
    Code(SecretString),
    /// Not so: the error, as it came.
    Error(String),
}

/// A browser comes back.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// Which way it went.
    pub state: SecretString,
    /// What it brings.
    pub answer: Answer,
    /// The cookie, if it has one.
    pub cookie: Option<SecretString>,
    /// For the audit trail.
    pub request_id: Arc<str>,
    /// Likewise.
    pub client_address: AuditText,
    /// How long the sign-in may wait until it is SuperOffice's turn.
    pub patience: Duration,
}

/// Where a person goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReturnTo {
    /// A checked address of the application.
    pub uri: String,
    /// The state that came back.
    pub state: String,
}

/// How a callback ended.
#[derive(Debug)]
pub struct Arrived {
    /// Where the person goes on, if that is known.
    pub return_to: Option<ReturnTo>,
    /// The way by which the person got to the sign-in.
    pub way: Way,
    /// What they gave.
    pub result: Result<ConsentTaken, BrokerError>,
}

/// A consent that was given, and is stored.
#[derive(Debug, Clone)]
pub struct ConsentTaken {
    /// The grant.
    pub grant: Grant,
    /// Whether the system user was enrolled too.
    pub system_user_enrolled: bool,
}

/// A state that was shown: it works no more, unless nothing is made of it.
#[derive(Debug)]
pub struct Redeemed {
    state_digest: [u8; 32],
    consent: Consent,
    attempt: ConsentAttempt,
}

impl Redeemed {
    /// For which application.
    #[must_use]
    pub fn application(&self) -> &ApplicationId {
        &self.consent.application
    }

    /// For which tenant, if one was named.
    #[must_use]
    pub fn tenant(&self) -> Option<ContextIdentifier> {
        self.consent.tenant
    }

    /// Whether it may enrol a system user, so that its caller must be permitted to.
    #[must_use]
    pub fn enrols(&self) -> bool {
        self.consent.enroll_system_user
    }

    /// Why the caller asked.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.consent.reason
    }
}

impl Consents {
    /// Takes a state from the caller that began. Nobody else hears that there is such a state.
    ///
    /// # Errors
    /// `ConsentInvalid` if it is forged, used or expired, somebody else's, or bound to a browser.
    pub async fn redeem(
        &self,
        caller: &Caller,
        state: &SecretString,
    ) -> Result<Redeemed, BrokerError> {
        let redeemed = self.shared.redeem(state).await?;
        let Redeemed { consent, attempt, .. } = &redeemed;
        if consent.caller.id != caller.id() || attempt.cookie_digest.is_some() {
            tracing::warn!(consent = %consent.id, caller = caller.id(), "a state was shown by another than it belongs to");
            let other = consent.caller.id != caller.id();
            let why = if other { WhyInvalid::OtherCaller } else { WhyInvalid::NeedsBrowser };
            return Err(BrokerError::ConsentInvalid(why));
        }
        Ok(redeemed)
    }

    /// Completes a consent with the code that a front end received. If that could not even be sent, state and code
    /// can be shown again. `request_id` names the call in the log.
    ///
    /// # Errors
    /// Everything in CONTRACT section 4 that can stand between a code and a grant.
    pub async fn complete(
        &self,
        asked: &Asked<ManageGrants>,
        enrol: Option<&Asked<ManageTenants>>,
        redeemed: Redeemed,
        code: SecretString,
        patience: Duration,
        request_id: Arc<str>,
    ) -> Result<ConsentTaken, BrokerError> {
        let consent = &redeemed.consent;
        same_scope(asked, enrol)?;
        if asked.scope() != (&consent.application, consent.tenant)
            || asked.caller().id() != consent.caller.id
            || enrol.is_some() != consent.enroll_system_user
        {
            return Err(BrokerError::Internal("something else was permitted".into()));
        }
        let shared = Arc::clone(&self.shared);
        let work = async move {
            let brought = Brought { redeemed: &redeemed, code: &code, patience, arrival: None };
            let mut progress = Progress::default();
            let taken = shared.take(brought, &mut progress).await;
            if let Err(error) = &taken {
                let given = progress.given.as_ref();
                failed::log(&request_id, Some(&redeemed.consent), given, error);
            }
            taken
        };
        self.to_the_end(work).await?
    }

    /// A browser comes back to the gateway's own callback. What happens is written down as done on behalf of the
    /// caller that began, before it is told.
    pub async fn callback(&self, arrival: Arrival) -> Arrived {
        let shared = Arc::clone(&self.shared);
        let arrived = self.to_the_end(async move { shared.arrive(arrival).await }).await;
        arrived.unwrap_or_else(|crash| Arrived {
            return_to: None,
            way: Way::Unknown,
            result: Err(crash),
        })
    }
}

/// A code, and what it belongs to.
#[derive(Clone, Copy)]
struct Brought<'a> {
    redeemed: &'a Redeemed,
    code: &'a SecretString,
    patience: Duration,
    /// Of a browser. Where a caller brings the code, its own call is written down.
    arrival: Option<&'a Arrival>,
}

impl Shared {
    async fn redeem(&self, state: &SecretString) -> Result<Redeemed, BrokerError> {
        // What anybody makes up costs the store nothing.
        if !is_secret(state) {
            return Err(BrokerError::ConsentInvalid(WhyInvalid::Malformed));
        }
        let state_digest = self.digest(state);
        let redeemed = self.stores.consents.redeem(&state_digest, self.clock.now()).await?;
        let (consent, attempt) =
            redeemed.ok_or(BrokerError::ConsentInvalid(WhyInvalid::UnknownState))?;
        Ok(Redeemed { state_digest, consent, attempt })
    }

    /// Nothing was made of it: it works once more.
    async fn give_back(&self, redeemed: &Redeemed) {
        let Redeemed { state_digest, consent, attempt } = redeemed;
        let kept = self.stores.consents.mint(state_digest, attempt, self.clock.now()).await;
        if let Err(error) = kept {
            tracing::warn!(%error, consent = %consent.id, "a state that came to nothing is lost");
        }
    }

    async fn arrive(self: &Arc<Self>, arrival: Arrival) -> Arrived {
        let nowhere = |error: BrokerError| {
            failed::log(&arrival.request_id, None, None, &error);
            Arrived { return_to: None, way: Way::Unknown, result: Err(error) }
        };
        if self.trail.check(Weight::Change).is_err() {
            return nowhere(no_trail());
        }
        let redeemed = match self.redeem(&arrival.state).await {
            Ok(redeemed) => redeemed,
            Err(error) => return nowhere(error),
        };
        let astray = self.astray(&redeemed, &arrival);
        let way = match (astray, redeemed.attempt.cookie_digest) {
            (Some(_), _) => Way::Unknown,
            (None, Some(_)) => Way::Link,
            (None, None) => Way::Address,
        };
        let consent = &redeemed.consent;
        let mut progress = Progress::default();
        let result = match (&arrival.answer, astray) {
            // Another browser, or an address of ours that was not the one: nobody learns more of the consent here.
            (_, Some(why)) => Err(BrokerError::ConsentInvalid(why)),
            (Answer::Code(code), None) => {
                let (patience, arrival) = (arrival.patience, Some(&arrival));
                let brought = Brought { redeemed: &redeemed, code, patience, arrival };
                self.take(brought, &mut progress).await
            }
            (Answer::Error(error), None) if error == ACCESS_DENIED => {
                self.finish(consent, &ConsentOutcome::Refused).await;
                Err(BrokerError::ConsentRefused)
            }
            // The link still works: it may go better the next time.
            (Answer::Error(error), None) => Err(sign_in_failed(error)),
        };
        let result = self.write_down(consent, &arrival, result, progress).await;
        let return_uri = redeemed.consent.return_uri.filter(|_| astray.is_none());
        let return_to = return_uri.map(|uri| {
            let state = arrival.state.expose_secret().to_owned();
            ReturnTo { uri, state }
        });
        Arrived { return_to, way, result }
    }

    /// Why this is not the browser that was sent, or not the address that SuperOffice was asked to send it to, if so.
    fn astray(&self, redeemed: &Redeemed, arrival: &Arrival) -> Option<WhyInvalid> {
        let Redeemed { consent, attempt, .. } = redeemed;
        let application = self.applications.get(&consent.application).ok();
        let own = application.and_then(|application| application.redirects.own.as_ref());
        let shown = arrival.cookie.as_ref().map(|cookie| self.digest(cookie));
        let bound = attempt.cookie_digest.is_none() || attempt.cookie_digest == shown;
        if !bound {
            return Some(WhyInvalid::OtherBrowser);
        }
        (own != Some(&attempt.redirect_uri)).then_some(WhyInvalid::OtherAddress)
    }

    /// Exchanges the code. Its refresh token is stored, or revoked unless somebody's grant may live by it.
    async fn take(
        self: &Arc<Self>,
        brought: Brought<'_>,
        progress: &mut Progress,
    ) -> Result<ConsentTaken, BrokerError> {
        let Brought { redeemed, code, patience, .. } = brought;
        let Redeemed { consent, attempt, .. } = redeemed;
        let application = self.applications.get(&consent.application)?;
        let exchange = CodeExchange {
            code,
            redirect_uri: &attempt.redirect_uri,
            verifier: &attempt.verifier,
            nonce: &attempt.nonce,
            patience,
        };
        let signed_in = application.oauth.exchange_code(&exchange).await;
        // The code is still good.
        if let Err(
            ExchangeError::NotSent(_) | ExchangeError::InvalidClient | ExchangeError::Unauthorized,
        ) = signed_in
        {
            self.give_back(redeemed).await;
        }
        let now = self.clock.monotonic();
        let SignedIn { refresh_token, access } =
            signed_in.map_err(|error| not_exchanged(application, &error, now))?;
        application.history.secret_accepted(now);
        let Access { identity, .. } = match access {
            Ok(access) => access,
            // Whose it is nobody knows. It is with nobody but us, and not kept.
            Err(error) => return Err(BrokerError::UpstreamInvalid(error.to_string().into())),
        };
        let tenant = TenantName { application: application.id.clone(), tenant: identity.tenant };
        let person = identity.associate_id;
        progress.given = Some(tenant.clone());
        let kept = self.keep(application, brought, identity, &refresh_token, progress).await;
        if kept.is_err() && !self.may_live_by(&tenant, person, refresh_token.secret()).await {
            self.revoke(application, refresh_token.secret().clone());
        }
        kept
    }

    /// Whether a grant of the person lives by this very token: SuperOffice may give out the same once more. So too
    /// where that cannot be told.
    async fn may_live_by(
        &self,
        tenant: &TenantName,
        person: AssociateId,
        token: &SecretString,
    ) -> bool {
        let grants = &self.stores.grants;
        let grant = match grants.find(tenant, person).await {
            Ok(Some(grant)) => grant,
            Ok(None) => return false,
            Err(_) => return true,
        };
        match grants.refresh_token(&grant.name).await {
            Ok(Some(stored)) => stored.token.expose_secret() == token.expose_secret(),
            Ok(None) => false,
            Err(_) => true,
        }
    }

    /// Stores what a person gave, if it is the right one and the caller that began is still permitted to have it.
    async fn keep(
        self: &Arc<Self>,
        application: &Arc<Application>,
        brought: Brought<'_>,
        mut person: Identity,
        refresh_token: &RefreshToken,
        progress: &mut Progress,
    ) -> Result<ConsentTaken, BrokerError> {
        let consent = &brought.redeemed.consent;
        check_subject(consent, &person)?;
        let given = TenantName { application: application.id.clone(), tenant: person.tenant };
        let mut permitted =
            (self.ask_again)(consent, &given).map_err(BrokerError::NoLongerPermitted)?;
        // Only an administrator speaks for the customer. Nobody else sees the token: what was not asked for is
        // discarded.
        permitted.tenants = permitted.tenants.filter(|_| person.is_administrator);
        let (name, enrol) = (permitted.grants.resource(), permitted.tenants.as_ref());
        let token = person.system_user_token.take().filter(|_| enrol.is_some());
        self.check_tenant(name, enrol.is_some()).await?;
        // Whoever comes back by the same link meanwhile finds it taken.
        let _kept = self
            .keeping
            .begin(&consent.id)
            .ok_or(BrokerError::ConsentInvalid(WhyInvalid::Overtaken))?;
        self.check_open(consent).await?;
        if let Some(arrival) = brought.arrival {
            self.announce(consent, arrival, &permitted, progress).await?;
        }
        let system_user_enrolled = token.is_some();
        if let Some(enrol) = enrol {
            let name = enrol.resource();
            // Also if it fails: its outcome may be unknown.
            progress.enrolled = Some(name.clone());
            self.tenants.enroll(name.clone(), token, person.company_name.clone()).await?;
        }
        let (id, now) = (GrantId::new(self.random.bytes()), self.clock.now());
        let secret = refresh_token.secret();
        let consented = self.stores.grants.consented(&application.id, &person, secret, &id, now);
        let unknown = || BrokerError::TenantNotFound(name.to_string());
        let Consented { grant, created, replaced } = consented.await?.ok_or_else(unknown)?;
        let kind = if created { GrantEventKind::Created } else { GrantEventKind::Reconsented };
        (self.listener)(&grant, kind);
        let outcome = ConsentOutcome::Granted { grant: grant.name.clone(), system_user_enrolled };
        self.finish(consent, &outcome).await;
        // SuperOffice may have given out the same once more.
        let replaced = replaced.filter(|old| old.expose_secret() != secret.expose_secret());
        if let Some(replaced) = replaced {
            self.revoke(application, replaced);
        }
        Ok(ConsentTaken { grant, system_user_enrolled })
    }

    /// A link that was forwarded may bring two people back at once: the first one ends it.
    async fn check_open(&self, consent: &Consent) -> Result<(), BrokerError> {
        let present = self.stores.consents.get(&consent.id).await?;
        let open = present.is_some_and(|present| present.outcome.is_none());
        if open { Ok(()) } else { Err(BrokerError::ConsentInvalid(WhyInvalid::Ended)) }
    }

    /// Ends the link. What was given or refused stays so, also if it goes on looking open.
    async fn finish(&self, consent: &Consent, outcome: &ConsentOutcome) {
        if let Err(error) = self.stores.consents.finish(&consent.id, outcome).await {
            tracing::warn!(%error, consent = %consent.id, "how a consent ended is not stored");
        }
    }
}

fn check_subject(consent: &Consent, person: &Identity) -> Result<(), BrokerError> {
    if consent.tenant.is_some_and(|tenant| tenant != person.tenant) {
        return Err(BrokerError::AnotherSubject(Mismatch::Tenant));
    }
    let expected = consent.expected_user_principal_name.as_deref();
    if expected.is_some_and(|expected| !is_same_name(expected, &person.user_principal_name)) {
        return Err(BrokerError::AnotherSubject(Mismatch::Person));
    }
    Ok(())
}
