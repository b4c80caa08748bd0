//! Who a credential is (SUPEROFFICE.md 6.2).

use jiff::civil::Date;

use super::{AssociateId, AssociateType, DataWarning, RoleType};
use crate::domain::ContextIdentifier;

/// A licence that a user or the whole site holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct License {
    /// The unique name of its module.
    pub name: String,
    /// The day on which it ends; `None` where it does not.
    pub expires: Option<Date>,
}

/// The user behind a credential, as SuperOffice answers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The tenant, proven by SuperOffice's answer.
    pub tenant: ContextIdentifier,
    /// The kind of user.
    pub kind: AssociateType,
    /// Which one.
    pub id: AssociateId,
    /// The short name in the CRM.
    pub login: String,
    /// The `SuperID` user principal name.
    pub user_name: String,
    /// The person's name.
    pub full_name: String,
    /// The person's e-mail address.
    pub email: String,
    /// The person; 0 for none.
    pub person_id: i32,
    /// The company; 0 for none.
    pub contact_id: i32,
    /// The primary group; 0 for those in no group.
    pub primary_group_id: i32,
    /// The other groups, in order, each once.
    pub secondary_group_ids: Vec<i32>,
    /// The role; 0 where it is not told.
    pub role_id: i32,
    /// Its name.
    pub role_name: String,
    /// For whom it is made, where it is told.
    pub role_type: Option<RoleType>,
    /// The functional rights held, in order, each once.
    pub function_rights: Vec<String>,
    /// The licences held, as SuperOffice orders them.
    pub licenses: Vec<License>,
    /// Oddities found when it was read.
    pub warnings: Vec<DataWarning>,
}

impl Principal {
    /// Whether it holds a functional right. A system user is not limited by them, whatever it holds.
    #[must_use]
    pub fn has_right(&self, right: &str) -> bool {
        self.kind == AssociateType::System
            || self.function_rights.binary_search_by(|held| held.as_str().cmp(right)).is_ok()
    }
}
