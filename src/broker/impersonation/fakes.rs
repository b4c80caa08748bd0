//! A grant store in memory and a fake OAuth provider, both scriptable.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};

use crate::{
    domain::{
        AccessToken, ApplicationId, AssociateId, CredentialId, FailureStreak, Grant, GrantFailure,
        GrantId, GrantName, GrantScope, GrantState, RefreshToken, TenantName, VerifiedIdentity,
        is_same_name,
    },
    ports::{
        AuthorizationRequest, CodeExchange, CodeResponse, ExchangeError, GrantStore, HeldLease,
        Lease, LeaseStore, OAuth, RefreshIntent, RefreshOutcome, RefreshResponse, RotationOutcome,
        StoreError, StoredConsent, StoredRefreshToken, UpstreamError, VerifiedAccess,
    },
};

/// The operations, in order.
pub(in crate::broker) type CallLog = Arc<Mutex<Vec<&'static str>>>;

/// A grant and lease store in memory.
#[derive(Default)]
pub(in crate::broker) struct GrantTable {
    pub(in crate::broker) log: CallLog,
    table: Mutex<Table>,
    /// The operations that fail, and the number of failures left.
    pub(in crate::broker) failures: Mutex<HashMap<&'static str, u32>>,
}

#[derive(Default)]
struct Table {
    rows: BTreeMap<GrantName, Row>,
    leases: HashMap<String, (String, i64, Timestamp)>,
    fence: i64,
    renewals: u32,
}

struct Row {
    grant: Grant,
    token: Option<String>,
    intent: Option<RefreshIntent>,
    access: Option<AccessToken>,
    doubted_at: Option<i64>,
}

impl GrantTable {
    /// Adds a grant whose refresh token is `r{associate}`.
    pub(in crate::broker) fn add(&self, tenant: &TenantName, associate: i32) -> GrantName {
        let id = format!("g{associate}").parse().unwrap();
        let name = GrantName { tenant: tenant.clone(), grant: id };
        let grant = new_grant(&name, &person(tenant, associate), Timestamp::UNIX_EPOCH);
        let token = Some(format!("r{associate}"));
        let row = Row { grant, token, intent: None, access: None, doubted_at: None };
        self.lock().rows.insert(name.clone(), row);
        name
    }

    pub(in crate::broker) fn grant(&self, name: &GrantName) -> Grant {
        self.lock().rows[name].grant.clone()
    }

    pub(in crate::broker) fn token(&self, name: &GrantName) -> Option<String> {
        self.lock().rows[name].token.clone()
    }

    pub(in crate::broker) fn set_token(&self, name: &GrantName, token: &str) {
        let mut table = self.lock();
        let row = table.rows.get_mut(name).unwrap();
        row.token = Some(token.to_owned());
        row.grant.token_version += 1;
        row.grant.version += 1;
    }

    /// Leaves the intent of a process that crashed during an exchange.
    pub(in crate::broker) fn leave_orphaned_intent(&self, name: &GrantName, retried: bool) {
        let mut table = self.lock();
        table.fence += 1;
        let fence = table.fence;
        let row = table.rows.get_mut(name).unwrap();
        row.intent = Some(RefreshIntent { fence, retried, time: Timestamp::UNIX_EPOCH });
    }

    pub(in crate::broker) fn has_intent(&self, name: &GrantName) -> bool {
        self.lock().rows[name].intent.is_some()
    }

    pub(in crate::broker) fn delete(&self, name: &GrantName) {
        self.lock().rows.remove(name);
    }

    pub(in crate::broker) fn rename(&self, name: &GrantName, user_principal_name: &str) {
        let mut table = self.lock();
        let grant = &mut table.rows.get_mut(name).unwrap().grant;
        grant.user_principal_name = user_principal_name.to_owned();
    }

    pub(in crate::broker) fn renewals(&self) -> u32 {
        self.lock().renewals
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap()
    }

    /// Returns whether this attempt must fail.
    fn take_failure(&self, what: &'static str) -> bool {
        let mut failing = self.failures.lock().unwrap();
        let Some(more) = failing.get_mut(what).filter(|more| **more > 0) else { return false };
        *more -= 1;
        true
    }

    /// Logs the operation, or fails if the test asked for that.
    fn begin(&self, what: &'static str) -> Result<MutexGuard<'_, Table>, StoreError> {
        if self.take_failure(what) {
            return Err(StoreError::Unavailable("requested failure".to_owned()));
        }
        self.log.lock().unwrap().push(what);
        Ok(self.lock())
    }
}

impl Table {
    fn holds(&self, lease: &Lease) -> bool {
        self.leases.get(&lease.key).is_some_and(|(_, fence, _)| *fence == lease.fence)
    }
}

pub(in crate::broker) fn person(tenant: &TenantName, associate: i32) -> VerifiedIdentity {
    VerifiedIdentity {
        tenant: tenant.tenant,
        associate_id: AssociateId::new(associate).unwrap(),
        user_principal_name: format!("p{associate}@example.com"),
        full_name: String::new(),
        email: String::new(),
        is_administrator: false,
        system_user_token: None,
        company_name: String::new(),
    }
}

fn new_grant(name: &GrantName, person: &VerifiedIdentity, now: Timestamp) -> Grant {
    Grant {
        name: name.clone(),
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
    }
}

#[async_trait]
impl GrantStore for GrantTable {
    async fn store_consent(
        &self,
        application: &ApplicationId,
        person: &VerifiedIdentity,
        refresh_token: &SecretString,
        new_id: &GrantId,
        now: Timestamp,
    ) -> Result<Option<StoredConsent>, StoreError> {
        if self.take_failure("consented, outcome unknown") {
            return Err(StoreError::OutcomeUnknown("requested failure".to_owned()));
        }
        let mut table = self.begin("consented")?;
        let tenant = TenantName { application: application.clone(), tenant: person.tenant };
        let token = Some(refresh_token.expose_secret().to_owned());
        let same = |row: &&mut Row| {
            row.grant.name.tenant == tenant && row.grant.associate_id == person.associate_id
        };
        if let Some(row) = table.rows.values_mut().find(same) {
            let replaced = std::mem::replace(&mut row.token, token).map(Into::into);
            (row.intent, row.access, row.doubted_at) = (None, None, None);
            let grant = &mut row.grant;
            grant.state = GrantState::Active;
            (grant.last_failure, grant.failing, grant.identity_unconfirmed) = (None, None, false);
            grant.token_version += 1;
            grant.version += 1;
            return Ok(Some(StoredConsent { grant: grant.clone(), created: false, replaced }));
        }
        let name = GrantName { tenant, grant: new_id.clone() };
        let grant = new_grant(&name, person, now);
        let row = Row { grant: grant.clone(), token, intent: None, access: None, doubted_at: None };
        table.rows.insert(name, row);
        Ok(Some(StoredConsent { grant, created: true, replaced: None }))
    }

    async fn get(&self, name: &GrantName) -> Result<Option<Grant>, StoreError> {
        Ok(self.lock().rows.get(name).map(|row| row.grant.clone()))
    }

    async fn find_by_associate(
        &self,
        tenant: &TenantName,
        associate: AssociateId,
    ) -> Result<Option<Grant>, StoreError> {
        let table = self.lock();
        let mut grants = table.rows.values().map(|row| &row.grant);
        let found = grants.find(|it| it.name.tenant == *tenant && it.associate_id == associate);
        Ok(found.cloned())
    }

    async fn find_by_user_principal_name(
        &self,
        tenant: &TenantName,
        user_principal_name: &str,
    ) -> Result<Vec<Grant>, StoreError> {
        let table = self.lock();
        let grants = table.rows.values().map(|row| &row.grant);
        let named = |grant: &&Grant| {
            grant.name.tenant == *tenant
                && is_same_name(user_principal_name, &grant.user_principal_name)
        };
        Ok(grants.filter(named).cloned().collect())
    }

    async fn list(
        &self,
        scope: &GrantScope,
        after: Option<&GrantName>,
        limit: u32,
    ) -> Result<Vec<Grant>, StoreError> {
        let table = self.lock();
        let rows = table.rows.values().map(|row| &row.grant);
        let rows = rows.filter(|it| scope.contains(&it.name) && Some(&it.name) > after);
        Ok(rows.take(limit as usize).cloned().collect())
    }

    async fn refresh_token(
        &self,
        name: &GrantName,
    ) -> Result<Option<StoredRefreshToken>, StoreError> {
        let table = self.begin("read")?;
        let row = table.rows.get(name).filter(|row| row.grant.state != GrantState::Revoked);
        Ok(row.and_then(stored))
    }

    async fn record_intent(
        &self,
        name: &GrantName,
        lease: &Lease,
        token_version: i64,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let mut table = self.begin("intend")?;
        let held = table.holds(lease);
        let Some(row) = table.rows.get_mut(name) else { return Ok(false) };
        let present = row.grant.token_version == token_version;
        let orphan = row.intent.is_some_and(|intent| intent.fence != lease.fence);
        if !held || !present || orphan || row.grant.state == GrantState::Revoked {
            return Ok(false);
        }
        row.intent = Some(RefreshIntent { fence: lease.fence, retried: false, time: now });
        Ok(true)
    }

    async fn retry_orphaned_intent(
        &self,
        name: &GrantName,
        lease: &Lease,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let mut table = self.begin("retry")?;
        let held = table.holds(lease);
        let Some(row) = table.rows.get_mut(name) else { return Ok(false) };
        if !held || row.intent.is_none_or(|intent| intent.retried) {
            return Ok(false);
        }
        row.intent = Some(RefreshIntent { fence: lease.fence, retried: true, time: now });
        Ok(true)
    }

    async fn store_rotated_token(
        &self,
        name: &GrantName,
        lease: &Lease,
        token_version: i64,
        refresh_token: &SecretString,
    ) -> Result<RotationOutcome, StoreError> {
        let mut table = self.begin("keep_rotated")?;
        let held = table.holds(lease);
        let Some(row) = table.rows.get_mut(name) else { return Ok(RotationOutcome::Discarded) };
        if !held || row.grant.token_version != token_version {
            return Ok(RotationOutcome::Discarded);
        }
        row.token = Some(refresh_token.expose_secret().to_owned());
        row.intent = None;
        row.grant.token_version += 1;
        row.grant.version += 1;
        if row.grant.state == GrantState::Revoked {
            row.grant.revocation_pending = true;
            return Ok(RotationOutcome::ToBeRevoked);
        }
        Ok(RotationOutcome::Stored(row.grant.token_version))
    }

    async fn record_outcome(
        &self,
        name: &GrantName,
        lease: &Lease,
        token_version: i64,
        outcome: &RefreshOutcome,
        now: Timestamp,
    ) -> Result<Option<Grant>, StoreError> {
        let mut table = self.begin("settle")?;
        if !table.holds(lease) {
            return Ok(None);
        }
        let Some(row) = table.rows.get_mut(name) else { return Ok(None) };
        row.intent = None;
        let grant = &mut row.grant;
        let overtaken = grant.token_version != token_version
            || grant.state == GrantState::Revoked
            || row.doubted_at.is_some_and(|fence| fence >= lease.fence);
        if overtaken {
            return Ok(None);
        }
        if !matches!(outcome, RefreshOutcome::Refreshed { .. }) {
            let before = grant.failing.unwrap_or(FailureStreak { count: 0, since: now });
            grant.failing = Some(FailureStreak { count: before.count + 1, ..before });
        }
        match outcome {
            RefreshOutcome::Refreshed { access_token, user_principal_name, full_name } => {
                row.access = Some(access_token.clone());
                (grant.state, grant.last_refresh_time) = (GrantState::Active, Some(now));
                grant.user_principal_name = user_principal_name.clone();
                grant.full_name = full_name.clone();
                (grant.identity_unconfirmed, row.doubted_at) = (false, None);
                grant.failing = None;
            }
            RefreshOutcome::ConsentRequired { reason } => {
                row.access = None;
                if grant.state == GrantState::Active {
                    grant.last_failure = Some(GrantFailure { reason: *reason, time: now });
                }
                grant.state = GrantState::ConsentRequired;
            }
            RefreshOutcome::Failed { reason } => {
                if grant.state == GrantState::Active {
                    grant.last_failure = Some(GrantFailure { reason: *reason, time: now });
                }
            }
        }
        grant.version += 1;
        Ok(Some(grant.clone()))
    }

    async fn access_token(&self, name: &GrantName) -> Result<Option<AccessToken>, StoreError> {
        Ok(self.lock().rows.get(name).and_then(|row| row.access.clone()))
    }

    async fn delete_access_token(
        &self,
        name: &GrantName,
        credential_id: &CredentialId,
    ) -> Result<(), StoreError> {
        if let Some(row) = self.lock().rows.get_mut(name) {
            row.access.take_if(|token| token.credential_id == *credential_id);
        }
        Ok(())
    }

    async fn revoke(&self, name: &GrantName) -> Result<Option<Grant>, StoreError> {
        let mut table = self.begin("revoke")?;
        let Some(row) = table.rows.get_mut(name) else { return Ok(None) };
        row.access = None;
        if row.grant.state != GrantState::Revoked {
            (row.grant.state, row.grant.revocation_pending) = (GrantState::Revoked, true);
            row.grant.version += 1;
        }
        Ok(Some(row.grant.clone()))
    }

    async fn pending_revocations(
        &self,
        after: Option<&GrantName>,
        limit: u32,
    ) -> Result<Vec<GrantName>, StoreError> {
        let table = self.lock();
        let pending = table.rows.iter().filter(|(_, row)| row.grant.revocation_pending);
        let names = pending.map(|(name, _)| name).filter(|name| Some(*name) > after);
        Ok(names.take(limit as usize).cloned().collect())
    }

    async fn token_to_revoke(
        &self,
        name: &GrantName,
    ) -> Result<Option<StoredRefreshToken>, StoreError> {
        let table = self.lock();
        Ok(table.rows.get(name).filter(|row| row.grant.revocation_pending).and_then(stored))
    }

    async fn mark_revoked_upstream(
        &self,
        name: &GrantName,
        token_version: i64,
    ) -> Result<Option<Grant>, StoreError> {
        let mut table = self.lock();
        let row = table.rows.get_mut(name);
        let Some(row) = row.filter(|row| row.grant.token_version == token_version) else {
            return Ok(None);
        };
        row.token = None;
        row.grant.revocation_pending = false;
        row.grant.version += 1;
        Ok(Some(row.grant.clone()))
    }

    async fn mark_all_unconfirmed(&self, tenant: &TenantName) -> Result<u64, StoreError> {
        let mut table = self.begin("doubt_all")?;
        let fence = table.fence;
        let rows = table.rows.values_mut().filter(|row| row.grant.name.tenant == *tenant);
        Ok(rows
            .map(|row| {
                (row.access, row.doubted_at) = (None, Some(fence));
                row.grant.identity_unconfirmed = true;
                row.grant.version += 1;
            })
            .count() as u64)
    }
}

fn stored(row: &Row) -> Option<StoredRefreshToken> {
    let token = row.token.as_deref()?.into();
    Some(StoredRefreshToken { token, version: row.grant.token_version, intent: row.intent })
}

#[async_trait]
impl LeaseStore for GrantTable {
    async fn acquire(
        &self,
        key: &str,
        owner: &str,
        life: Duration,
        now: Timestamp,
    ) -> Result<Option<Lease>, StoreError> {
        let mut table = self.begin("acquire")?;
        let former = table.leases.get(key).map(|(_, _, expires)| *expires);
        if former.is_some_and(|expires| now < expires) {
            return Ok(None);
        }
        table.fence += 1;
        let fence = table.fence;
        table.leases.insert(key.to_owned(), (owner.to_owned(), fence, now + life));
        let (key, owner) = (key.to_owned(), owner.to_owned());
        Ok(Some(Lease { key, owner, fence, previous_expire_time: former }))
    }

    async fn current(&self, key: &str) -> Result<Option<HeldLease>, StoreError> {
        let table = self.lock();
        Ok(table
            .leases
            .get(key)
            .map(|(_, fence, expires)| HeldLease { fence: *fence, expire_time: *expires }))
    }

    async fn take_over(
        &self,
        key: &str,
        owner: &str,
        seen: HeldLease,
        life: Duration,
        now: Timestamp,
    ) -> Result<Option<Lease>, StoreError> {
        if self.current(key).await? != Some(seen) {
            return Ok(None);
        }
        let mut table = self.begin("acquire")?;
        table.fence += 1;
        let fence = table.fence;
        table.leases.insert(key.to_owned(), (owner.to_owned(), fence, now + life));
        let (key, owner) = (key.to_owned(), owner.to_owned());
        Ok(Some(Lease { key, owner, fence, previous_expire_time: Some(seen.expire_time) }))
    }

    async fn renew(
        &self,
        lease: &Lease,
        life: Duration,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let mut table = self.lock();
        table.renewals += 1;
        let held = table.holds(lease);
        if let Some((.., expires)) = table.leases.get_mut(&lease.key).filter(|_| held) {
            *expires = now + life;
        }
        Ok(held)
    }

    async fn release(&self, lease: &Lease) -> Result<(), StoreError> {
        let mut table = self.lock();
        if table.holds(lease) {
            table.leases.remove(&lease.key);
        }
        Ok(())
    }
}

/// The scripted response to a refresh.
#[derive(Clone)]
pub(in crate::broker) enum ScriptedAnswer {
    Rotated(&'static str),
    /// A new refresh token with an invalid `id_token`.
    RotatedWithInvalidIdToken(&'static str),
    ForIdentity(VerifiedIdentity),
    ExpiresIn(Duration),
    Error(ExchangeError),
}

/// A fake provider that issues access tokens to the owner of `r{associate}…`.
pub(in crate::broker) struct FakeOAuth {
    pub(in crate::broker) log: CallLog,
    /// The next responses, in order; later refreshes succeed.
    pub(in crate::broker) script: Mutex<VecDeque<ScriptedAnswer>>,
    pub(in crate::broker) sent: Mutex<Vec<String>>,
    pub(in crate::broker) revoked: Mutex<Vec<String>>,
    /// Whether revocations fail.
    pub(in crate::broker) revocation_fails: Mutex<bool>,
    /// The provider does not answer while a test holds the write lock.
    pub(in crate::broker) gate: Arc<tokio::sync::RwLock<()>>,
}

impl FakeOAuth {
    pub(in crate::broker) fn new(log: CallLog) -> Self {
        Self {
            log,
            script: Mutex::default(),
            sent: Mutex::default(),
            revoked: Mutex::default(),
            revocation_fails: Mutex::default(),
            gate: Arc::default(),
        }
    }

    pub(in crate::broker) fn script_answers(
        &self,
        answers: impl IntoIterator<Item = ScriptedAnswer>,
    ) {
        self.script.lock().unwrap().extend(answers);
    }

    pub(in crate::broker) fn sent(&self) -> Vec<String> {
        self.sent.lock().unwrap().clone()
    }
}

#[async_trait]
impl OAuth for FakeOAuth {
    fn authorization_uri(&self, _: &AuthorizationRequest<'_>) -> SecretString {
        panic!("not used by these tests")
    }

    async fn exchange_code(&self, _: &CodeExchange<'_>) -> Result<CodeResponse, ExchangeError> {
        panic!("not used by these tests")
    }

    async fn refresh(
        &self,
        refresh_token: &SecretString,
    ) -> Result<RefreshResponse, ExchangeError> {
        let token = refresh_token.expose_secret().to_owned();
        self.log.lock().unwrap().push("exchange");
        let number = {
            let mut sent = self.sent.lock().unwrap();
            sent.push(token.clone());
            sent.len()
        };
        let _open = self.gate.read().await;
        let associate: String = token.chars().filter(char::is_ascii_digit).take(1).collect();
        let tenant = "applications/crm-sync/tenants/Cust1".parse().unwrap();
        let mut identity = person(&tenant, associate.parse().unwrap());
        let (mut rotated, mut forged) = (None, false);
        let mut expires_in = Duration::from_hours(1);
        match self.script.lock().unwrap().pop_front() {
            None => {}
            Some(ScriptedAnswer::Rotated(new)) => rotated = Some(new),
            Some(ScriptedAnswer::RotatedWithInvalidIdToken(new)) => {
                (rotated, forged) = (Some(new), true);
            }
            Some(ScriptedAnswer::ForIdentity(other)) => identity = other,
            Some(ScriptedAnswer::ExpiresIn(life)) => expires_in = life,
            Some(ScriptedAnswer::Error(error)) => return Err(error),
        }
        let access_token = format!("8A:Cust1.{token}.{number}").into();
        let access = VerifiedAccess { access_token, expires_in, identity };
        let forgery = UpstreamError::InvalidResponse("forged".to_owned());
        let rotated = rotated.map(|new| RefreshToken::new(&new.into()).unwrap());
        Ok(RefreshResponse::new(rotated, if forged { Err(forgery) } else { Ok(access) }))
    }

    async fn revoke(&self, refresh_token: &SecretString) -> Result<(), ExchangeError> {
        if *self.revocation_fails.lock().unwrap() {
            return Err(ExchangeError::Transient("requested failure".to_owned()));
        }
        self.revoked.lock().unwrap().push(refresh_token.expose_secret().to_owned());
        Ok(())
    }
}
