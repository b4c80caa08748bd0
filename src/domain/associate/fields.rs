//! Associates as filters and orders see them.

use std::cell::OnceCell;

use super::{Associate, UserGroup};
use crate::domain::{
    Languages,
    filter::{Field, FieldKind, Fields, Value},
};

/// Kinds by the names of the contract.
const TYPES: &[&str] = &["INTERNAL", "RESOURCE", "EXTERNAL", "ANONYMOUS", "SYSTEM", "UNRECOGNIZED"];

/// What associates can be filtered on. `group` holds the names and the ids of the groups, primary and other.
pub const ASSOCIATE_FIELDS: &[Field] = &[
    Field { name: "type", kind: FieldKind::Enum(TYPES) },
    Field { name: "active", kind: FieldKind::Bool },
    Field { name: "group", kind: FieldKind::TextList },
    Field { name: "role", kind: FieldKind::Text },
    Field { name: "user_name", kind: FieldKind::Text },
    Field { name: "login", kind: FieldKind::Text },
    Field { name: "full_name", kind: FieldKind::Text },
    Field { name: "email", kind: FieldKind::Text },
    Field { name: "person_id", kind: FieldKind::Int },
];

/// What associates can be ordered by.
pub const ASSOCIATE_ORDERS: &[&str] = &[
    "associate_id",
    "type",
    "active",
    "role",
    "user_name",
    "login",
    "full_name",
    "email",
    "person_id",
];

/// An associate as a caller with its languages reads it.
#[derive(Debug)]
pub struct ListedAssociate<'a> {
    associate: &'a Associate,
    languages: &'a Languages,
    /// Written only if a filter asks for groups: most ask for none, of many thousand associates.
    group_ids: OnceCell<Vec<String>>,
}

impl<'a> ListedAssociate<'a> {
    /// This one, in these languages.
    #[must_use]
    pub fn new(associate: &'a Associate, languages: &'a Languages) -> Self {
        Self { associate, languages, group_ids: OnceCell::new() }
    }

    fn groups(&self) -> impl Iterator<Item = &'a UserGroup> {
        let groups = self.associate.primary_group.iter().chain(&self.associate.other_groups);
        groups.map(AsRef::as_ref)
    }
}

impl Fields for ListedAssociate<'_> {
    fn get(&self, field: &str) -> Value<'_> {
        let associate = self.associate;
        match field {
            "associate_id" => Value::Int(associate.id.get().into()),
            "type" => Value::Text(associate.kind.as_str().into()),
            "active" => Value::Bool(associate.active),
            "group" => {
                let ids = self
                    .group_ids
                    .get_or_init(|| self.groups().map(|group| group.id.to_string()).collect());
                let names = self.groups().map(|group| self.languages.of(&group.display_name));
                Value::List(names.chain(ids.iter().map(String::as_str)).collect())
            }
            "role" => associate.role.as_ref().map_or(Value::Absent, |role| {
                Value::Text(self.languages.of(&role.display_name).into())
            }),
            "user_name" => Value::Text(associate.user_name.as_str().into()),
            "login" => Value::Text(associate.login.as_str().into()),
            "full_name" => Value::Text(associate.full_name.as_str().into()),
            "email" => Value::Text(associate.email.as_str().into()),
            "person_id" => Value::Int(associate.person_id.into()),
            _ => Value::Absent,
        }
    }
}
