//! The people of a tenant, as one credential sees them: which calls tell of them, and how the answers are read.

use super::ApiCall;
use crate::domain::{AssociateId, AssociateRecord, ContextIdentifier, Principal, Role, UserGroup};

/// How many associates are asked for at once: what the platform advises (SUPEROFFICE.md 7.1).
pub const ASSOCIATES_A_PAGE: usize = 1000;

/// How many associates can be asked for by their ids at once.
pub const MAX_ASSOCIATES_BY_ID: usize = 500;

/// The rows of an answer that could be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadRows<T> {
    /// By ascending id, each once.
    pub items: Vec<T>,
    /// The number of rows without an id, which are not among the items.
    pub left_out: usize,
}

/// Some of a tenant's associates, by ascending id, each once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssociatePage {
    /// The associates.
    pub associates: Vec<AssociateRecord>,
    /// After which id the next page begins; `None` if this one is the last.
    pub next: Option<AssociateId>,
    /// The number of rows without an id, which are not among the associates.
    pub left_out: usize,
}

/// Knows the questions that tell who the users of a tenant are. Sends nothing: the Web API use case does.
///
/// Answers are read whole and checked before they are returned. A value that cannot be read is a warning on its row, and
/// a row without an id is left out and counted. An answer that would be wrong without what cannot be read is an
/// [`UpstreamError::InvalidResponse`](super::UpstreamError::InvalidResponse): pages out of order, another tenant's data,
/// a row without an id where more follow or where it may be a requested one. Memory is bounded by what one answer
/// may hold.
pub trait PeopleCalls: Send + Sync + 'static {
    /// The first associates with a greater id than `after`, at most [`ASSOCIATES_A_PAGE`]; those who left included.
    ///
    /// Paging by key, so that who comes or goes meanwhile moves nobody to another page. The next page always begins
    /// after a greater id than this one, so that a listing ends.
    fn associates(&self, after: Option<AssociateId>) -> ApiCall<AssociatePage>;

    /// One associate, if the tenant has it and the credential may see it.
    fn associate(&self, id: AssociateId) -> ApiCall<Option<AssociateRecord>>;

    /// Those of up to [`MAX_ASSOCIATES_BY_ID`] associates that there are, by ascending id, each once.
    fn associates_by_id(&self, ids: &[AssociateId]) -> ApiCall<Vec<AssociateRecord>>;

    /// All user groups, those that were deleted included. Names may hold translations.
    fn user_groups(&self) -> ApiCall<ReadRows<UserGroup>>;

    /// All roles, likewise.
    fn roles(&self) -> ApiCall<ReadRows<Role>>;

    /// Who the credential is. Proven to be of this tenant.
    fn current_principal(&self, tenant: ContextIdentifier) -> ApiCall<Principal>;
}
