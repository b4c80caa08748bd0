//! The Associate agent, and the current associate.

use hyper::StatusCode;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::query::ArchiveQuery;
use crate::answer::Answer;
use crate::api::not_found;
use crate::people::{Associate, People};
use crate::world::Tenant;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ByPerson {
    person_id: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ByGroup {
    group_id: u32,
    /// The kind of group. The meaning of the three values is disputed.
    #[serde(rename = "Type")]
    _kind: i32,
}

/// Returns the associate that is calling.
pub(super) fn current(people: &People, caller: u32) -> Answer {
    let caller = people.associates.get(&caller);
    let carrier = caller.map_or(Value::Null, |one| associate_json(people, one));
    Answer::json(StatusCode::OK, &carrier)
}

/// Answers an operation of the agent.
pub(super) fn agent(tenant: &Tenant, operation: &str, query: &ArchiveQuery, body: &[u8]) -> Answer {
    let people = &*tenant.people;
    let found = match operation {
        "GetAssociate" => by_id(people, query),
        "GetAssociateByPersonId" => read(body, "request").map(|ByPerson { person_id }| {
            let mut all = people.associates.values();
            let found = all.find(|one| person_id != 0 && one.person_id == person_id);
            found.map_or(Value::Null, |one| associate_json(people, one))
        }),
        "GetAssociateList" => read(body, "associateIds").map(|ids: Vec<u32>| {
            let found = ids.iter().filter_map(|id| people.associates.get(id));
            found.map(|one| associate_json(people, one)).collect()
        }),
        "GetAssociatesByGroup" => read(body, "request").map(|ByGroup { group_id, .. }| {
            let all = people.associates.values().filter(|one| !one.deleted);
            let members = all.filter(|one| {
                group_id != 0 && (one.group_id == group_id || one.other_groups.contains(&group_id))
            });
            members.map(|one| associate_json(people, one)).collect()
        }),
        _ => return not_found(&format!("api/v1/Agents/Associate/{operation}")),
    };
    match found {
        Ok(_) if tenant.oddities.agents_answer_null => Answer::json(StatusCode::OK, &Value::Null),
        Ok(mut found) => {
            select(&mut found, &query.select);
            Answer::json(StatusCode::OK, &found)
        }
        Err(parameter) => malformed(tenant, parameter),
    }
}

/// Returns the ASP.NET error for an unusable parameter.
pub(super) fn malformed(tenant: &Tenant, parameter: &str) -> Answer {
    let status =
        if tenant.oddities.malformed_is_200 { StatusCode::OK } else { StatusCode::BAD_REQUEST };
    let detail =
        format!("The parameters dictionary contains a null entry for parameter '{parameter}'.");
    let body = json!({ "Message": "The request is invalid.", "MessageDetail": detail });
    Answer::json(status, &body)
}

fn by_id(people: &People, query: &ArchiveQuery) -> Result<Value, &'static str> {
    let id = query.value("associateId").and_then(|id| id.parse::<i32>().ok());
    let id = id.ok_or("associateId")?;
    let found = u32::try_from(id).ok().and_then(|id| people.associates.get(&id));
    Ok(found.map_or(Value::Null, |one| associate_json(people, one)))
}

pub(super) fn read<T: DeserializeOwned>(
    body: &[u8],
    parameter: &'static str,
) -> Result<T, &'static str> {
    serde_json::from_slice(body).map_err(|_| parameter)
}

/// Sets fields that were not selected to null.
fn select(found: &mut Value, select: &[String]) {
    if select.is_empty() {
        return;
    }
    match found {
        Value::Array(items) => items.iter_mut().for_each(|item| self::select(item, select)),
        Value::Object(fields) => {
            for (name, value) in fields.iter_mut() {
                if !select.contains(name) {
                    *value = Value::Null;
                }
            }
        }
        _ => {}
    }
}

fn associate_json(people: &People, one: &Associate) -> Value {
    let formal = people.person_of(one).map_or_else(
        || one.name.clone(),
        |person| {
            let names = [&*person.mr_mrs, &*person.title, &*person.full_name()].join(" ");
            names.split_whitespace().collect::<Vec<_>>().join(" ")
        },
    );
    json!({
        "AssociateId": one.id,
        "Name": one.name,
        "PersonId": one.person_id,
        "Rank": one.rank,
        "Tooltip": one.tooltip,
        "Type": one.kind.api_name(),
        "GroupIdx": one.group_id,
        "FullName": people.full_name(one),
        "FormalName": formal,
        "Deleted": one.deleted,
        "EjUserId": one.ej_user_id,
        "UserName": one.user_name,
        "ExtraFields": {},
        "CustomFields": {},
        "TableRight": null,
        "FieldProperties": null,
    })
}
