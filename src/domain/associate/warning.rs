//! What is odd in what SuperOffice says of an associate. Told to people, never hidden and never repeated word by word.

use std::fmt;

/// Something in the data that is not as the platform documents it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DataWarning {
    /// A field that should be there is not.
    Missing(&'static str),
    /// A field is of another type or form than documented, and was passed over.
    Unreadable(&'static str),
    /// A field is longer than we keep.
    Cut(&'static str),
    /// A field holds characters that cannot be read; U+FFFD stands for them.
    Replaced(&'static str),
    /// Several rows have its id and differ; one of them counts.
    Contradicted,
    /// The kind's number is not one that we know.
    UnknownKind(i32),
    /// In a group, though its kind is in none.
    GroupOfGroupless(i32),
    /// In no primary group, though its kind has one.
    NoPrimaryGroup,
    /// A group that is not in the list of groups.
    UnknownGroup(i32),
    /// A group told by a name that none in the list has, or several have.
    UnclearGroup,
    /// A group of which only a part can be read.
    GroupInPart(i32),
    /// A role of which only a part can be read.
    RoleInPart(i32),
    /// A group that is deleted.
    DeletedGroup(i32),
    /// A role that is not in the list of roles.
    UnknownRole(i32),
    /// A role told by a name that none in the list has, or several have.
    UnclearRole,
    /// So many more than are told.
    More(usize),
}

impl DataWarning {
    /// Whether something that SuperOffice returned could not be read, or contradicts itself.
    #[must_use]
    pub fn is_unreadable(&self) -> bool {
        matches!(self, Self::Unreadable(_) | Self::Replaced(_) | Self::Contradicted)
    }
}

impl fmt::Display for DataWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(field) => write!(f, "SuperOffice does not tell {field}"),
            Self::Unreadable(field) => {
                write!(f, "{field} is not of the documented form and was passed over")
            }
            Self::Cut(field) => write!(f, "{field} is longer than is kept and was cut"),
            Self::Replaced(field) => {
                write!(
                    f,
                    "{field} holds characters that cannot be read, with U+FFFD in their place"
                )
            }
            Self::Contradicted => {
                f.write_str("SuperOffice returns several rows for it that differ")
            }
            Self::UnknownKind(code) => write!(f, "its type {code} is not a known one"),
            Self::GroupOfGroupless(id) => {
                write!(f, "it is in group {id}, though associates of its type are in none")
            }
            Self::NoPrimaryGroup => {
                f.write_str("it has no primary group, though associates of its type have one")
            }
            Self::UnknownGroup(id) => write!(f, "its group {id} is not in the list of user groups"),
            Self::UnclearGroup => f.write_str(
                "one of its groups is told by a name that is not that of exactly one user group",
            ),
            Self::GroupInPart(id) => write!(f, "only a part of its group {id} can be read"),
            Self::RoleInPart(id) => write!(f, "only a part of its role {id} can be read"),
            Self::DeletedGroup(id) => write!(f, "its group {id} is deleted"),
            Self::UnknownRole(id) => write!(f, "its role {id} is not in the list of roles"),
            Self::UnclearRole => {
                f.write_str("its role is told by a name that is not that of exactly one role")
            }
            Self::More(count) => write!(f, "and {count} more oddities"),
        }
    }
}
