//! Problems in SuperOffice's data about an associate. They are reported to people, without quoting the data.

use std::fmt;

/// Data that differs from the platform's documentation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DataWarning {
    /// A required field is missing.
    Missing(&'static str),
    /// A field has an undocumented type or form and is ignored.
    Unreadable(&'static str),
    /// A field is too long and was truncated.
    Truncated(&'static str),
    /// A field holds undecodable characters, which are replaced by U+FFFD.
    Replaced(&'static str),
    /// Several rows have the same id and differ; one of them is used.
    ConflictingRows,
    /// The number of the type is unknown.
    UnknownKind(i32),
    /// It is in a group, although its type has no groups.
    UnexpectedGroup(i32),
    /// It has no primary group, although its type has one.
    NoPrimaryGroup,
    /// It is in a group that is not in the list of groups.
    UnknownGroup(i32),
    /// A group name in its row matches no group or several groups.
    UnresolvedGroup,
    /// The data of its group is only partly readable.
    PartialGroup(i32),
    /// The data of its role is only partly readable.
    PartialRole(i32),
    /// It is in a deleted group.
    DeletedGroup(i32),
    /// It has a role that is not in the list of roles.
    UnknownRole(i32),
    /// The role name in its row matches no role or several roles.
    UnresolvedRole,
    /// The number of further warnings.
    MoreWarnings(usize),
}

impl DataWarning {
    /// Returns whether data of SuperOffice was unreadable or contradictory.
    #[must_use]
    pub fn is_unreadable(&self) -> bool {
        matches!(self, Self::Unreadable(_) | Self::Replaced(_) | Self::ConflictingRows)
    }
}

impl fmt::Display for DataWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(field) => write!(f, "SuperOffice does not return {field}"),
            Self::Unreadable(field) => {
                write!(f, "{field} does not have the documented form and was ignored")
            }
            Self::Truncated(field) => write!(f, "{field} is too long and was truncated"),
            Self::Replaced(field) => {
                write!(f, "{field} holds undecodable characters, which are replaced by U+FFFD")
            }
            Self::ConflictingRows => {
                f.write_str("SuperOffice returns several rows for it that differ")
            }
            Self::UnknownKind(code) => write!(f, "its type {code} is unknown"),
            Self::UnexpectedGroup(id) => {
                write!(f, "it is in group {id}, although associates of its type have no groups")
            }
            Self::NoPrimaryGroup => {
                f.write_str("it has no primary group, although associates of its type have one")
            }
            Self::UnknownGroup(id) => write!(f, "its group {id} is not in the list of user groups"),
            Self::UnresolvedGroup => {
                f.write_str("the name of one of its groups does not match exactly one user group")
            }
            Self::PartialGroup(id) => {
                write!(f, "the data of its group {id} is only partly readable")
            }
            Self::PartialRole(id) => write!(f, "the data of its role {id} is only partly readable"),
            Self::DeletedGroup(id) => write!(f, "its group {id} is deleted"),
            Self::UnknownRole(id) => write!(f, "its role {id} is not in the list of roles"),
            Self::UnresolvedRole => {
                f.write_str("the name of its role does not match exactly one role")
            }
            Self::MoreWarnings(count) => write!(f, "and {count} more warnings"),
        }
    }
}
