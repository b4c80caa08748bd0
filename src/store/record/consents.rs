//! Rows of consents and of their attempts.

use jiff::Timestamp;
use secrecy::SecretString;

use super::{application_id, corrupt_column, microseconds};
use crate::{
    domain::{
        ATTEMPT_LIFETIME, AttemptBinding, CallerRecord, Consent, ConsentAttempt, ConsentId,
        ConsentOutcome, Reason, is_current,
    },
    ports::StoreError,
};

const GRANTED: &str = "GRANTED";
const REFUSED: &str = "REFUSED";
const FAILED: &str = "FAILED";

/// The columns of a consent's outcome.
#[derive(sqlx::FromRow)]
pub(in crate::store) struct OutcomeColumns {
    pub(in crate::store) outcome: Option<String>,
    pub(in crate::store) outcome_grant: Option<String>,
    pub(in crate::store) outcome_enrolled: Option<bool>,
    pub(in crate::store) outcome_reason: Option<String>,
}

/// A row of `consents`.
#[derive(sqlx::FromRow)]
pub(in crate::store) struct ConsentRecord {
    id: String,
    application: String,
    tenant: Option<String>,
    caller: String,
    caller_method: String,
    caller_issuer: Option<String>,
    return_uri: Option<String>,
    redirect_uri: Option<String>,
    login_hint: Option<String>,
    enroll_system_user: bool,
    expected_user_principal_name: Option<String>,
    reason: String,
    create_time: i64,
    expire_time: i64,
    #[sqlx(flatten)]
    outcome: OutcomeColumns,
}

/// A row of `consent_attempts`.
#[derive(sqlx::FromRow)]
pub(in crate::store) struct AttemptRecord {
    pub(in crate::store) consent: String,
    nonce: String,
    pub(in crate::store) verifier: Vec<u8>,
    redirect_uri: String,
    cookie_digest: Option<Vec<u8>>,
    expire_time: i64,
}

/// The columns of `consent_attempts` that bind an attempt.
#[derive(sqlx::FromRow)]
pub(in crate::store) struct BindingRecord {
    pub(in crate::store) consent: String,
    redirect_uri: String,
    cookie_digest: Option<Vec<u8>>,
    expire_time: i64,
}

impl BindingRecord {
    /// Returns `None` if the attempt has expired.
    pub(in crate::store) fn into_binding(
        self,
        consent: &ConsentId,
        now: Timestamp,
    ) -> Result<Option<AttemptBinding>, StoreError> {
        let expire_time = microseconds(self.expire_time, "expire_time", consent)?;
        let digest = self.cookie_digest.map(TryInto::try_into).transpose();
        let cookie_digest = digest.map_err(|_| corrupt_column("cookie_digest", consent))?;
        let redirect_uri = self.redirect_uri;
        Ok(is_current(expire_time, ATTEMPT_LIFETIME, now)
            .then_some(AttemptBinding { redirect_uri, cookie_digest }))
    }
}

impl OutcomeColumns {
    pub(in crate::store) fn of(outcome: &ConsentOutcome) -> Self {
        let none = Self {
            outcome: None,
            outcome_grant: None,
            outcome_enrolled: None,
            outcome_reason: None,
        };
        match outcome {
            ConsentOutcome::Granted { grant, system_user_enrolled } => Self {
                outcome: Some(GRANTED.to_owned()),
                outcome_grant: Some(grant.to_string()),
                outcome_enrolled: Some(*system_user_enrolled),
                ..none
            },
            ConsentOutcome::Refused => Self { outcome: Some(REFUSED.to_owned()), ..none },
            ConsentOutcome::Failed(reason) => Self {
                outcome: Some(FAILED.to_owned()),
                outcome_reason: Some(reason.as_str().to_owned()),
                ..none
            },
        }
    }

    /// Returns `None` if the columns are not a valid outcome.
    fn outcome(&self) -> Option<ConsentOutcome> {
        match self.outcome.as_deref()? {
            GRANTED => Some(ConsentOutcome::Granted {
                grant: self.outcome_grant.as_ref()?.parse().ok()?,
                system_user_enrolled: self.outcome_enrolled?,
            }),
            REFUSED => Some(ConsentOutcome::Refused),
            FAILED => Reason::from_name(self.outcome_reason.as_ref()?).map(ConsentOutcome::Failed),
            _ => None,
        }
    }
}

impl ConsentRecord {
    pub(in crate::store) fn into_consent(self) -> Result<Consent, StoreError> {
        let wrong = |column| corrupt_column(column, &format_args!("consent {}", self.id));
        let time = |value, column| microseconds(value, column, &self.id);
        let outcome = match &self.outcome.outcome {
            None => None,
            Some(_) => Some(self.outcome.outcome().ok_or_else(|| wrong("outcome"))?),
        };
        let tenant = self.tenant.as_deref().map(str::parse).transpose();
        Ok(Consent {
            id: self.id.parse().map_err(|_| wrong("id"))?,
            application: application_id(&self.application)?,
            tenant: tenant.map_err(|_| wrong("tenant"))?,
            create_time: time(self.create_time, "create_time")?,
            expire_time: time(self.expire_time, "expire_time")?,
            outcome,
            caller: CallerRecord {
                id: self.caller,
                method: self.caller_method,
                issuer: self.caller_issuer,
            },
            return_uri: self.return_uri,
            redirect_uri: self.redirect_uri,
            login_hint: self.login_hint,
            enroll_system_user: self.enroll_system_user,
            expected_user_principal_name: self.expected_user_principal_name,
            reason: self.reason,
        })
    }
}

impl AttemptRecord {
    pub(in crate::store) fn into_attempt(
        self,
        consent: &ConsentId,
        verifier: SecretString,
    ) -> Result<ConsentAttempt, StoreError> {
        let digest = self.cookie_digest.map(TryInto::try_into).transpose();
        Ok(ConsentAttempt {
            consent: consent.clone(),
            nonce: self.nonce,
            verifier,
            redirect_uri: self.redirect_uri,
            cookie_digest: digest.map_err(|_| corrupt_column("cookie_digest", consent))?,
            expire_time: microseconds(self.expire_time, "expire_time", consent)?,
        })
    }
}
