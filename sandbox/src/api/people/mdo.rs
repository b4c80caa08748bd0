//! MDO lists: associates, groups, roles, types of users.

use hyper::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::language::Language;
use super::query::ArchiveQuery;
use crate::answer::Answer;
use crate::api::not_found;
use crate::people::{AssociateType, People};

/// The request for a list, in the form of the agent.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ListRequest {
    name: String,
    #[serde(default)]
    additional_info: Option<String>,
}

struct ListItem<'a> {
    id: i64,
    name: String,
    tooltip: &'a str,
    deleted: bool,
    rank: i32,
    extra: String,
}

pub(super) fn list(
    people: &People,
    name: &str,
    query: &ArchiveQuery,
    language: &Language,
) -> Answer {
    let additional = query.value("additional").unwrap_or_default();
    let search = query.value("query").unwrap_or_default();
    answer(people, name, additional, search, language)
}

pub(super) fn agent(people: &People, request: &ListRequest, language: &Language) -> Answer {
    let additional = request.additional_info.as_deref().unwrap_or_default();
    answer(people, &request.name, additional, "", language)
}

fn answer(
    people: &People,
    name: &str,
    additional: &str,
    search: &str,
    language: &Language,
) -> Answer {
    let items = match name.to_lowercase().as_str() {
        "associate" => associates(people, false, "", false),
        "associatewithmail" => associates(people, false, "", true),
        "filterassociates" => associates(people, true, additional, false),
        "usergroup" => groups(people, false, additional),
        "usergroupwithhistoryall" => groups(people, true, additional),
        "roles" => roles(people, additional),
        "usertype" => types(),
        _ => return not_found(&format!("api/v1/MDOList/{name}")),
    };
    let search = search.to_lowercase();
    let items: Vec<Value> = items
        .into_iter()
        .filter(|item| item.name.to_lowercase().contains(&search))
        .map(|item| item_json(&item, language))
        .collect();
    Answer::json(StatusCode::OK, &Value::Array(items))
}

fn item_json(item: &ListItem<'_>, language: &Language) -> Value {
    let name = language.resolve(&item.name);
    json!({
        "Id": item.id,
        "Name": name,
        "ToolTip": language.resolve(item.tooltip),
        "Deleted": item.deleted,
        "Rank": item.rank,
        "Type": null,
        "ChildItems": [],
        "IconHint": "",
        "ColorBlock": 0,
        "ExtraInfo": item.extra,
        "StyleHint": "",
        "FullName": name,
        "TableRight": null,
        "FieldProperties": null,
    })
}

/// Returns the value of `name=…` in `additional`.
fn number(additional: &str, name: &str) -> Option<u32> {
    let parts = additional.split('&').filter_map(|part| part.split_once('='));
    parts.filter(|(key, _)| *key == name).find_map(|(_, value)| value.parse().ok())
}

/// Returns the active employees, and on request former ones.
fn associates<'a>(
    people: &'a People,
    former: bool,
    additional: &str,
    with_mail: bool,
) -> Vec<ListItem<'a>> {
    let group = number(additional, "group_idx");
    let all = people.associates.values();
    all.filter(|one| one.kind == AssociateType::Internal && (former || !one.deleted))
        .filter(|one| group.is_none_or(|id| one.group_id == id || one.other_groups.contains(&id)))
        .map(|one| {
            let person = people.person_of(one);
            let full_name = people.full_name(one);
            let mail = person.map(|person| &person.email).filter(|_| with_mail);
            ListItem {
                id: one.id.into(),
                name: match mail {
                    Some(mail) => format!("{full_name} <{mail}>"),
                    None => full_name,
                },
                tooltip: &one.tooltip,
                deleted: one.deleted,
                rank: one.rank,
                extra: format!(
                    "person_id={}&contact_id={}",
                    one.person_id,
                    person.map_or(0, |person| person.company_id)
                ),
            }
        })
        .collect()
}

fn groups<'a>(people: &'a People, deleted: bool, additional: &str) -> Vec<ListItem<'a>> {
    let excluded = number(additional, "exclude_id");
    let all = people.groups.values().filter(|group| deleted || !group.deleted);
    let mut groups: Vec<_> = all.filter(|group| excluded != Some(group.id)).collect();
    groups.sort_by_key(|group| group.rank);
    let item = |group: &'a crate::people::UserGroup| ListItem {
        id: group.id.into(),
        name: group.name.clone(),
        tooltip: &group.tooltip,
        deleted: group.deleted,
        rank: group.rank,
        extra: String::new(),
    };
    groups.into_iter().map(item).collect()
}

fn roles<'a>(people: &'a People, additional: &str) -> Vec<ListItem<'a>> {
    let kind = additional.parse::<u8>().ok();
    let all = people.roles.values().filter(|role| !role.deleted);
    all.filter(|role| kind.is_none_or(|kind| role.kind as u8 == kind))
        .map(|role| ListItem {
            id: role.id.into(),
            name: role.name.clone(),
            tooltip: &role.description,
            deleted: role.deleted,
            rank: role.rank,
            extra: String::new(),
        })
        .collect()
}

/// Returns the types of users in the documented order.
fn types() -> Vec<ListItem<'static>> {
    let kinds = [
        AssociateType::Internal,
        AssociateType::External,
        AssociateType::Resource,
        AssociateType::Anonymous,
        AssociateType::System,
    ];
    let named = kinds.map(|kind| (kind.database_number(), kind.list_name()));
    let all = named.into_iter().chain([(-1, "Not a user")]);
    (1..)
        .zip(all)
        .map(|(rank, (id, name))| ListItem {
            id: id.into(),
            name: name.to_owned(),
            tooltip: "",
            deleted: false,
            rank,
            extra: String::new(),
        })
        .collect()
}
