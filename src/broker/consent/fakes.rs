//! A fake SuperOffice sign-in, and stores in memory.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

use crate::{
    domain::{
        AccessToken, ApplicationId, AssociateId, AttemptBinding, Consent, ConsentAttempt,
        ConsentId, ConsentOutcome, ContextIdentifier, CredentialId, Grant, GrantId, GrantName,
        GrantScope, GrantState, RefreshToken, SystemUserToken, Tenant, TenantName, TenantStatus,
        VerifiedIdentity,
    },
    ports::{
        AuditSigner, AuthorizationRequest, BeginConsentResult, CodeExchange, CodeResponse,
        ConsentLimits, ConsentStore, Deletion, ExchangeError, GrantStore, Lease, OAuth,
        RefreshOutcome, RefreshResponse, RotationOutcome, StoreError, StoredConsent,
        StoredRefreshToken, StoredToken, TenantStore, UpstreamError, VerifiedAccess,
    },
};

/// Returns a user of Cust1.
pub(super) fn person(name: &str) -> VerifiedIdentity {
    let associate_id = name.bytes().map(i32::from).sum::<i32>();
    VerifiedIdentity {
        tenant: "Cust1".parse().unwrap(),
        associate_id: AssociateId::new(associate_id).unwrap(),
        user_principal_name: format!("{name}@example.com"),
        full_name: name.to_owned(),
        email: String::new(),
        is_administrator: false,
        system_user_token: None,
        company_name: "Example AS".to_owned(),
    }
}

/// Returns an administrator of Cust1, with the system user token of the application.
pub(super) fn administrator(name: &str) -> VerifiedIdentity {
    let system_user_token = Some(SystemUserToken::new(&"App-token".into()).unwrap());
    VerifiedIdentity { is_administrator: true, system_user_token, ..person(name) }
}

/// An approved sign-in.
struct Code {
    challenge: String,
    nonce: String,
    redirect_uri: String,
    person: VerifiedIdentity,
    refresh_token: String,
}

/// A fake SuperOffice at which people sign in.
pub(in crate::broker) struct FakeSignIn {
    signer: Arc<dyn AuditSigner>,
    codes: Mutex<HashMap<String, Code>>,
    issued: Mutex<u32>,
    /// Whether every sign-in gets the same refresh token.
    pub(super) same_token: Mutex<bool>,
    /// The longest wait that the last exchange allowed.
    pub(super) max_wait: Mutex<Option<Duration>>,
    /// The errors of the next exchanges; later ones succeed.
    pub(super) failures: Mutex<VecDeque<ExchangeError>>,
    pub(super) revoke_failures: Mutex<VecDeque<ExchangeError>>,
    pub(super) revoked: Mutex<Vec<String>>,
}

impl FakeSignIn {
    pub(in crate::broker) fn new(signer: Arc<dyn AuditSigner>) -> Self {
        Self {
            signer,
            codes: Mutex::default(),
            issued: Mutex::default(),
            same_token: Mutex::default(),
            max_wait: Mutex::default(),
            failures: Mutex::default(),
            revoke_failures: Mutex::default(),
            revoked: Mutex::default(),
        }
    }

    /// Signs the person in at this URI, and returns the code and the state.
    pub(super) fn approve(
        &self,
        uri: &SecretString,
        person: VerifiedIdentity,
    ) -> (String, SecretString) {
        let fields = fields(uri);
        let mut issued = self.issued.lock().unwrap();
        *issued += 1;
        let refresh_token = if *self.same_token.lock().unwrap() {
            "refresh-same".to_owned()
        } else {
            format!("refresh-{issued}")
        };
        let code = Code {
            challenge: fields["code_challenge"].clone(),
            nonce: fields["nonce"].clone(),
            redirect_uri: fields["redirect_uri"].clone(),
            person,
            refresh_token,
        };
        let name = format!("code-{issued}");
        self.codes.lock().unwrap().insert(name.clone(), code);
        (name, fields["state"].clone().into())
    }
}

/// Returns the query parameters of an authorization request.
pub(super) fn fields(uri: &SecretString) -> HashMap<String, String> {
    let uri = Url::parse(uri.expose_secret()).unwrap();
    uri.query_pairs().into_owned().collect()
}

#[async_trait]
impl OAuth for FakeSignIn {
    fn authorization_uri(&self, request: &AuthorizationRequest<'_>) -> SecretString {
        let mut uri =
            Url::parse("https://sod.superoffice.com/login/common/oauth/authorize").unwrap();
        uri.query_pairs_mut()
            .append_pair("redirect_uri", request.redirect_uri)
            .append_pair("state", request.state.expose_secret())
            .append_pair("nonce", request.nonce)
            .append_pair("code_challenge", request.code_challenge)
            .append_pair("login_hint", request.login_hint.unwrap_or_default());
        String::from(uri).into()
    }

    async fn exchange_code(
        &self,
        exchange: &CodeExchange<'_>,
    ) -> Result<CodeResponse, ExchangeError> {
        *self.max_wait.lock().unwrap() = Some(exchange.max_wait);
        if let Some(failure) = self.failures.lock().unwrap().pop_front() {
            return Err(failure);
        }
        let code = self.codes.lock().unwrap().remove(exchange.code.expose_secret());
        let code = code.ok_or(ExchangeError::InvalidGrant)?;
        let digest = self.signer.digest(exchange.verifier.expose_secret().as_bytes());
        let challenge = base64::Engine::encode(&base64::prelude::BASE64_URL_SAFE_NO_PAD, digest);
        if challenge != code.challenge || exchange.redirect_uri != code.redirect_uri {
            return Err(ExchangeError::InvalidGrant);
        }
        let access = if exchange.nonce == code.nonce {
            let access_token = "8A:Cust1.x".into();
            Ok(VerifiedAccess {
                access_token,
                expires_in: Duration::from_hours(1),
                identity: code.person,
            })
        } else {
            Err(UpstreamError::InvalidResponse("the nonce differs".to_owned()))
        };
        let refresh_token = RefreshToken::new(&code.refresh_token.into()).unwrap();
        Ok(CodeResponse { refresh_token, access })
    }

    async fn refresh(&self, _: &SecretString) -> Result<RefreshResponse, ExchangeError> {
        unreachable!("not used by these tests")
    }

    async fn revoke(&self, token: &SecretString) -> Result<(), ExchangeError> {
        if let Some(failure) = self.revoke_failures.lock().unwrap().pop_front() {
            return Err(failure);
        }
        self.revoked.lock().unwrap().push(token.expose_secret().to_owned());
        Ok(())
    }
}

/// Tenants, consents and grants in memory.
#[derive(Default)]
pub(in crate::broker) struct MemoryStore {
    pub(super) tenants: Mutex<BTreeMap<TenantName, (Tenant, Option<String>)>>,
    pub(super) consents: Mutex<HashMap<ConsentId, Consent>>,
    pub(super) attempts: Mutex<HashMap<[u8; 32], ConsentAttempt>>,
    pub(super) grants: Mutex<Vec<(Grant, String)>>,
    /// Whether the store has too many pending consents.
    pub(super) full: Mutex<bool>,
    /// Whether grants cannot be stored.
    pub(super) down: Mutex<bool>,
    /// Whether states cannot be redeemed.
    pub(super) redeeming_fails: Mutex<bool>,
    pub(super) forgotten_before: Mutex<Vec<Timestamp>>,
}

impl MemoryStore {
    pub(super) fn add_tenant(&self, name: &TenantName) {
        let now = Timestamp::UNIX_EPOCH;
        let tenant = Tenant {
            name: name.clone(),
            labels: BTreeMap::new(),
            company_name: String::new(),
            disabled: false,
            token_version: 0,
            version: 1,
            create_time: now,
            update_time: now,
            last_status: None,
        };
        self.tenants.lock().unwrap().insert(name.clone(), (tenant, None));
    }
}

#[async_trait]
impl ConsentStore for MemoryStore {
    async fn begin(
        &self,
        consent: &Consent,
        _: ConsentLimits,
    ) -> Result<BeginConsentResult, StoreError> {
        if *self.full.lock().unwrap() {
            return Ok(BeginConsentResult::CallerLimitReached);
        }
        self.consents.lock().unwrap().insert(consent.id.clone(), consent.clone());
        Ok(BeginConsentResult::Stored)
    }

    async fn get(&self, id: &ConsentId) -> Result<Option<Consent>, StoreError> {
        Ok(self.consents.lock().unwrap().get(id).cloned())
    }

    async fn add_attempt(
        &self,
        state_digest: &[u8; 32],
        attempt: &ConsentAttempt,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let open =
            self.consents.lock().unwrap().get(&attempt.consent).is_some_and(|c| c.is_open(now));
        if open {
            self.attempts.lock().unwrap().insert(*state_digest, attempt.clone());
        }
        Ok(open)
    }

    async fn find_attempt(
        &self,
        state_digest: &[u8; 32],
        now: Timestamp,
    ) -> Result<Option<(Consent, AttemptBinding)>, StoreError> {
        let attempts = self.attempts.lock().unwrap();
        let attempt = attempts.get(state_digest).filter(|attempt| attempt.is_current(now));
        let consents = self.consents.lock().unwrap();
        Ok(attempt.and_then(|attempt| {
            let consent = consents.get(&attempt.consent).filter(|consent| consent.is_open(now))?;
            let (redirect_uri, cookie_digest) =
                (attempt.redirect_uri.clone(), attempt.cookie_digest);
            Some((consent.clone(), AttemptBinding { redirect_uri, cookie_digest }))
        }))
    }

    async fn take_attempt(
        &self,
        state_digest: &[u8; 32],
        now: Timestamp,
    ) -> Result<Option<(Consent, ConsentAttempt)>, StoreError> {
        if *self.redeeming_fails.lock().unwrap() {
            return Err(StoreError::Unavailable("requested failure".to_owned()));
        }
        let attempt = self.attempts.lock().unwrap().remove(state_digest);
        let attempt = attempt.filter(|attempt| now < attempt.expire_time);
        let consents = self.consents.lock().unwrap();
        Ok(attempt.and_then(|attempt| {
            let consent = consents.get(&attempt.consent).filter(|consent| consent.is_open(now))?;
            Some((consent.clone(), attempt))
        }))
    }

    async fn finish(&self, id: &ConsentId, outcome: &ConsentOutcome) -> Result<bool, StoreError> {
        let mut consents = self.consents.lock().unwrap();
        let open = consents.get_mut(id).filter(|consent| consent.outcome.is_none());
        Ok(open.map(|consent| consent.outcome = Some(outcome.clone())).is_some())
    }

    async fn delete_expired(&self, kept: Duration, now: Timestamp) -> Result<u64, StoreError> {
        self.forgotten_before.lock().unwrap().push(now - kept);
        Ok(1)
    }
}

#[async_trait]
impl GrantStore for MemoryStore {
    async fn store_consent(
        &self,
        application: &ApplicationId,
        person: &VerifiedIdentity,
        refresh_token: &SecretString,
        new_id: &GrantId,
        now: Timestamp,
    ) -> Result<Option<StoredConsent>, StoreError> {
        if *self.down.lock().unwrap() {
            return Err(StoreError::Unavailable("requested failure".to_owned()));
        }
        let tenant = TenantName { application: application.clone(), tenant: person.tenant };
        if !self.tenants.lock().unwrap().contains_key(&tenant) {
            return Ok(None);
        }
        let token = refresh_token.expose_secret().to_owned();
        let mut grants = self.grants.lock().unwrap();
        let known = grants.iter_mut().find(|(grant, _)| {
            grant.name.tenant == tenant && grant.associate_id == person.associate_id
        });
        if let Some((grant, kept)) = known {
            let replaced = Some(std::mem::replace(kept, token).into());
            return Ok(Some(StoredConsent { grant: grant.clone(), created: false, replaced }));
        }
        let grant = Grant {
            name: GrantName { tenant, grant: new_id.clone() },
            associate_id: person.associate_id,
            user_principal_name: person.user_principal_name.clone(),
            full_name: person.full_name.clone(),
            state: GrantState::Active,
            create_time: now,
            last_refresh_time: None,
            last_failure: None,
            failing: None,
            revocation_pending: false,
            identity_unconfirmed: false,
            token_version: 1,
            version: 1,
        };
        grants.push((grant.clone(), token));
        Ok(Some(StoredConsent { grant, created: true, replaced: None }))
    }

    async fn get(&self, _: &GrantName) -> Result<Option<Grant>, StoreError> {
        unreachable!("not used by these tests")
    }

    async fn find_by_associate(
        &self,
        tenant: &TenantName,
        associate: AssociateId,
    ) -> Result<Option<Grant>, StoreError> {
        let grants = self.grants.lock().unwrap();
        let found = grants
            .iter()
            .find(|(grant, _)| grant.name.tenant == *tenant && grant.associate_id == associate);
        Ok(found.map(|(grant, _)| grant.clone()))
    }

    async fn find_by_user_principal_name(
        &self,
        _: &TenantName,
        _: &str,
    ) -> Result<Vec<Grant>, StoreError> {
        unreachable!("not used by these tests")
    }

    async fn list(
        &self,
        _: &GrantScope,
        _: Option<&GrantName>,
        _: u32,
    ) -> Result<Vec<Grant>, StoreError> {
        unreachable!("not used by these tests")
    }

    async fn refresh_token(
        &self,
        name: &GrantName,
    ) -> Result<Option<StoredRefreshToken>, StoreError> {
        let grants = self.grants.lock().unwrap();
        let found = grants.iter().find(|(grant, _)| grant.name == *name);
        Ok(found.map(|(grant, token)| StoredRefreshToken {
            token: token.clone().into(),
            version: grant.token_version,
            intent: None,
        }))
    }

    async fn record_intent(
        &self,
        _: &GrantName,
        _: &Lease,
        _: i64,
        _: Timestamp,
    ) -> Result<bool, StoreError> {
        unreachable!("not used by these tests")
    }

    async fn retry_orphaned_intent(
        &self,
        _: &GrantName,
        _: &Lease,
        _: Timestamp,
    ) -> Result<bool, StoreError> {
        unreachable!("not used by these tests")
    }

    async fn store_rotated_token(
        &self,
        _: &GrantName,
        _: &Lease,
        _: i64,
        _: &SecretString,
    ) -> Result<RotationOutcome, StoreError> {
        unreachable!("not used by these tests")
    }

    async fn record_outcome(
        &self,
        _: &GrantName,
        _: &Lease,
        _: i64,
        _: &RefreshOutcome,
        _: Timestamp,
    ) -> Result<Option<Grant>, StoreError> {
        unreachable!("not used by these tests")
    }

    async fn access_token(&self, _: &GrantName) -> Result<Option<AccessToken>, StoreError> {
        unreachable!("not used by these tests")
    }

    async fn delete_access_token(&self, _: &GrantName, _: &CredentialId) -> Result<(), StoreError> {
        unreachable!("not used by these tests")
    }

    async fn revoke(&self, _: &GrantName) -> Result<Option<Grant>, StoreError> {
        unreachable!("not used by these tests")
    }

    async fn pending_revocations(
        &self,
        _: Option<&GrantName>,
        _: u32,
    ) -> Result<Vec<GrantName>, StoreError> {
        unreachable!("not used by these tests")
    }

    async fn token_to_revoke(
        &self,
        _: &GrantName,
    ) -> Result<Option<StoredRefreshToken>, StoreError> {
        unreachable!("not used by these tests")
    }

    async fn mark_revoked_upstream(
        &self,
        _: &GrantName,
        _: i64,
    ) -> Result<Option<Grant>, StoreError> {
        unreachable!("not used by these tests")
    }

    async fn mark_all_unconfirmed(&self, _: &TenantName) -> Result<u64, StoreError> {
        unreachable!("not used by these tests")
    }
}

#[async_trait]
impl TenantStore for MemoryStore {
    async fn create(
        &self,
        name: &TenantName,
        _: &BTreeMap<String, String>,
        _: Timestamp,
    ) -> Result<Tenant, StoreError> {
        if self.tenants.lock().unwrap().contains_key(name) {
            return Err(StoreError::AlreadyExists);
        }
        self.add_tenant(name);
        Ok(self.tenants.lock().unwrap()[name].0.clone())
    }

    async fn get(&self, name: &TenantName) -> Result<Option<Tenant>, StoreError> {
        Ok(self.tenants.lock().unwrap().get(name).map(|(tenant, _)| tenant.clone()))
    }

    async fn list(
        &self,
        _: Option<&ApplicationId>,
        _: Option<&TenantName>,
        _: u32,
    ) -> Result<Vec<Tenant>, StoreError> {
        unreachable!("not used by these tests")
    }

    async fn find_stopped(&self, _: &[TenantName]) -> Result<Vec<TenantName>, StoreError> {
        unreachable!("not used by these tests")
    }

    async fn applications_of(
        &self,
        _: ContextIdentifier,
    ) -> Result<Vec<ApplicationId>, StoreError> {
        unreachable!("not used by these tests")
    }

    async fn set_disabled(
        &self,
        _: &TenantName,
        _: bool,
        _: Timestamp,
    ) -> Result<Option<Tenant>, StoreError> {
        unreachable!("not used by these tests")
    }

    async fn set_system_user_token(
        &self,
        name: &TenantName,
        token: &SecretString,
        _: Timestamp,
    ) -> Result<Option<Tenant>, StoreError> {
        let mut tenants = self.tenants.lock().unwrap();
        Ok(tenants.get_mut(name).map(|(tenant, kept)| {
            tenant.token_version += 1;
            *kept = Some(token.expose_secret().to_owned());
            tenant.clone()
        }))
    }

    async fn system_user_token(&self, _: &TenantName) -> Result<Option<StoredToken>, StoreError> {
        unreachable!("not used by these tests")
    }

    async fn put_status(&self, _: &TenantName, _: &TenantStatus) -> Result<(), StoreError> {
        unreachable!("not used by these tests")
    }

    async fn put_company_name(&self, name: &TenantName, company: &str) -> Result<(), StoreError> {
        if let Some((tenant, _)) = self.tenants.lock().unwrap().get_mut(name) {
            company.clone_into(&mut tenant.company_name);
        }
        Ok(())
    }

    async fn delete(
        &self,
        _: &TenantName,
        _: Option<i64>,
        _: bool,
    ) -> Result<Deletion, StoreError> {
        unreachable!("not used by these tests")
    }
}
