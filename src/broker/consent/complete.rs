//! A browser or a caller brings the code.

use std::{sync::Arc, time::Duration};

use secrecy::{ExposeSecret as _, SecretString};

use super::{
    Asked, Consents, Shared,
    begin::{is_secret, same_scope},
    events::{Progress, no_trail},
    failed::{self, Way, WhyInvalid},
    refused::{not_exchanged, sign_in_failed},
    shown::ShownState,
};
use crate::{
    access::{Caller, ManageGrants, ManageTenants},
    broker::{Application, BrokerError, Mismatch, Weight},
    domain::{
        AssociateId, AttemptBinding, AuditText, Consent, ConsentAttempt, ConsentOutcome, Grant,
        GrantEventKind, GrantId, Identity, RefreshToken, TenantName, is_same_name,
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

/// A state that was taken out: it works no more, unless nothing is made of it.
#[derive(Debug)]
pub(super) struct Redeemed {
    state_digest: [u8; 32],
    consent: Consent,
    attempt: ConsentAttempt,
}

impl Consents {
    /// Looks at the state that a caller brings. To everybody but the caller that began there is no such state, and
    /// showing it changes nothing.
    ///
    /// # Errors
    /// `ConsentInvalid` if it is forged, used or expired, somebody else's, or bound to a browser.
    pub async fn find(
        &self,
        caller: &Caller,
        state: &SecretString,
    ) -> Result<ShownState, BrokerError> {
        let (digest, consent, binding) = self.shared.find(state).await?;
        let other = consent.caller.id != caller.id();
        if other || binding.cookie_digest.is_some() {
            tracing::warn!(consent = %consent.id, caller = caller.id(), "a state was shown by another than it belongs to");
            let why = if other { WhyInvalid::OtherCaller } else { WhyInvalid::NeedsBrowser };
            return Err(BrokerError::ConsentInvalid(why));
        }
        Ok(ShownState { digest, consent })
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
        shown: ShownState,
        code: SecretString,
        patience: Duration,
        request_id: Arc<str>,
    ) -> Result<ConsentTaken, BrokerError> {
        let consent = &shown.consent;
        same_scope(asked, enrol)?;
        if asked.scope() != (&consent.application, consent.tenant)
            || asked.caller().id() != consent.caller.id
            || enrol.is_some() != consent.enroll_system_user
        {
            return Err(BrokerError::Internal("something else was permitted".into()));
        }
        let shared = Arc::clone(&self.shared);
        let work = async move {
            let mut progress = Progress::default();
            let taken = match shared.redeem(&shown.digest, &shown.consent).await {
                Ok(redeemed) => {
                    let redeemed = &redeemed;
                    let brought = Brought { redeemed, code: &code, patience, arrival: None };
                    shared.take(brought, &mut progress).await
                }
                Err(error) => Err(error),
            };
            if let Err(error) = &taken {
                let given = progress.given.as_ref();
                failed::log(&request_id, Some(&shown.consent), given, error);
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
    /// Looks at a state, which stays there.
    async fn find(
        &self,
        state: &SecretString,
    ) -> Result<([u8; 32], Consent, AttemptBinding), BrokerError> {
        // What anybody makes up costs the store nothing.
        if !is_secret(state) {
            return Err(BrokerError::ConsentInvalid(WhyInvalid::Malformed));
        }
        let digest = self.digest(state);
        let found = self.stores.consents.find_attempt(&digest, self.clock.now()).await?;
        let (consent, binding) =
            found.ok_or(BrokerError::ConsentInvalid(WhyInvalid::UnknownState))?;
        Ok((digest, consent, binding))
    }

    /// Takes out a state that its owner has shown: of all who try, one gets it. Not while its tenant is stopped, because
    /// nothing could be made of it.
    async fn redeem(&self, digest: &[u8; 32], consent: &Consent) -> Result<Redeemed, BrokerError> {
        if let Some(tenant) = consent.tenant {
            let name = TenantName { application: consent.application.clone(), tenant };
            self.check_tenant(&name, consent.enroll_system_user).await?;
        }
        let redeemed = self.stores.consents.redeem(digest, self.clock.now()).await?;
        let (consent, attempt) =
            redeemed.ok_or(BrokerError::ConsentInvalid(WhyInvalid::UnknownState))?;
        Ok(Redeemed { state_digest: *digest, consent, attempt })
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
        let (digest, consent, binding) = match self.find(&arrival.state).await {
            Ok(found) => found,
            Err(error) => return nowhere(error),
        };
        // Another browser, or an address of ours that was not the one: here the state does not exist, and its owner can
        // still use it.
        if let Some(why) = self.astray(&consent, &binding, &arrival) {
            let error = BrokerError::ConsentInvalid(why);
            failed::log(&arrival.request_id, Some(&consent), None, &error);
            return Arrived { return_to: None, way: Way::Unknown, result: Err(error) };
        }
        let way = if binding.cookie_digest.is_some() { Way::Link } else { Way::Address };
        let mut progress = Progress::default();
        let result = match self.redeem(&digest, &consent).await {
            Ok(redeemed) => self.answered(&redeemed, &arrival, &mut progress).await,
            Err(error) => Err(error),
        };
        let result = self.write_down(&consent, &arrival, result, progress).await;
        let return_to = consent.return_uri.map(|uri| {
            let state = arrival.state.expose_secret().to_owned();
            ReturnTo { uri, state }
        });
        Arrived { return_to, way, result }
    }

    /// What the person answered.
    async fn answered(
        self: &Arc<Self>,
        redeemed: &Redeemed,
        arrival: &Arrival,
        progress: &mut Progress,
    ) -> Result<ConsentTaken, BrokerError> {
        match &arrival.answer {
            Answer::Code(code) => {
                let patience = arrival.patience;
                let brought = Brought { redeemed, code, patience, arrival: Some(arrival) };
                self.take(brought, progress).await
            }
            Answer::Error(error) if error == ACCESS_DENIED => {
                self.finish(&redeemed.consent, &ConsentOutcome::Refused).await;
                Err(BrokerError::ConsentRefused)
            }
            // The link still works: it may go better the next time.
            Answer::Error(error) => Err(sign_in_failed(error)),
        }
    }

    /// Why this is not the browser that was sent, or not the address that SuperOffice was asked to send it to, if so.
    fn astray(
        &self,
        consent: &Consent,
        binding: &AttemptBinding,
        arrival: &Arrival,
    ) -> Option<WhyInvalid> {
        let application = self.applications.get(&consent.application).ok();
        let own = application.and_then(|application| application.redirects.own.as_ref());
        let shown = arrival.cookie.as_ref().map(|cookie| self.digest(cookie));
        let bound = binding.cookie_digest.is_none() || binding.cookie_digest == shown;
        if !bound {
            return Some(WhyInvalid::OtherBrowser);
        }
        (own != Some(&binding.redirect_uri)).then_some(WhyInvalid::OtherAddress)
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
