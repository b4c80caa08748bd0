//! Stored consents: requests to a person for a grant.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use super::StoreError;
use crate::domain::{AttemptBinding, Consent, ConsentAttempt, ConsentId, ConsentOutcome};

/// The maximum number of open attempts of one consent. A further attempt ends the oldest: people open links twice.
pub const MAX_CONSENT_ATTEMPTS: u32 = 8;

/// The maximum numbers of stored consents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConsentLimits {
    /// The maximum number of open consents of one caller.
    pub open_per_caller: u32,
    /// The maximum number of all callers together, including ended consents that are not yet deleted.
    pub total: u32,
}

/// The result of beginning a consent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BeginConsentResult {
    /// The consent is stored.
    Stored,
    /// Rejected: the caller has [`ConsentLimits::open_per_caller`] open consents.
    CallerLimitReached,
    /// Rejected: there are [`ConsentLimits::total`] stored consents.
    TotalLimitReached,
}

/// Stores consents and their attempts. An attempt is one authorization request to SuperOffice.
#[async_trait]
pub trait ConsentStore: Send + Sync + 'static {
    /// Stores a new consent if the limits allow it at its `create_time`.
    ///
    /// # Errors
    /// `AlreadyExists` if a consent with this id exists.
    async fn begin(
        &self,
        consent: &Consent,
        limits: ConsentLimits,
    ) -> Result<BeginConsentResult, StoreError>;

    /// Reads a consent. Expired and ended consents are returned, too, until they are deleted.
    async fn get(&self, id: &ConsentId) -> Result<Option<Consent>, StoreError>;

    /// Stores an attempt under the digest of its `state`: a new attempt, or one that was taken and then failed. Returns
    /// `false` if its consent is deleted, expired or ended.
    ///
    /// # Errors
    /// `AlreadyExists` if an attempt with this `state` is stored.
    async fn add_attempt(
        &self,
        state_digest: &[u8; 32],
        attempt: &ConsentAttempt,
        now: Timestamp,
    ) -> Result<bool, StoreError>;

    /// Reads the attempt of a `state` without removing it, so that the caller can check whether it may be taken.
    /// Returns `None` if there is none, or if the attempt or its consent has expired or ended.
    async fn find_attempt(
        &self,
        state_digest: &[u8; 32],
        now: Timestamp,
    ) -> Result<Option<(Consent, AttemptBinding)>, StoreError>;

    /// Removes and returns the attempt of a `state`: of concurrent calls, exactly one receives it. Returns `None` if
    /// there is none, or if the attempt or its consent has expired or ended.
    async fn take_attempt(
        &self,
        state_digest: &[u8; 32],
        now: Timestamp,
    ) -> Result<Option<(Consent, ConsentAttempt)>, StoreError>;

    /// Stores the outcome of a consent and ends its attempts. Returns `false` and changes nothing if the consent is
    /// deleted or already has an outcome.
    async fn finish(&self, id: &ConsentId, outcome: &ConsentOutcome) -> Result<bool, StoreError>;

    /// Deletes expired attempts, and consents that expired longer than `kept` ago: until then, the page can
    /// show that the consent has expired. Returns the number of deleted consents.
    async fn delete_expired(&self, kept: Duration, now: Timestamp) -> Result<u64, StoreError>;
}
