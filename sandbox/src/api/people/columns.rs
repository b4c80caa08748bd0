//! The columns of the archives of users and of roles.

use std::borrow::Cow;

use crate::clock::NO_DATE;
use crate::people::{Associate, Company, People, Person, Role, UserGroup};

/// The type of a column's values, which decides how it can be filtered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The id of an associate.
    Associate,
    Number,
    Text,
    Flag,
    Date,
    /// A list item; filtered by its id.
    List,
    /// A column that cannot be filtered.
    Unfiltered,
}

/// A value in a row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cell<'a> {
    Number(i64),
    Text(Cow<'a, str>),
    Flag(bool),
    Date(&'a str),
    List(i64, Cow<'a, str>),
}

/// A row of an archive.
#[derive(Clone, Copy, Debug)]
pub(super) enum Row<'a> {
    User(&'a People, &'a Associate),
    Role(&'a Role),
}

impl Row<'_> {
    pub(super) fn key(&self) -> u32 {
        match self {
            Self::User(_, associate) => associate.id,
            Self::Role(role) => role.id,
        }
    }
}

type ReadUser = for<'a> fn(&'a People, &'a Associate) -> Cell<'a>;
type ReadRole = for<'a> fn(&'a Role) -> Cell<'a>;

#[derive(Clone, Debug)]
enum ColumnSource {
    User(ReadUser),
    Role(ReadRole),
    License(String),
}

#[derive(Clone, Debug)]
pub(super) struct Column {
    pub(super) name: Cow<'static, str>,
    pub(super) kind: Kind,
    read: ColumnSource,
}

impl Column {
    pub(super) fn read_cell<'a>(&self, row: Row<'a>) -> Cell<'a> {
        match (&self.read, row) {
            (ColumnSource::User(read), Row::User(people, associate)) => read(people, associate),
            (ColumnSource::Role(read), Row::Role(role)) => read(role),
            (ColumnSource::License(name), Row::User(_, associate)) => {
                Cell::Flag(associate.licenses.contains(name))
            }
            _ => Cell::Text(Cow::Borrowed("")),
        }
    }
}

fn user_column(name: &'static str, kind: Kind, read: ReadUser) -> Column {
    Column { name: Cow::Borrowed(name), kind, read: ColumnSource::User(read) }
}

fn role_column(name: &'static str, kind: Kind, read: ReadRole) -> Column {
    Column { name: Cow::Borrowed(name), kind, read: ColumnSource::Role(read) }
}

fn text(text: &str) -> Cell<'_> {
    Cell::Text(Cow::Borrowed(text))
}

fn number(number: impl Into<i64>) -> Cell<'static> {
    Cell::Number(number.into())
}

fn date(date: &str) -> Cell<'_> {
    Cell::Date(if date.is_empty() { NO_DATE } else { date })
}

fn person_text<'a>(
    people: &'a People,
    associate: &'a Associate,
    read: impl Fn(&'a Person) -> &'a str,
) -> Cell<'a> {
    text(people.person_of(associate).map(read).unwrap_or_default())
}

fn company_text<'a>(
    people: &'a People,
    associate: &'a Associate,
    read: impl Fn(&'a Company) -> &'a str,
) -> Cell<'a> {
    text(people.company_of(associate).map(read).unwrap_or_default())
}

fn group_name(people: &People, id: u32) -> &str {
    people.groups.get(&id).map(|group: &UserGroup| group.name.as_str()).unwrap_or_default()
}

/// Returns the columns of the archives of users. `OtherUsers` has no columns about persons.
pub(super) fn user_columns(people: &People, persons: bool) -> Vec<Column> {
    let mut columns = vec![
        user_column("associateDbId", Kind::Associate, |_, one| number(one.id)),
        user_column("assocName", Kind::Text, |_, one| text(&one.name)),
        user_column("assocTooltip", Kind::Text, |_, one| text(&one.tooltip)),
        user_column("assocType", Kind::List, |_, one| {
            Cell::List(one.kind.database_number().into(), Cow::Borrowed(one.kind.list_name()))
        }),
        user_column("userName", Kind::Text, |_, one| text(&one.user_name)),
        user_column("usergroup", Kind::Text, |people, one| text(group_name(people, one.group_id))),
        user_column("usergroupId", Kind::Number, |_, one| number(one.group_id)),
        user_column("otherGroups", Kind::Text, |people, one| {
            let names: Vec<&str> =
                one.other_groups.iter().map(|id| group_name(people, *id)).collect();
            Cell::Text(Cow::Owned(names.join(", ")))
        }),
        user_column("role", Kind::List, |people, one| {
            let name = people.roles.get(&one.role_id).map_or("", |role| &role.name);
            Cell::List(one.role_id.into(), Cow::Borrowed(name))
        }),
        user_column("isActive", Kind::Flag, |_, one| Cell::Flag(!one.deleted)),
        user_column("isActiveText", Kind::Text, |_, one| {
            text(if one.deleted { "Inactive" } else { "Active" })
        }),
        user_column("canLogin", Kind::Flag, |_, one| Cell::Flag(one.can_login)),
        user_column("userplan", Kind::Unfiltered, |people, one| {
            let mut plans = people.licenses.iter().filter(|license| license.user_plan);
            let plan = plans.find(|plan| one.licenses.contains(&plan.name));
            text(plan.map(|plan| plan.description.as_str()).unwrap_or_default())
        }),
        user_column("ejUserId", Kind::Number, |_, one| number(one.ej_user_id)),
        user_column("ejDisplayName", Kind::Text, |people, one| {
            let name = if one.ej_user_id == 0 { String::new() } else { people.full_name(one) };
            Cell::Text(Cow::Owned(name))
        }),
        user_column("ejStatus", Kind::Number, |_, one| number(i32::from(one.ej_user_id != 0))),
        user_column("simultaneousEjUser", Kind::Flag, |_, _| Cell::Flag(false)),
        user_column("credentialType", Kind::Unfiltered, |_, one| {
            text(if one.user_name.is_empty() { "" } else { "SuperId" })
        }),
        user_column("credentialDisplayValue", Kind::Unfiltered, |_, one| text(&one.user_name)),
        user_column("isLocation", Kind::Flag, |_, _| Cell::Flag(false)),
        user_column("locationAddress", Kind::Text, |_, _| text("")),
    ];
    if persons {
        columns.extend(person_columns());
    }
    columns.extend(people.licenses.iter().map(|license| Column {
        name: Cow::Owned(license.column()),
        kind: Kind::Unfiltered,
        read: ColumnSource::License(license.name.clone()),
    }));
    columns
}

fn person_columns() -> Vec<Column> {
    vec![
        user_column("fullName", Kind::Text, |people, one| {
            let person = people.person_of(one);
            Cell::Text(Cow::Owned(person.map(Person::full_name).unwrap_or_default()))
        }),
        user_column("firstName", Kind::Text, |all, one| {
            person_text(all, one, |who| &who.first_name)
        }),
        user_column("middleName", Kind::Text, |all, one| {
            person_text(all, one, |who| &who.middle_name)
        }),
        user_column("lastName", Kind::Text, |all, one| person_text(all, one, |who| &who.last_name)),
        user_column("title", Kind::Text, |all, one| person_text(all, one, |who| &who.title)),
        user_column("mrMrs", Kind::Text, |all, one| person_text(all, one, |who| &who.mr_mrs)),
        user_column("personId", Kind::Number, |_, one| number(one.person_id)),
        user_column("personEmail", Kind::Text, |all, one| person_text(all, one, |who| &who.email)),
        user_column("contactId", Kind::Number, |people, one| {
            number(people.person_of(one).map_or(0, |person| person.company_id))
        }),
        user_column("contactName", Kind::Text, |all, one| {
            company_text(all, one, |firm| &firm.name)
        }),
        user_column("contactDepartment", Kind::Text, |all, one| {
            company_text(all, one, |firm| &firm.department)
        }),
        user_column("contactFullName", Kind::Text, |people, one| {
            let full = people.company_of(one).map(|firm| {
                if firm.department.is_empty() {
                    firm.name.clone()
                } else {
                    format!("{}, {}", firm.name, firm.department)
                }
            });
            Cell::Text(Cow::Owned(full.unwrap_or_default()))
        }),
        user_column("contactCategory", Kind::Text, |all, one| {
            company_text(all, one, |firm| &firm.category)
        }),
        user_column("portraitThumbnail", Kind::Unfiltered, |_, _| text("")),
    ]
}

/// Returns the columns of the archive of roles.
pub(super) fn role_columns() -> Vec<Column> {
    vec![
        role_column("roleId", Kind::Number, |role| number(role.id)),
        role_column("name", Kind::Text, |role| text(&role.name)),
        role_column("description", Kind::Text, |role| text(&role.description)),
        role_column("roleTypeId", Kind::Number, |role| number(role.kind as u8)),
        role_column("roleTypeName", Kind::Text, |role| text(role.kind.name())),
        role_column("useCategories", Kind::Flag, |role| Cell::Flag(role.use_categories)),
        role_column("rank", Kind::Number, |role| number(role.rank)),
        role_column("isDeleted", Kind::Flag, |role| Cell::Flag(role.deleted)),
        role_column("updatedBy", Kind::Text, |_| text("")),
        role_column("updatedDate", Kind::Date, |role| date(&role.updated)),
        role_column("registeredBy", Kind::Text, |_| text("")),
        role_column("registeredDate", Kind::Date, |role| date(&role.registered)),
    ]
}
