//! The user that a credential belongs to.

use jiff::civil::Date;

use super::{AssociateId, AssociateType, DataWarning, RoleType};
use crate::domain::ContextIdentifier;

/// A licence of a user or of the whole site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct License {
    /// The unique name of the licensed module.
    pub name: String,
    /// The last day of the licence; `None` if it does not end.
    pub expires: Option<Date>,
}

/// The user that a credential belongs to, as SuperOffice returns it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The tenant, confirmed by SuperOffice's response.
    pub tenant: ContextIdentifier,
    /// The kind of user.
    pub kind: AssociateType,
    /// The associate's id.
    pub id: AssociateId,
    /// The short name in the CRM.
    pub login: String,
    /// The `SuperID` user principal name.
    pub user_name: String,
    /// The person's name.
    pub full_name: String,
    /// The person's e-mail address.
    pub email: String,
    /// The person's id; 0 for none.
    pub person_id: i32,
    /// The company's id; 0 for none.
    pub contact_id: i32,
    /// The id of the primary group; 0 for none.
    pub primary_group_id: i32,
    /// The ids of the other groups, sorted, without duplicates.
    pub secondary_group_ids: Vec<i32>,
    /// The role's id; 0 if unknown.
    pub role_id: i32,
    /// The role's name.
    pub role_name: String,
    /// The type of users that the role is for, if known.
    pub role_type: Option<RoleType>,
    /// The functional rights, sorted, without duplicates.
    pub function_rights: Vec<String>,
    /// The licences, in SuperOffice's order.
    pub licenses: Vec<License>,
    /// Problems with the data, found while reading it.
    pub warnings: Vec<DataWarning>,
}

impl Principal {
    /// Returns whether the user has a functional right. Functional rights do not limit system users.
    #[must_use]
    pub fn has_right(&self, right: &str) -> bool {
        self.kind == AssociateType::System
            || self.function_rights.binary_search_by(|held| held.as_str().cmp(right)).is_ok()
    }
}
