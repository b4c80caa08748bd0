//! The fields of associates for filters and orders.

use std::cell::OnceCell;

use super::{Associate, UserGroup};
use crate::domain::{
    Languages,
    filter::{Field, FieldKind, Fields, Value},
};

/// The types by their names in the API.
const TYPES: &[&str] = &["INTERNAL", "RESOURCE", "EXTERNAL", "ANONYMOUS", "SYSTEM", "UNRECOGNIZED"];

/// The fields that associates can be filtered on. `group` holds the names and ids of all groups.
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

/// The fields that associates can be ordered by.
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

/// An associate with its texts in the caller's languages.
#[derive(Debug)]
pub struct ListedAssociate<'a> {
    associate: &'a Associate,
    languages: &'a Languages,
    /// The group ids as text, created only if a filter uses groups: most filters do not, and lists are long.
    group_ids: OnceCell<Vec<String>>,
}

impl<'a> ListedAssociate<'a> {
    /// Creates the view of an associate in these languages.
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
                let names = self.groups().map(|group| self.languages.select(&group.display_name));
                Value::List(names.chain(ids.iter().map(String::as_str)).collect())
            }
            "role" => associate.role.as_ref().map_or(Value::Absent, |role| {
                Value::Text(self.languages.select(&role.display_name).into())
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
