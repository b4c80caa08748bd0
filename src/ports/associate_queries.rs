//! Web API queries about the users of a tenant, as one credential sees them, and the parsing of their responses.

use super::ApiQuery;
use crate::domain::{AssociateId, AssociateRecord, ContextIdentifier, Principal, Role, UserGroup};

/// The page size of associate listings: the size that SuperOffice recommends.
pub const ASSOCIATES_PER_PAGE: usize = 1000;

/// The maximum number of ids in one query for associates by id.
pub const MAX_ASSOCIATES_BY_ID: usize = 500;

/// The rows of a response that have an id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParsedRows<T> {
    /// The items by ascending id, each once.
    pub items: Vec<T>,
    /// The number of rows without an id, which are not among the items.
    pub left_out: usize,
}

/// Some of a tenant's associates, by ascending id, each once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssociatePage {
    /// The associates.
    pub associates: Vec<AssociateRecord>,
    /// The id after which the next page starts; `None` on the last page.
    pub next: Option<AssociateId>,
    /// The number of rows without an id, which are not among the associates.
    pub left_out: usize,
}

/// Builds the queries about the users of a tenant. Sends nothing: the Web API use case does.
///
/// Responses are read completely and checked before they are returned. A value that cannot be parsed is a warning on
/// its row; a row without an id is left out and counted. These responses are an
/// [`UpstreamError::InvalidResponse`](super::UpstreamError::InvalidResponse): pages out of order, data of another
/// tenant, and a row without an id where more rows follow or where it may be a requested one. The maximum size of a
/// response bounds the memory.
pub trait AssociateQueries: Send + Sync + 'static {
    /// Queries one page: associates with an id greater than `after`, including former employees.
    ///
    /// Pages are keyed by id, so that concurrent additions and deletions move no associate to another page. The next
    /// page always starts after a greater id than this one, so that a listing ends.
    fn associates(&self, after: Option<AssociateId>) -> ApiQuery<AssociatePage>;

    /// Queries one associate. The result is `None` if the tenant has none with this id or the credential may not see
    /// it.
    fn associate(&self, id: AssociateId) -> ApiQuery<Option<AssociateRecord>>;

    /// Queries up to [`MAX_ASSOCIATES_BY_ID`] associates. The result has those that exist, by ascending id, each once.
    fn associates_by_id(&self, ids: &[AssociateId]) -> ApiQuery<Vec<AssociateRecord>>;

    /// Queries all user groups, including deleted ones. Names may contain translations.
    fn user_groups(&self) -> ApiQuery<ParsedRows<UserGroup>>;

    /// Queries all roles, including deleted ones. Names may contain translations.
    fn roles(&self) -> ApiQuery<ParsedRows<Role>>;

    /// Queries the owner of the credential. The result is verified to belong to this tenant.
    fn current_principal(&self, tenant: ContextIdentifier) -> ApiQuery<Principal>;
}
