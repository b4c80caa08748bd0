//! The people of a tenant, as one credential sees them. An implementation belongs to one application.

use async_trait::async_trait;

use super::UpstreamError;
use crate::domain::{AssociateId, AssociateRecord, Principal, Role, TenantName, UserGroup};

/// How many associates are asked for at once: what the platform advises (SUPEROFFICE.md 7.1).
pub const ASSOCIATES_A_PAGE: usize = 1000;

/// How many associates can be asked for by their ids at once.
pub const MAX_ASSOCIATES_BY_ID: usize = 500;

/// Some of a tenant's associates, by ascending id, each once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssociatePage {
    /// The associates.
    pub associates: Vec<AssociateRecord>,
    /// After which id the next page begins; `None` if this one is the last.
    pub next: Option<AssociateId>,
}

/// Reads who the users of a tenant are, through the eyes of one credential.
///
/// Answers are read whole and checked before they are returned: one of which a part cannot be believed is an
/// [`UpstreamError::InvalidResponse`], never the rest of it, so that nobody seems to have left who only could not be
/// read. Memory is bounded by what one answer may hold.
#[async_trait]
pub trait PeopleSource: Send + Sync + 'static {
    /// The first associates with a greater id than `after`, at most [`ASSOCIATES_A_PAGE`]; those who left included.
    ///
    /// Paging by key, so that who comes or goes meanwhile moves nobody to another page. The next page always begins
    /// after a greater id than this one, so that a listing ends.
    async fn associates(
        &self,
        tenant: &TenantName,
        after: Option<AssociateId>,
    ) -> Result<AssociatePage, UpstreamError>;

    /// One associate, if the tenant has it and the credential may see it.
    async fn associate(
        &self,
        tenant: &TenantName,
        id: AssociateId,
    ) -> Result<Option<AssociateRecord>, UpstreamError>;

    /// Those of up to [`MAX_ASSOCIATES_BY_ID`] associates that there are, by ascending id, each once.
    async fn associates_by_id(
        &self,
        tenant: &TenantName,
        ids: &[AssociateId],
    ) -> Result<Vec<AssociateRecord>, UpstreamError>;

    /// All user groups, by ascending id, each once. Names may hold translations.
    async fn user_groups(&self, tenant: &TenantName) -> Result<Vec<UserGroup>, UpstreamError>;

    /// All roles, likewise.
    async fn roles(&self, tenant: &TenantName) -> Result<Vec<Role>, UpstreamError>;

    /// Who the credential is. Proven to be of this tenant.
    async fn current_principal(&self, tenant: &TenantName) -> Result<Principal, UpstreamError>;
}
