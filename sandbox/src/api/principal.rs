//! `GET /{tenant}/api/v1/User/currentPrincipal`: the calling user.

use hyper::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::{accepts_json, credential};
use crate::answer::Answer;
use crate::clock::NO_DATE;
use crate::faults::Fault;
use crate::people::{Associate, License, LicenseScope, People, SYSTEM_ASSOCIATE_ID};
use crate::platform::Platform;
use crate::world::Tenant;

pub(super) fn current(
    platform: &Platform,
    tenant: &Tenant,
    headers: &HeaderMap,
    fault: Option<&Fault>,
) -> Answer {
    let caller = match credential::authenticate(platform, tenant, headers) {
        Ok(caller) => caller,
        Err(status) => return Answer::empty(status),
    };
    if !accepts_json(headers) {
        return Answer::html(StatusCode::OK, "Current principal");
    }
    let database = match fault {
        Some(Fault::WrongDatabase { context }) => context,
        _ => &tenant.id,
    };
    let mut principal = if caller == SYSTEM_ASSOCIATE_ID {
        system(&tenant.people)
    } else {
        person(&tenant.people, caller)
    };
    if let Some(fields) = principal.as_object_mut() {
        fields.insert("DatabaseContextIdentifier".to_owned(), json!(database));
    }
    Answer::json(StatusCode::OK, &principal)
}

/// Returns the principal of a system user.
fn system(people: &People) -> Value {
    let system = people.associates.get(&SYSTEM_ASSOCIATE_ID).cloned().unwrap_or_default();
    let role = people.roles.get(&system.role_id).cloned().unwrap_or_default();
    json!({
        "UserType": "SystemAssociate",
        "Associate": "SYSTEM",
        "AssociateId": SYSTEM_ASSOCIATE_ID,
        "IsPerson": false,
        "PersonId": 0,
        "CountryId": 0,
        "HomeCountryId": 0,
        "ContactId": 0,
        "GroupId": 0,
        "BusinessId": 0,
        "CategoryId": 0,
        "ContactOwner": 0,
        "RoleId": role.id,
        "RoleName": "System",
        "RoleDescription": role.description,
        "RoleType": "System",
        "Licenses": licenses(people, &system),
        "FullName": "System user",
        "EMailAddress": "",
        "FunctionRights": role.functional_rights,
        "EjUserId": 0,
        "EjAccessLevel": 0,
        "EjUserStatus": "StatusSystem",
        "ProvidedCredentials": [],
        "SecondaryGroups": [],
        "UserName": "",
    })
}

/// Returns the principal of a person (documented).
fn person(people: &People, id: u32) -> Value {
    let one = people.associates.get(&id).cloned().unwrap_or_default();
    let role = people.roles.get(&one.role_id).cloned().unwrap_or_default();
    let person = people.person_of(&one).cloned().unwrap_or_default();
    let status = if one.ej_user_id == 0 { "StatusNone" } else { "StatusNormal" };
    json!({
        "UserType": one.kind.api_name(),
        "Associate": one.name,
        "AssociateId": one.id,
        "IsPerson": person.id != 0,
        "PersonId": person.id,
        "CountryId": 0,
        "HomeCountryId": 0,
        "ContactId": person.company_id,
        "GroupId": one.group_id,
        "BusinessId": 0,
        "CategoryId": 0,
        "ContactOwner": 0,
        "RoleId": role.id,
        "RoleName": role.name,
        "RoleDescription": role.description,
        "RoleType": role.kind.name(),
        "Licenses": licenses(people, &one),
        "FullName": people.full_name(&one),
        "EMailAddress": person.email,
        "FunctionRights": role.functional_rights,
        "EjUserId": one.ej_user_id,
        "EjAccessLevel": 0,
        "EjUserStatus": status,
        "ProvidedCredentials": [{
            "Type": "SuperId",
            "SearchName": one.user_name,
            "DisplayName": one.user_name,
            "CredentialId": one.id,
        }],
        "SecondaryGroups": one.other_groups,
        "UserName": one.user_name,
    })
}

fn licenses(people: &People, associate: &Associate) -> Vec<Value> {
    let granted = people.licenses.iter().filter(|license| is_granted(associate, license));
    (1..).zip(granted).map(license).collect()
}

fn is_granted(associate: &Associate, license: &License) -> bool {
    license.scope == LicenseScope::SiteLicense || associate.licenses.contains(&license.name)
}

/// Returns a `GrantedModuleLicense`.
fn license((id, license): (u32, &License)) -> Value {
    json!({
        "OwnerId": 1,
        "OwnerName": license.owner,
        "OwnerDescription": license.owner,
        "ModuleId": id,
        "Name": license.name,
        "Description": license.description,
        "Version": "",
        "LicenseType": license.scope,
        "ExtraFlags": u8::from(license.user_plan),
        "ExtraInfo": "",
        "SortOrder": id,
        "LicenseNumber": license.number,
        "IsHidden": false,
        "IsUnrestricted": license.unrestricted,
        "ExpiryDate": NO_DATE,
        "TableRight": null,
        "FieldProperties": null,
    })
}
