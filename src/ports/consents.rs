//! What is kept of consents while people are asked.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use super::StoreError;
use crate::domain::{AttemptBinding, Consent, ConsentAttempt, ConsentId, ConsentOutcome};

/// How many attempts of one consent may be open; a further one ends the oldest. People open links twice.
pub const MAX_CONSENT_ATTEMPTS: u32 = 8;

/// How many consents may be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConsentLimits {
    /// Open ones, of one caller.
    pub open_per_caller: u32,
    /// Of all callers, with those that ended and are not forgotten.
    pub total: u32,
}

/// Whether a consent was begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begun {
    /// It is kept.
    Yes,
    /// The caller has as many open ones as it may have.
    TooManyOfCaller,
    /// There are as many as there may be.
    TooMany,
}

/// Keeps consents and their attempts (DESIGN section 7, "Consent").
#[async_trait]
pub trait ConsentStore: Send + Sync + 'static {
    /// Keeps a new consent, within the limits, at its `create_time`.
    ///
    /// # Errors
    /// `AlreadyExists` if there is one of that id.
    async fn begin(&self, consent: &Consent, limits: ConsentLimits) -> Result<Begun, StoreError>;

    /// Reads a consent, also one that expired or ended, until it is forgotten.
    async fn get(&self, id: &ConsentId) -> Result<Option<Consent>, StoreError>;

    /// Keeps an attempt under the digest of its state: a new one, or one that was redeemed and came to nothing. `false`
    /// if its consent is gone, expired or ended.
    ///
    /// # Errors
    /// `AlreadyExists` if one is kept under that state.
    async fn mint(
        &self,
        state_digest: &[u8; 32],
        attempt: &ConsentAttempt,
        now: Timestamp,
    ) -> Result<bool, StoreError>;

    /// Looks at the attempt of a state, which stays there: whether it may be taken out is checked first. `None` if there
    /// is none, or if it or its consent expired or ended.
    async fn find_attempt(
        &self,
        state_digest: &[u8; 32],
        now: Timestamp,
    ) -> Result<Option<(Consent, AttemptBinding)>, StoreError>;

    /// Takes out the attempt of a state: of all who ask, one gets it, once. `None` if there is none, or if it or its
    /// consent expired or ended.
    async fn redeem(
        &self,
        state_digest: &[u8; 32],
        now: Timestamp,
    ) -> Result<Option<(Consent, ConsentAttempt)>, StoreError>;

    /// Keeps how a consent ended, and ends its attempts. `false` if it is gone, or ended before: the first end stays.
    async fn finish(&self, id: &ConsentId, outcome: &ConsentOutcome) -> Result<bool, StoreError>;

    /// Deletes attempts that expired, and consents that expired so long ago: until then who comes late is told so.
    /// Tells how many consents.
    async fn forget_expired(&self, kept: Duration, now: Timestamp) -> Result<u64, StoreError>;
}
