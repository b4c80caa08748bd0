//! Consents and their attempts.

use std::time::Duration;

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;

use super::SqliteStore;
use crate::{
    domain::{ApplicationId, AttemptBinding, Consent, ConsentAttempt, ConsentId, ConsentOutcome},
    ports::{BeginConsentResult, ConsentLimits, ConsentStore, MAX_CONSENT_ATTEMPTS, StoreError},
    store::{
        record::{AttemptRecord, BindingRecord, ConsentRecord, OutcomeColumns},
        sealing::VERIFIER,
    },
};

/// The columns of `ConsentRecord`.
macro_rules! columns {
    () => {
        "id, application, tenant, caller, caller_method, caller_issuer, return_uri, redirect_uri, login_hint, enroll_system_user, \
         expected_user_principal_name, reason, create_time, expire_time, outcome, outcome_grant, outcome_enrolled, \
         outcome_reason"
    };
}

const COUNT_OPEN: &str = "SELECT count(*) FROM consents \
     WHERE caller = ?1 AND outcome IS NULL AND expire_time > ?2";
const COUNT: &str = "SELECT count(*) FROM consents";
const BEGIN: &str = "INSERT INTO consents (id, application, tenant, caller, return_uri, redirect_uri, login_hint, \
     enroll_system_user, expected_user_principal_name, reason, create_time, expire_time, caller_method, \
     caller_issuer) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)";
const GET: &str = concat!("SELECT ", columns!(), " FROM consents WHERE id = ?1");
const GET_OPEN: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM consents WHERE id = ?1 AND outcome IS NULL AND expire_time > ?2"
);
const ADD_ATTEMPT: &str = "INSERT INTO consent_attempts \
     (state_digest, consent, nonce, verifier, redirect_uri, cookie_digest, expire_time) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
const DELETE_OLDEST: &str = "DELETE FROM consent_attempts WHERE consent = ?1 AND rowid NOT IN \
     (SELECT rowid FROM consent_attempts WHERE consent = ?1 ORDER BY rowid DESC LIMIT ?2)";
const FIND: &str = "SELECT consent, redirect_uri, cookie_digest, expire_time FROM consent_attempts \
     WHERE state_digest = ?1";
const IS_KEPT: &str = "SELECT EXISTS (SELECT 1 FROM consent_attempts WHERE state_digest = ?1)";
/// Deletes the attempt even if it has expired, because it is useless then.
const TAKE_ATTEMPT: &str = "DELETE FROM consent_attempts WHERE state_digest = ?1 \
     RETURNING consent, nonce, verifier, redirect_uri, cookie_digest, expire_time";
const FINISH: &str = "UPDATE consents SET outcome = ?2, outcome_grant = ?3, outcome_enrolled = ?4, \
     outcome_reason = ?5 WHERE id = ?1 AND outcome IS NULL";
const DELETE_ATTEMPTS: &str = "DELETE FROM consent_attempts WHERE consent = ?1";
const DELETE_EXPIRED_ATTEMPTS: &str = "DELETE FROM consent_attempts WHERE expire_time <= ?1";
/// Deletes the open consents of a deleted tenant: an old link must not recreate it.
pub(super) const DELETE_OPEN_OF_TENANT: &str =
    "DELETE FROM consents WHERE application = ?1 AND tenant = ?2 AND outcome IS NULL";
const DELETE_EXPIRED: &str = "DELETE FROM consents WHERE expire_time <= ?1";

#[async_trait]
impl ConsentStore for SqliteStore {
    async fn begin(
        &self,
        consent: &Consent,
        limits: ConsentLimits,
    ) -> Result<BeginConsentResult, StoreError> {
        let mut writer = self.file.writer().await?;
        let mut transaction = writer.begin().await?;
        let open: i64 = sqlx::query_scalar(COUNT_OPEN)
            .bind(&consent.caller.id)
            .bind(consent.create_time.as_microsecond())
            .fetch_one(&mut *transaction)
            .await?;
        if open >= limits.open_per_caller.into() {
            return Ok(BeginConsentResult::CallerLimitReached);
        }
        let all: i64 = sqlx::query_scalar(COUNT).fetch_one(&mut *transaction).await?;
        if all >= limits.total.into() {
            return Ok(BeginConsentResult::TotalLimitReached);
        }
        sqlx::query(BEGIN)
            .bind(consent.id.as_str())
            .bind(consent.application.as_str())
            .bind(consent.tenant.map(|tenant| tenant.to_string()))
            .bind(&consent.caller.id)
            .bind(&consent.return_uri)
            .bind(&consent.redirect_uri)
            .bind(&consent.login_hint)
            .bind(consent.enroll_system_user)
            .bind(&consent.expected_user_principal_name)
            .bind(&consent.reason)
            .bind(consent.create_time.as_microsecond())
            .bind(consent.expire_time.as_microsecond())
            .bind(&consent.caller.method)
            .bind(&consent.caller.issuer)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(BeginConsentResult::Stored)
    }

    async fn get(&self, id: &ConsentId) -> Result<Option<Consent>, StoreError> {
        let record: Option<ConsentRecord> =
            sqlx::query_as(GET).bind(id.as_str()).fetch_optional(self.file.readers()?).await?;
        record.map(ConsentRecord::into_consent).transpose()
    }

    async fn add_attempt(
        &self,
        state_digest: &[u8; 32],
        attempt: &ConsentAttempt,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let mut writer = self.file.writer().await?;
        let mut transaction = writer.begin().await?;
        let record: Option<ConsentRecord> = sqlx::query_as(GET_OPEN)
            .bind(attempt.consent.as_str())
            .bind(now.as_microsecond())
            .fetch_optional(&mut *transaction)
            .await?;
        let Some(record) = record else {
            return Ok(false);
        };
        let consent = record.into_consent()?;
        if !consent.is_open(now) {
            return Ok(false);
        }
        let application = consent.application;
        let environment = self.environment(&application).await?;
        let place = attempt_resource(&application, &attempt.consent, state_digest);
        let sealed = self.sealing.seal(VERIFIER, &environment, &place, &attempt.verifier)?;
        sqlx::query(ADD_ATTEMPT)
            .bind(state_digest.as_slice())
            .bind(attempt.consent.as_str())
            .bind(&attempt.nonce)
            .bind(sealed)
            .bind(&attempt.redirect_uri)
            .bind(attempt.cookie_digest.as_ref().map(<[u8; 32]>::as_slice))
            .bind(attempt.expire_time.as_microsecond())
            .execute(&mut *transaction)
            .await?;
        sqlx::query(DELETE_OLDEST)
            .bind(attempt.consent.as_str())
            .bind(MAX_CONSENT_ATTEMPTS)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(true)
    }

    async fn find_attempt(
        &self,
        state_digest: &[u8; 32],
        now: Timestamp,
    ) -> Result<Option<(Consent, AttemptBinding)>, StoreError> {
        // Anyone can send made-up states, so the check does not block writers.
        let readers = self.file.readers()?;
        let binding: Option<BindingRecord> =
            sqlx::query_as(FIND).bind(state_digest.as_slice()).fetch_optional(readers).await?;
        let Some(binding) = binding else { return Ok(None) };
        let consent: Option<ConsentRecord> =
            sqlx::query_as(GET).bind(&binding.consent).fetch_optional(readers).await?;
        let consent = consent.map(ConsentRecord::into_consent).transpose()?;
        let Some(consent) = consent.filter(|consent| consent.is_open(now)) else {
            return Ok(None);
        };
        let binding = binding.into_binding(&consent.id, now)?;
        Ok(binding.map(|binding| (consent, binding)))
    }

    async fn take_attempt(
        &self,
        state_digest: &[u8; 32],
        now: Timestamp,
    ) -> Result<Option<(Consent, ConsentAttempt)>, StoreError> {
        // Anyone can send made-up states, so the check does not block writers.
        let is_kept: bool = sqlx::query_scalar(IS_KEPT)
            .bind(state_digest.as_slice())
            .fetch_one(self.file.readers()?)
            .await?;
        if !is_kept {
            return Ok(None);
        }
        let mut writer = self.file.writer().await?;
        let mut transaction = writer.begin().await?;
        let attempt: Option<AttemptRecord> = sqlx::query_as(TAKE_ATTEMPT)
            .bind(state_digest.as_slice())
            .fetch_optional(&mut *transaction)
            .await?;
        let Some(attempt) = attempt else {
            return Ok(None);
        };
        let consent: Option<ConsentRecord> = sqlx::query_as(GET_OPEN)
            .bind(&attempt.consent)
            .bind(now.as_microsecond())
            .fetch_optional(&mut *transaction)
            .await?;
        // From here on the attempt is used up, whatever the result is.
        transaction.commit().await?;
        let Some(consent) = consent else {
            return Ok(None);
        };
        let consent = consent.into_consent()?;
        if !consent.is_open(now) {
            return Ok(None);
        }
        let environment = self.environment(&consent.application).await?;
        let place = attempt_resource(&consent.application, &consent.id, state_digest);
        let verifier = self.sealing.open(VERIFIER, &environment, &place, &attempt.verifier)?;
        let attempt = attempt.into_attempt(&consent.id, verifier)?;
        Ok(attempt.is_current(now).then_some((consent, attempt)))
    }

    async fn finish(&self, id: &ConsentId, outcome: &ConsentOutcome) -> Result<bool, StoreError> {
        let columns = OutcomeColumns::of(outcome);
        let mut writer = self.file.writer().await?;
        let mut transaction = writer.begin().await?;
        let done = sqlx::query(FINISH)
            .bind(id.as_str())
            .bind(columns.outcome)
            .bind(columns.outcome_grant)
            .bind(columns.outcome_enrolled)
            .bind(columns.outcome_reason)
            .execute(&mut *transaction)
            .await?;
        sqlx::query(DELETE_ATTEMPTS).bind(id.as_str()).execute(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(done.rows_affected() == 1)
    }

    async fn delete_expired(&self, kept: Duration, now: Timestamp) -> Result<u64, StoreError> {
        let before = now.saturating_sub(kept).unwrap_or(Timestamp::MIN);
        let mut writer = self.file.writer().await?;
        let mut transaction = writer.begin().await?;
        sqlx::query(DELETE_EXPIRED_ATTEMPTS)
            .bind(now.as_microsecond())
            .execute(&mut *transaction)
            .await?;
        let done = sqlx::query(DELETE_EXPIRED)
            .bind(before.as_microsecond())
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(done.rows_affected())
    }
}

/// Returns the resource name to which the verifier of an attempt is bound.
fn attempt_resource(
    application: &ApplicationId,
    consent: &ConsentId,
    state_digest: &[u8; 32],
) -> String {
    let state = URL_SAFE_NO_PAD.encode(state_digest);
    format!("applications/{application}/consents/{consent}/attempts/{state}")
}
