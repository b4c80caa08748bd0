//! Completing a consent with the code that a browser or a caller brings.

use std::{sync::Arc, time::Duration};

use secrecy::{ExposeSecret as _, SecretString};

use super::{
    AuthorizedConsentScope, Consents, Shared,
    begin::{has_secret_form, same_scope},
    callback::{
        AuthorizationResponse, CallbackOutcome, CallbackRequest, CompletedConsent, ConsentEntry,
        ReturnTo,
    },
    events::AuditProgress,
    failure,
    invalid_cause::InvalidConsentCause,
    presented_state::PresentedState,
    sign_in_errors::{exchange_error, sign_in_error},
};
use crate::{
    access::{Caller, ManageGrants, ManageTenants},
    audit::EventClass,
    broker::{Application, BrokerError, SignInMismatch},
    domain::{
        AssociateId, AttemptBinding, Consent, ConsentAttempt, ConsentOutcome, GrantEventKind,
        GrantId, RefreshToken, TenantName, VerifiedIdentity, is_same_name,
    },
    ports::{CodeExchange, CodeResponse, ExchangeError, StoredConsent, VerifiedAccess},
};

/// The error of RFC 6749 section 4.1.2.1 that means that the person refused.
const ACCESS_DENIED: &str = "access_denied";

/// A redeemed state. It no longer works, unless it is restored because its code could not be sent.
#[derive(Debug)]
pub(super) struct RedeemedState {
    state_digest: [u8; 32],
    consent: Consent,
    attempt: ConsentAttempt,
}

impl Consents {
    /// Looks up the state that a caller brings, and does not redeem it. Only the caller that began the consent can find
    /// it; for any other caller there is no such state.
    ///
    /// # Errors
    /// `ConsentInvalid` if the state is forged, used, expired, bound to a browser, or belongs to another caller.
    pub async fn find(
        &self,
        caller: &Caller,
        state: &SecretString,
    ) -> Result<PresentedState, BrokerError> {
        let (digest, consent, binding) = self.shared.find(state).await?;
        let other = consent.caller.id != caller.id();
        if other || binding.cookie_digest.is_some() {
            tracing::warn!(consent = %consent.id, caller = caller.id(), "a caller presented a state that belongs to another caller or to a browser");
            let why = if other {
                InvalidConsentCause::OtherCaller
            } else {
                InvalidConsentCause::NeedsBrowser
            };
            return Err(BrokerError::ConsentInvalid(why));
        }
        Ok(PresentedState { digest, consent })
    }

    /// Completes a consent with the code that a front end received. If the code could not be sent to SuperOffice, the
    /// caller can retry with the same state and code. `request_id` identifies the call in the log.
    ///
    /// # Errors
    /// If the code cannot be exchanged, the person or tenant is not permitted, or the grant cannot be stored.
    pub async fn complete(
        &self,
        scope: &AuthorizedConsentScope<ManageGrants>,
        enrol: Option<&AuthorizedConsentScope<ManageTenants>>,
        presented: PresentedState,
        code: SecretString,
        max_wait: Duration,
        request_id: Arc<str>,
    ) -> Result<CompletedConsent, BrokerError> {
        let consent = &presented.consent;
        same_scope(scope, enrol)?;
        if scope.scope() != (&consent.application, consent.tenant)
            || scope.caller().id() != consent.caller.id
            || enrol.is_some() != consent.enroll_system_user
        {
            return Err(BrokerError::Internal("the call is authorized for another scope".into()));
        }
        let shared = Arc::clone(&self.shared);
        let work = async move {
            let mut progress = AuditProgress::default();
            let completed = match shared.redeem(&presented.digest, &presented.consent).await {
                Ok(redeemed) => {
                    let redeemed = &redeemed;
                    let received = ReceivedCode { redeemed, code: &code, max_wait, callback: None };
                    shared.exchange_code(received, &mut progress).await
                }
                Err(error) => Err(error),
            };
            if let Err(error) = &completed {
                let given = progress.given.as_ref();
                failure::log(&request_id, Some(&presented.consent), given, error);
            }
            completed
        };
        self.run_to_completion(work).await?
    }

    /// Handles a browser that comes back to the gateway's own callback. The audit event names the caller that began the
    /// consent, and is stored before the browser gets a response.
    pub async fn callback(&self, callback: CallbackRequest) -> CallbackOutcome {
        let shared = Arc::clone(&self.shared);
        let outcome =
            self.run_to_completion(async move { shared.handle_callback(callback).await }).await;
        outcome.unwrap_or_else(|crash| CallbackOutcome {
            return_to: None,
            entry: ConsentEntry::Unknown,
            result: Err(crash),
        })
    }
}

/// A code and the attempt that it belongs to.
#[derive(Clone, Copy)]
struct ReceivedCode<'a> {
    redeemed: &'a RedeemedState,
    code: &'a SecretString,
    max_wait: Duration,
    /// The request of the browser. `None` if a caller brings the code: then the caller's own call is audited.
    callback: Option<&'a CallbackRequest>,
}

impl Shared {
    /// Looks up a state and does not redeem it.
    async fn find(
        &self,
        state: &SecretString,
    ) -> Result<([u8; 32], Consent, AttemptBinding), BrokerError> {
        // Rejects made-up values without a query to the store.
        if !has_secret_form(state) {
            return Err(BrokerError::ConsentInvalid(InvalidConsentCause::Malformed));
        }
        let digest = self.digest(state);
        let found = self.stores.consents.find_attempt(&digest, self.clock.now()).await?;
        let (consent, binding) =
            found.ok_or(BrokerError::ConsentInvalid(InvalidConsentCause::UnknownState))?;
        Ok((digest, consent, binding))
    }

    /// Redeems a state; of concurrent attempts exactly one succeeds. Fails while the tenant is disabled, so that the
    /// state stays usable.
    async fn redeem(
        &self,
        digest: &[u8; 32],
        consent: &Consent,
    ) -> Result<RedeemedState, BrokerError> {
        if let Some(tenant) = consent.tenant {
            let name = TenantName { application: consent.application.clone(), tenant };
            self.check_tenant(&name, consent.enroll_system_user).await?;
        }
        let redeemed = self.stores.consents.take_attempt(digest, self.clock.now()).await?;
        let (consent, attempt) =
            redeemed.ok_or(BrokerError::ConsentInvalid(InvalidConsentCause::UnknownState))?;
        Ok(RedeemedState { state_digest: *digest, consent, attempt })
    }

    /// Makes a redeemed state usable again, because its code was not sent.
    async fn restore_attempt(&self, redeemed: &RedeemedState) {
        let RedeemedState { state_digest, consent, attempt } = redeemed;
        let restored =
            self.stores.consents.add_attempt(state_digest, attempt, self.clock.now()).await;
        if let Err(error) = restored {
            tracing::warn!(%error, consent = %consent.id, "a state whose code was not sent could not be restored");
        }
    }

    async fn handle_callback(self: &Arc<Self>, callback: CallbackRequest) -> CallbackOutcome {
        let nowhere = |error: BrokerError| {
            failure::log(&callback.request_id, None, None, &error);
            CallbackOutcome { return_to: None, entry: ConsentEntry::Unknown, result: Err(error) }
        };
        if let Err(error) = self.trail.check(EventClass::Change) {
            return nowhere(error.into());
        }
        let (digest, consent, binding) = match self.find(&callback.state).await {
            Ok(found) => found,
            Err(error) => return nowhere(error),
        };
        // Another browser or another redirect URI is treated as an unknown state, and the right one can still use it.
        if let Some(why) = self.mismatch(&consent, &binding, &callback) {
            let error = BrokerError::ConsentInvalid(why);
            failure::log(&callback.request_id, Some(&consent), None, &error);
            return CallbackOutcome {
                return_to: None,
                entry: ConsentEntry::Unknown,
                result: Err(error),
            };
        }
        let entry = if binding.cookie_digest.is_some() {
            ConsentEntry::Link
        } else {
            ConsentEntry::Address
        };
        let mut progress = AuditProgress::default();
        let result = match self.redeem(&digest, &consent).await {
            Ok(redeemed) => self.handle_response(&redeemed, &callback, &mut progress).await,
            Err(error) => Err(error),
        };
        let result = self.audit_outcome(&consent, &callback, result, progress).await;
        let return_to = consent.return_uri.map(|uri| {
            let state = callback.state.expose_secret().to_owned();
            ReturnTo { uri, state }
        });
        CallbackOutcome { return_to, entry, result }
    }

    /// Processes the authorization response.
    async fn handle_response(
        self: &Arc<Self>,
        redeemed: &RedeemedState,
        callback: &CallbackRequest,
        progress: &mut AuditProgress,
    ) -> Result<CompletedConsent, BrokerError> {
        match &callback.response {
            AuthorizationResponse::Code(code) => {
                let max_wait = callback.max_wait;
                let received = ReceivedCode { redeemed, code, max_wait, callback: Some(callback) };
                self.exchange_code(received, progress).await
            }
            AuthorizationResponse::Error(error) if error == ACCESS_DENIED => {
                self.finish(&redeemed.consent, &ConsentOutcome::Refused).await;
                Err(BrokerError::ConsentRefused)
            }
            // The link still works, so the person can try again.
            AuthorizationResponse::Error(error) => Err(sign_in_error(error)),
        }
    }

    /// Returns a cause if this is not the browser that was redirected, or not the redirect URI of the attempt.
    fn mismatch(
        &self,
        consent: &Consent,
        binding: &AttemptBinding,
        callback: &CallbackRequest,
    ) -> Option<InvalidConsentCause> {
        let application = self.applications.get(&consent.application).ok();
        let own = application.and_then(|application| application.redirects.own.as_ref());
        let cookie_digest = callback.cookie.as_ref().map(|cookie| self.digest(cookie));
        let bound = binding.cookie_digest.is_none() || binding.cookie_digest == cookie_digest;
        if !bound {
            return Some(InvalidConsentCause::OtherBrowser);
        }
        (own != Some(&binding.redirect_uri)).then_some(InvalidConsentCause::OtherAddress)
    }

    /// Exchanges the code. The refresh token is stored; if that fails it is revoked, unless a grant may use it.
    async fn exchange_code(
        self: &Arc<Self>,
        received: ReceivedCode<'_>,
        progress: &mut AuditProgress,
    ) -> Result<CompletedConsent, BrokerError> {
        let ReceivedCode { redeemed, code, max_wait, .. } = received;
        let RedeemedState { consent, attempt, .. } = redeemed;
        let application = self.applications.get(&consent.application)?;
        let exchange = CodeExchange {
            code,
            redirect_uri: &attempt.redirect_uri,
            verifier: &attempt.verifier,
            nonce: &attempt.nonce,
            max_wait,
        };
        let signed_in = application.oauth.exchange_code(&exchange).await;
        // The code was not used.
        if let Err(
            ExchangeError::NotSent(_) | ExchangeError::InvalidClient | ExchangeError::Unauthorized,
        ) = signed_in
        {
            self.restore_attempt(redeemed).await;
        }
        let now = self.clock.monotonic();
        let CodeResponse { refresh_token, access } =
            signed_in.map_err(|error| exchange_error(application, &error, now))?;
        application.history.record_secret_accepted(now);
        let VerifiedAccess { identity, .. } = match access {
            Ok(access) => access,
            // The token's owner is unknown and only this process has it, so it is discarded.
            Err(error) => return Err(BrokerError::upstream_invalid(error.to_string())),
        };
        let tenant = TenantName { application: application.id.clone(), tenant: identity.tenant };
        let person = identity.associate_id;
        progress.given = Some(tenant.clone());
        let stored =
            self.store_grant(application, received, identity, &refresh_token, progress).await;
        if stored.is_err() && !self.may_be_in_use(&tenant, person, refresh_token.secret()).await {
            self.revoke(application, refresh_token.secret().clone());
        }
        stored
    }

    /// Returns whether the person's grant uses this token: SuperOffice may issue the same token again. Returns true if
    /// the store does not answer.
    async fn may_be_in_use(
        &self,
        tenant: &TenantName,
        person: AssociateId,
        token: &SecretString,
    ) -> bool {
        let grants = &self.stores.grants;
        let grant = match grants.find_by_associate(tenant, person).await {
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

    /// Stores the grant if the person and tenant are the expected ones and the caller is still permitted to have it.
    async fn store_grant(
        self: &Arc<Self>,
        application: &Arc<Application>,
        received: ReceivedCode<'_>,
        mut person: VerifiedIdentity,
        refresh_token: &RefreshToken,
        progress: &mut AuditProgress,
    ) -> Result<CompletedConsent, BrokerError> {
        let consent = &received.redeemed.consent;
        check_subject(consent, &person)?;
        let given = TenantName { application: application.id.clone(), tenant: person.tenant };
        let mut permitted =
            (self.reauthorize)(consent, &given).map_err(BrokerError::NoLongerPermitted)?;
        // Only an administrator can enrol the tenant. A system user token that was not asked for is discarded.
        permitted.tenants = permitted.tenants.filter(|_| person.is_administrator);
        let (name, enrol) = (permitted.grants.resource(), permitted.tenants.as_ref());
        let token = person.system_user_token.take().filter(|_| enrol.is_some());
        self.check_tenant(name, enrol.is_some()).await?;
        // Rejects other completions of the same consent until this one ends.
        let _kept = self
            .completion_locks
            .begin(&consent.id)
            .ok_or(BrokerError::ConsentInvalid(InvalidConsentCause::CompletionInProgress))?;
        self.check_open(consent).await?;
        if let Some(callback) = received.callback {
            self.audit_decision(consent, callback, &permitted, progress).await?;
        }
        let system_user_enrolled = token.is_some();
        if let Some(enrol) = enrol {
            let name = enrol.resource();
            // Set before the call, because a failed call may still have had an effect.
            progress.enrolled = Some(name.clone());
            self.tenants.enroll(name.clone(), token, person.company_name.clone()).await?;
        }
        let (id, now) = (GrantId::new(self.random.bytes()), self.clock.now());
        let secret = refresh_token.secret();
        let consented =
            self.stores.grants.store_consent(&application.id, &person, secret, &id, now);
        let unknown = || BrokerError::TenantNotFound(name.to_string());
        let StoredConsent { grant, created, replaced } = consented.await?.ok_or_else(unknown)?;
        let kind = if created { GrantEventKind::Created } else { GrantEventKind::Reconsented };
        (self.listener)(&grant, kind);
        let outcome = ConsentOutcome::Granted { grant: grant.name.clone(), system_user_enrolled };
        self.finish(consent, &outcome).await;
        // SuperOffice may issue the same token again; then it must not be revoked.
        let replaced = replaced.filter(|old| old.expose_secret() != secret.expose_secret());
        if let Some(replaced) = replaced {
            self.revoke(application, replaced);
        }
        Ok(CompletedConsent { grant, system_user_enrolled })
    }

    /// Checks that the consent is still pending: a forwarded link may be used by two people, and the first one ends it.
    async fn check_open(&self, consent: &Consent) -> Result<(), BrokerError> {
        let present = self.stores.consents.get(&consent.id).await?;
        let open = present.is_some_and(|present| present.outcome.is_none());
        if open { Ok(()) } else { Err(BrokerError::ConsentInvalid(InvalidConsentCause::Ended)) }
    }

    /// Stores the outcome, which ends the link. If that fails, the grant stays valid and only the link looks pending.
    async fn finish(&self, consent: &Consent, outcome: &ConsentOutcome) {
        if let Err(error) = self.stores.consents.finish(&consent.id, outcome).await {
            tracing::warn!(%error, consent = %consent.id, "the outcome of a consent could not be stored");
        }
    }
}

fn check_subject(consent: &Consent, person: &VerifiedIdentity) -> Result<(), BrokerError> {
    if consent.tenant.is_some_and(|tenant| tenant != person.tenant) {
        return Err(BrokerError::WrongSignIn(SignInMismatch::Tenant));
    }
    let expected = consent.expected_user_principal_name.as_deref();
    if expected.is_some_and(|expected| !is_same_name(expected, &person.user_principal_name)) {
        return Err(BrokerError::WrongSignIn(SignInMismatch::Person));
    }
    Ok(())
}
