//! Types of users, in three numberings, and types of roles.

use serde::{Deserialize, Serialize};

/// The type of a user. In JSON it is the number in the database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "i32", into = "i32")]
pub enum AssociateType {
    /// An employee.
    #[default]
    Internal,
    /// A resource, such as a meeting room.
    Resource,
    /// A person outside the company.
    External,
    /// The anonymous user.
    Anonymous,
    /// An application.
    System,
    /// An undocumented number.
    Other(i32),
}

impl AssociateType {
    /// Every documented type.
    pub const ALL: [Self; 5] =
        [Self::Internal, Self::Resource, Self::External, Self::Anonymous, Self::System];

    /// Returns the number in the database, which is also the id in the list `usertype`.
    #[must_use]
    pub fn database_number(self) -> i32 {
        match self {
            Self::Internal => 0,
            Self::Resource => 1,
            Self::External => 4,
            Self::Anonymous => 7,
            Self::System => 13,
            Self::Other(number) => number,
        }
    }

    /// Returns the name in the API.
    #[must_use]
    pub fn api_name(self) -> &'static str {
        match self {
            Self::Internal => "InternalAssociate",
            Self::Resource => "ResourceAssociate",
            Self::External => "ExternalAssociate",
            Self::Anonymous => "AnonymousAssociate",
            Self::System => "SystemAssociate",
            Self::Other(_) => "Unknown",
        }
    }

    /// Returns the number in the API descriptions.
    #[must_use]
    pub fn api_number(self) -> i32 {
        match self {
            Self::Internal => 1,
            Self::Resource => 2,
            Self::External => 3,
            Self::Anonymous => 4,
            Self::System => 5,
            Self::Other(_) => 0,
        }
    }

    /// Returns the name in the list `usertype`.
    pub(crate) fn list_name(self) -> &'static str {
        match self {
            Self::Internal => "Employee",
            Self::Resource => "Resource",
            Self::External => "External person",
            Self::Anonymous => "Anonymous",
            Self::System => "System",
            Self::Other(_) => "",
        }
    }
}

impl From<i32> for AssociateType {
    fn from(number: i32) -> Self {
        let known = Self::ALL.into_iter().find(|kind| kind.database_number() == number);
        known.unwrap_or(Self::Other(number))
    }
}

impl From<AssociateType> for i32 {
    fn from(kind: AssociateType) -> Self {
        kind.database_number()
    }
}

/// The type of a role.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum RoleType {
    /// For employees.
    #[default]
    Employee = 0,
    /// For external persons.
    ExternalUser = 1,
    /// For anonymous users.
    Anonymous = 2,
    /// For applications.
    System = 3,
}

impl RoleType {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Employee => "Employee",
            Self::ExternalUser => "ExternalUser",
            Self::Anonymous => "Anonymous",
            Self::System => "System",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uses_the_documented_numbers() {
        let table = [
            (0, "InternalAssociate", 1),
            (1, "ResourceAssociate", 2),
            (4, "ExternalAssociate", 3),
            (7, "AnonymousAssociate", 4),
            (13, "SystemAssociate", 5),
            (9, "Unknown", 0),
            (-1, "Unknown", 0),
        ];
        for (database, name, number) in table {
            let kind = AssociateType::from(database);
            assert_eq!(
                (kind.database_number(), kind.api_name(), kind.api_number()),
                (database, name, number)
            );
        }
    }
}
