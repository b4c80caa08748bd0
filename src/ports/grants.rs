//! Stored grants: the person who consented, the refresh token, and the current access token.

use async_trait::async_trait;
use jiff::Timestamp;
use secrecy::SecretString;

use super::{Lease, StoreError};
use crate::domain::{
    AccessToken, ApplicationId, AssociateId, CredentialId, Grant, GrantId, GrantName, GrantScope,
    Reason, TenantName, VerifiedIdentity,
};

/// A refresh token and its unfinished refresh, if there is one.
#[derive(Debug, Clone)]
pub struct StoredRefreshToken {
    /// The token.
    pub token: SecretString,
    /// The `Grant::token_version` of this token.
    pub version: i64,
    /// The intent of a refresh whose outcome was never recorded.
    pub intent: Option<RefreshIntent>,
}

/// A record that a refresh with this token was about to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RefreshIntent {
    /// The fencing number of the lease under which it was recorded.
    pub fence: i64,
    /// Whether this refresh is the single retry after a crash.
    pub retried: bool,
    /// The time at which it was recorded.
    pub time: Timestamp,
}

/// The result of storing a consent.
#[derive(Debug, Clone)]
pub struct StoredConsent {
    /// The grant.
    pub grant: Grant,
    /// Whether the grant is new.
    pub created: bool,
    /// The refresh token that was stored before, also of a revoked grant. It works until it is revoked at SuperOffice.
    pub replaced: Option<SecretString>,
}

/// The outcome of storing a rotated refresh token (RFC 6749 section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RotationOutcome {
    /// The token is stored as the grant's token, with this version.
    Stored(i64),
    /// The grant was revoked meanwhile. The token is stored only until it is revoked at SuperOffice.
    ToBeRevoked,
    /// The token is not stored: the grant is deleted or has another token, or another holder has the lease.
    Discarded,
}

/// The outcome of a refresh.
#[derive(Debug, Clone)]
pub enum RefreshOutcome {
    /// SuperOffice issued an access token for the person of the grant.
    Refreshed {
        /// The token.
        access_token: AccessToken,
        /// The person's current sign-in name.
        user_principal_name: String,
        /// The person's current full name.
        full_name: String,
    },
    /// Only a new consent helps: the grant becomes `CONSENT_REQUIRED` and its access token is deleted. The refresh
    /// token is kept for later checks. If the grant already has this state, its reason and time do not change.
    ConsentRequired {
        /// The reason.
        reason: Reason,
    },
    /// A temporary failure. The state, its reason and the access token do not change.
    Failed {
        /// The reason.
        reason: Reason,
    },
}

/// Stores grants with their encrypted secrets.
///
/// A refresh calls [`record_intent`](Self::record_intent), writes its results, and ends with
/// [`record_outcome`](Self::record_outcome), all under the lease whose key is the grant's name. Each write carries the
/// lease and the token version. It is rejected if either is no longer current, so that a slow holder overwrites
/// nothing.
#[async_trait]
pub trait GrantStore: Send + Sync + 'static {
    /// Stores the refresh token of a person who consented. There is one grant for each person, tenant and application.
    /// An existing grant keeps its name, gets the new token, loses its intent and access token, and becomes `ACTIVE`. A
    /// new grant is named `new_id`. Returns `None` if the tenant does not exist.
    async fn store_consent(
        &self,
        application: &ApplicationId,
        person: &VerifiedIdentity,
        refresh_token: &SecretString,
        new_id: &GrantId,
        now: Timestamp,
    ) -> Result<Option<StoredConsent>, StoreError>;

    /// Reads a grant.
    async fn get(&self, name: &GrantName) -> Result<Option<Grant>, StoreError>;

    /// Returns the grant of an associate.
    async fn find_by_associate(
        &self,
        tenant: &TenantName,
        associate: AssociateId,
    ) -> Result<Option<Grant>, StoreError>;

    /// Returns the grants whose last known sign-in name is this one; case is ignored. There can be several if a name
    /// was given to another person and the first person's grant was not refreshed since.
    async fn find_by_user_principal_name(
        &self,
        tenant: &TenantName,
        user_principal_name: &str,
    ) -> Result<Vec<Grant>, StoreError>;

    /// Lists up to `limit` grants ordered by (application, tenant, id as text), starting after `after`.
    async fn list(
        &self,
        scope: &GrantScope,
        after: Option<&GrantName>,
        limit: u32,
    ) -> Result<Vec<Grant>, StoreError>;

    /// Decrypts the refresh token for a refresh. Returns `None` if the grant does not exist or is revoked.
    async fn refresh_token(
        &self,
        name: &GrantName,
    ) -> Result<Option<StoredRefreshToken>, StoreError>;

    /// Records that a refresh is about to start, which also proves that the store can be written. Returns `false` if
    /// the token is not the current one, the grant is revoked, the lease is lost, or there is an orphaned intent: one
    /// that was recorded under another lease.
    async fn record_intent(
        &self,
        name: &GrantName,
        lease: &Lease,
        token_version: i64,
        now: Timestamp,
    ) -> Result<bool, StoreError>;

    /// Takes over an orphaned intent, to use its token a second time. An intent is retried once: returns `false` if
    /// there is none, if it was retried before, or if the lease is lost. Idempotent, so an unknown outcome can be
    /// retried.
    async fn retry_orphaned_intent(
        &self,
        name: &GrantName,
        lease: &Lease,
        now: Timestamp,
    ) -> Result<bool, StoreError>;

    /// Stores a rotated refresh token before the rest of the response is validated. The old token and the intent are
    /// deleted. Idempotent, so an unknown outcome can be retried.
    async fn store_rotated_token(
        &self,
        name: &GrantName,
        lease: &Lease,
        token_version: i64,
        refresh_token: &SecretString,
    ) -> Result<RotationOutcome, StoreError>;

    /// Stores the outcome of a refresh and deletes the intent. Returns `None` and stores nothing if the lease is lost,
    /// or if the grant was meanwhile deleted, revoked, renewed by a consent or marked as unconfirmed. Then the caller
    /// of the gateway must not receive the token.
    async fn record_outcome(
        &self,
        name: &GrantName,
        lease: &Lease,
        token_version: i64,
        outcome: &RefreshOutcome,
        now: Timestamp,
    ) -> Result<Option<Grant>, StoreError>;

    /// Decrypts the stored access token.
    async fn access_token(&self, name: &GrantName) -> Result<Option<AccessToken>, StoreError>;

    /// Deletes an access token that SuperOffice no longer accepts. Does nothing if another one is stored.
    async fn delete_access_token(
        &self,
        name: &GrantName,
        credential_id: &CredentialId,
    ) -> Result<(), StoreError>;

    /// Revokes a grant in the store: deletes its access token, and keeps the refresh token only until it is revoked at
    /// SuperOffice. Does nothing if the grant is already revoked. Returns `None` if the grant does not exist.
    async fn revoke(&self, name: &GrantName) -> Result<Option<Grant>, StoreError>;

    /// Lists up to `limit` names of revoked grants whose refresh token is not yet revoked at SuperOffice, in order,
    /// starting after `after`. Includes grants of deleted tenants.
    async fn pending_revocations(
        &self,
        after: Option<&GrantName>,
        limit: u32,
    ) -> Result<Vec<GrantName>, StoreError>;

    /// Decrypts the refresh token of a revoked grant. Returns `None` if no revocation is pending.
    async fn token_to_revoke(
        &self,
        name: &GrantName,
    ) -> Result<Option<StoredRefreshToken>, StoreError>;

    /// Records that the token is revoked at SuperOffice: deletes it, and deletes the grant if its tenant is deleted.
    /// Returns the grant in its last state. Returns `None` if this token is not pending: it was already revoked, or
    /// another token has replaced it.
    async fn mark_revoked_upstream(
        &self,
        name: &GrantName,
        token_version: i64,
    ) -> Result<Option<Grant>, StoreError>;

    /// Handles a tenant whose database was restored from a backup: deletes the access tokens of its grants and marks
    /// the grants as unconfirmed. A grant is confirmed again by a refresh whose lease was acquired after this call, or
    /// by a new consent. Returns the number of grants.
    async fn mark_all_unconfirmed(&self, tenant: &TenantName) -> Result<u64, StoreError>;
}
