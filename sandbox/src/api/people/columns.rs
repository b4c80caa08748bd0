//! The columns of the archives of users and of roles.

use std::borrow::Cow;

use crate::api::NO_DATE;
use crate::people::{Associate, Company, People, Person, Role, UserGroup};

/// What kind of values a column has, and so what it can be filtered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The id of an associate.
    Associate,
    Number,
    Text,
    Flag,
    Date,
    /// An item of a list: filtered by its id.
    List,
    /// Cannot be filtered.
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

type OfUser = for<'a> fn(&'a People, &'a Associate) -> Cell<'a>;
type OfRole = for<'a> fn(&'a Role) -> Cell<'a>;

#[derive(Clone, Debug)]
enum Read {
    User(OfUser),
    Role(OfRole),
    License(String),
}

#[derive(Clone, Debug)]
pub(super) struct Column {
    pub(super) name: Cow<'static, str>,
    pub(super) kind: Kind,
    read: Read,
}

impl Column {
    pub(super) fn of<'a>(&self, row: Row<'a>) -> Cell<'a> {
        match (&self.read, row) {
            (Read::User(read), Row::User(people, associate)) => read(people, associate),
            (Read::Role(read), Row::Role(role)) => read(role),
            (Read::License(name), Row::User(_, associate)) => {
                Cell::Flag(associate.licenses.contains(name))
            }
            _ => Cell::Text(Cow::Borrowed("")),
        }
    }
}

fn user(name: &'static str, kind: Kind, read: OfUser) -> Column {
    Column { name: Cow::Borrowed(name), kind, read: Read::User(read) }
}

fn role(name: &'static str, kind: Kind, read: OfRole) -> Column {
    Column { name: Cow::Borrowed(name), kind, read: Read::Role(read) }
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

fn of_person<'a>(
    people: &'a People,
    associate: &'a Associate,
    read: impl Fn(&'a Person) -> &'a str,
) -> Cell<'a> {
    text(people.person_of(associate).map(read).unwrap_or_default())
}

fn of_company<'a>(
    people: &'a People,
    associate: &'a Associate,
    read: impl Fn(&'a Company) -> &'a str,
) -> Cell<'a> {
    text(people.company_of(associate).map(read).unwrap_or_default())
}

fn group_name(people: &People, id: u32) -> &str {
    people.groups.get(&id).map(|group: &UserGroup| group.name.as_str()).unwrap_or_default()
}

/// The columns of the archives of users. `OtherUsers` has none about persons.
pub(super) fn of_users(people: &People, persons: bool) -> Vec<Column> {
    let mut columns = vec![
        user("associateDbId", Kind::Associate, |_, one| number(one.id)),
        user("assocName", Kind::Text, |_, one| text(&one.name)),
        user("assocTooltip", Kind::Text, |_, one| text(&one.tooltip)),
        user("assocType", Kind::List, |_, one| {
            Cell::List(one.kind.database().into(), Cow::Borrowed(one.kind.list_name()))
        }),
        user("userName", Kind::Text, |_, one| text(&one.user_name)),
        user("usergroup", Kind::Text, |people, one| text(group_name(people, one.group_id))),
        user("usergroupId", Kind::Number, |_, one| number(one.group_id)),
        user("otherGroups", Kind::Text, |people, one| {
            let names: Vec<&str> =
                one.other_groups.iter().map(|id| group_name(people, *id)).collect();
            Cell::Text(Cow::Owned(names.join(", ")))
        }),
        user("role", Kind::List, |people, one| {
            let name = people.roles.get(&one.role_id).map_or("", |role| &role.name);
            Cell::List(one.role_id.into(), Cow::Borrowed(name))
        }),
        user("isActive", Kind::Flag, |_, one| Cell::Flag(!one.deleted)),
        user("isActiveText", Kind::Text, |_, one| {
            text(if one.deleted { "Inactive" } else { "Active" })
        }),
        user("canLogin", Kind::Flag, |_, one| Cell::Flag(one.can_login)),
        user("userplan", Kind::Unfiltered, |people, one| {
            let mut plans = people.licenses.iter().filter(|license| license.user_plan);
            let plan = plans.find(|plan| one.licenses.contains(&plan.name));
            text(plan.map(|plan| plan.description.as_str()).unwrap_or_default())
        }),
        user("ejUserId", Kind::Number, |_, one| number(one.ej_user_id)),
        user("ejDisplayName", Kind::Text, |people, one| {
            let name = if one.ej_user_id == 0 { String::new() } else { people.full_name(one) };
            Cell::Text(Cow::Owned(name))
        }),
        user("ejStatus", Kind::Number, |_, one| number(i32::from(one.ej_user_id != 0))),
        user("simultaneousEjUser", Kind::Flag, |_, _| Cell::Flag(false)),
        user("credentialType", Kind::Unfiltered, |_, one| {
            text(if one.user_name.is_empty() { "" } else { "SuperId" })
        }),
        user("credentialDisplayValue", Kind::Unfiltered, |_, one| text(&one.user_name)),
        user("isLocation", Kind::Flag, |_, _| Cell::Flag(false)),
        user("locationAddress", Kind::Text, |_, _| text("")),
    ];
    if persons {
        columns.extend(of_persons());
    }
    columns.extend(people.licenses.iter().map(|license| Column {
        name: Cow::Owned(license.column()),
        kind: Kind::Unfiltered,
        read: Read::License(license.name.clone()),
    }));
    columns
}

fn of_persons() -> Vec<Column> {
    vec![
        user("fullName", Kind::Text, |people, one| {
            let person = people.person_of(one);
            Cell::Text(Cow::Owned(person.map(Person::full_name).unwrap_or_default()))
        }),
        user("firstName", Kind::Text, |all, one| of_person(all, one, |who| &who.first_name)),
        user("middleName", Kind::Text, |all, one| of_person(all, one, |who| &who.middle_name)),
        user("lastName", Kind::Text, |all, one| of_person(all, one, |who| &who.last_name)),
        user("title", Kind::Text, |all, one| of_person(all, one, |who| &who.title)),
        user("mrMrs", Kind::Text, |all, one| of_person(all, one, |who| &who.mr_mrs)),
        user("personId", Kind::Number, |_, one| number(one.person_id)),
        user("personEmail", Kind::Text, |all, one| of_person(all, one, |who| &who.email)),
        user("contactId", Kind::Number, |people, one| {
            number(people.person_of(one).map_or(0, |person| person.company_id))
        }),
        user("contactName", Kind::Text, |all, one| of_company(all, one, |firm| &firm.name)),
        user("contactDepartment", Kind::Text, |all, one| {
            of_company(all, one, |firm| &firm.department)
        }),
        user("contactFullName", Kind::Text, |people, one| {
            let full = people.company_of(one).map(|firm| {
                if firm.department.is_empty() {
                    firm.name.clone()
                } else {
                    format!("{}, {}", firm.name, firm.department)
                }
            });
            Cell::Text(Cow::Owned(full.unwrap_or_default()))
        }),
        user("contactCategory", Kind::Text, |all, one| of_company(all, one, |firm| &firm.category)),
        user("portraitThumbnail", Kind::Unfiltered, |_, _| text("")),
    ]
}

/// The columns of the archive of roles.
pub(super) fn of_roles() -> Vec<Column> {
    vec![
        role("roleId", Kind::Number, |role| number(role.id)),
        role("name", Kind::Text, |role| text(&role.name)),
        role("description", Kind::Text, |role| text(&role.description)),
        role("roleTypeId", Kind::Number, |role| number(role.kind as u8)),
        role("roleTypeName", Kind::Text, |role| text(role.kind.name())),
        role("useCategories", Kind::Flag, |role| Cell::Flag(role.use_categories)),
        role("rank", Kind::Number, |role| number(role.rank)),
        role("isDeleted", Kind::Flag, |role| Cell::Flag(role.deleted)),
        role("updatedBy", Kind::Text, |_| text("")),
        role("updatedDate", Kind::Date, |role| date(&role.updated)),
        role("registeredBy", Kind::Text, |_| text("")),
        role("registeredDate", Kind::Date, |role| date(&role.registered)),
    ]
}
