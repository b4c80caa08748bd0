//! What is kept of grants: who consented, the refresh token, and the access token of the moment.

use async_trait::async_trait;
use jiff::Timestamp;
use secrecy::SecretString;

use super::{Lease, StoreError};
use crate::domain::{
    AccessToken, ApplicationId, AssociateId, CredentialId, Grant, GrantId, GrantName, GrantScope,
    Identity, Reason, TenantName,
};

/// A refresh token, and what is known of its use.
#[derive(Debug, Clone)]
pub struct StoredRefreshToken {
    /// The token.
    pub token: SecretString,
    /// `Grant::token_version` of it.
    pub version: i64,
    /// Somebody was about to spend it and never said how that ended.
    pub intent: Option<Intent>,
}

/// That a refresh token was about to be spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Intent {
    /// Under the lease of this number.
    pub fence: i64,
    /// Whether that was the one retry after a crash.
    pub retried: bool,
    /// Since when.
    pub time: Timestamp,
}

/// A consent that was kept.
#[derive(Debug, Clone)]
pub struct Consented {
    /// The grant.
    pub grant: Grant,
    /// Whether it is a new one.
    pub created: bool,
    /// The token that was there before, also of a grant that was revoked. It lives until SuperOffice is told.
    pub replaced: Option<SecretString>,
}

/// What became of a refresh token that took the place of the one that was spent for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rotation {
    /// It is the grant's token now, under this version.
    Kept(i64),
    /// The grant was revoked meanwhile. The token is kept only to be revoked at SuperOffice.
    ToBeRevoked,
    /// The grant is gone or has another token, or another has the lease: the token is not kept.
    TooLate,
}

/// How a refresh ended.
#[derive(Debug, Clone)]
pub enum RefreshOutcome {
    /// With an access token for the person of the grant.
    Refreshed {
        /// The token.
        access_token: AccessToken,
        /// The name by which the person signs in now.
        user_principal_name: String,
        /// The person's name now.
        full_name: String,
    },
    /// Only a new consent helps: the grant becomes `CONSENT_REQUIRED` and its access token is deleted. The refresh
    /// token stays, for later looks. Of one that is so already, why and since when stays too.
    Broken {
        /// Why.
        reason: Reason,
    },
    /// It may pass: state and access token stay as they are, and why a grant needs a new consent.
    Failed {
        /// Why.
        reason: Reason,
    },
}

/// Keeps grants with their secrets, sealed (DESIGN section 7, "Refresh tokens").
///
/// What is done between [`intend`](Self::intend) and [`settle`](Self::settle) is done under the lease whose key is the
/// grant's name. Every such write carries the lease and the version of the token that was read under it, and is
/// refused if either is no longer the present one, so that a holder that was slow overwrites nothing.
#[async_trait]
pub trait GrantStore: Send + Sync + 'static {
    /// Keeps the refresh token of a person who consented. There is one grant a person, tenant and application: with
    /// a former one, the token takes the place of that one's, what was known of its use and its access token are
    /// deleted, and it is `ACTIVE` under its old name. Else it is named `new_id`. `None` if there is no such tenant.
    async fn consented(
        &self,
        application: &ApplicationId,
        person: &Identity,
        refresh_token: &SecretString,
        new_id: &GrantId,
        now: Timestamp,
    ) -> Result<Option<Consented>, StoreError>;

    /// Reads a grant.
    async fn get(&self, name: &GrantName) -> Result<Option<Grant>, StoreError>;

    /// The grant of an associate.
    async fn find(
        &self,
        tenant: &TenantName,
        associate: AssociateId,
    ) -> Result<Option<Grant>, StoreError>;

    /// The grants of those who signed in by this name when it was last heard of, in upper or lower case. Several,
    /// where a name went from one person to another and the former was not refreshed since.
    async fn find_by_user_principal_name(
        &self,
        tenant: &TenantName,
        user_principal_name: &str,
    ) -> Result<Vec<Grant>, StoreError>;

    /// Up to `limit` grants in the order of (application, tenant, id as text), beginning after `after`.
    async fn list(
        &self,
        scope: &GrantScope,
        after: Option<&GrantName>,
        limit: u32,
    ) -> Result<Vec<Grant>, StoreError>;

    /// Opens the refresh token to spend it. `None` if there is no such grant or if it is revoked.
    async fn refresh_token(
        &self,
        name: &GrantName,
    ) -> Result<Option<StoredRefreshToken>, StoreError>;

    /// Notes that the token is about to be spent, which also shows that the store can be written. `false` if it is
    /// not the present one, if the grant is revoked, if the lease is lost, or if an orphan is there: an intent of
    /// another lease.
    async fn intend(
        &self,
        name: &GrantName,
        lease: &Lease,
        token_version: i64,
        now: Timestamp,
    ) -> Result<bool, StoreError>;

    /// Takes over an orphan to spend its token a second time. `false` if there is none, if that was done before, or
    /// if the lease is lost: an orphan is retried once. Can be repeated where it is not known how it ended.
    async fn retry_orphan(
        &self,
        name: &GrantName,
        lease: &Lease,
        now: Timestamp,
    ) -> Result<bool, StoreError>;

    /// Keeps the token that came in place of the one that was spent, before anything else of the answer is looked
    /// at. The spent one is gone, and with it the intent. Can be repeated where it is not known how it ended.
    async fn keep_rotated(
        &self,
        name: &GrantName,
        lease: &Lease,
        token_version: i64,
        refresh_token: &SecretString,
    ) -> Result<Rotation, StoreError>;

    /// Keeps how a refresh ended, and deletes the intent. `None`, and nothing kept, if meanwhile the grant was
    /// deleted, revoked, consented to again, or doubted, or if the lease is lost: then nothing may be handed out.
    async fn settle(
        &self,
        name: &GrantName,
        lease: &Lease,
        token_version: i64,
        outcome: &RefreshOutcome,
        now: Timestamp,
    ) -> Result<Option<Grant>, StoreError>;

    /// Opens the kept access token.
    async fn access_token(&self, name: &GrantName) -> Result<Option<AccessToken>, StoreError>;

    /// Deletes an access token that is dead. Does nothing if another one is kept.
    async fn drop_access_token(
        &self,
        name: &GrantName,
        credential_id: &CredentialId,
    ) -> Result<(), StoreError>;

    /// Revokes a grant here, at once: its access token is deleted, and the refresh token stays only until it is
    /// revoked at SuperOffice. Changes nothing where it is revoked already. `None` if there is no such grant.
    async fn revoke(&self, name: &GrantName) -> Result<Option<Grant>, StoreError>;

    /// Up to `limit` names of revoked grants of which SuperOffice is still to be told, in order, beginning after
    /// `after`; also those of tenants that were deleted.
    async fn pending_revocations(
        &self,
        after: Option<&GrantName>,
        limit: u32,
    ) -> Result<Vec<GrantName>, StoreError>;

    /// Opens the refresh token of a revoked grant. `None` if nothing is to be revoked.
    async fn token_to_revoke(
        &self,
        name: &GrantName,
    ) -> Result<Option<StoredRefreshToken>, StoreError>;

    /// Notes that SuperOffice was told: the refresh token is deleted and cannot be had back, and where the tenant is
    /// deleted so is the grant, which is told as it was at the end. `None` if that token is not to be revoked: it has
    /// been, or another one has taken its place.
    async fn revoked_upstream(
        &self,
        name: &GrantName,
        token_version: i64,
    ) -> Result<Option<Grant>, StoreError>;

    /// The tenant's database went back to a backup: access tokens of its grants are deleted, and the grants count as
    /// unproven until a refresh settles whose lease was taken after this, or the person consents again. Tells how
    /// many there are.
    async fn doubt_all(&self, tenant: &TenantName) -> Result<u64, StoreError>;
}
