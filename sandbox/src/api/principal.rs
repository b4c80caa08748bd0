//! `GET /{tenant}/api/v1/User/currentPrincipal`: who am I.

use hyper::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::{NO_DATE, accepts_json, credential};
use crate::answer::Answer;
use crate::faults::Fault;
use crate::people::{Associate, License, LicenseScope};
use crate::platform::Platform;
use crate::world::Tenant;

/// The associate that system users are.
pub(crate) const SYSTEM_ASSOCIATE_ID: u32 = 2;

pub(super) fn current(
    platform: &Platform,
    tenant: &Tenant,
    headers: &HeaderMap,
    fault: Option<&Fault>,
) -> Answer {
    if !credential::admit(platform, tenant, headers) {
        return Answer::empty(StatusCode::UNAUTHORIZED);
    }
    if !accepts_json(headers) {
        return Answer::html(StatusCode::OK, "Current principal");
    }
    let database = match fault {
        Some(Fault::WrongDatabase { context }) => context,
        _ => &tenant.id,
    };
    let people = &*tenant.people;
    let system = people.associates.get(&SYSTEM_ASSOCIATE_ID).cloned().unwrap_or_default();
    let role = people.roles.get(&system.role_id).cloned().unwrap_or_default();
    let granted = people.licenses.iter().filter(|license| is_granted(&system, license));
    let licenses: Vec<Value> = (1..).zip(granted).map(license).collect();
    Answer::json(
        StatusCode::OK,
        &json!({
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
            "Licenses": licenses,
            "FullName": "System user",
            "EMailAddress": "",
            "FunctionRights": role.functional_rights,
            "EjUserId": 0,
            "EjAccessLevel": 0,
            "EjUserStatus": "StatusSystem",
            "ProvidedCredentials": [],
            "SecondaryGroups": [],
            "DatabaseContextIdentifier": database,
            "UserName": "",
        }),
    )
}

fn is_granted(associate: &Associate, license: &License) -> bool {
    license.scope == LicenseScope::SiteLicense || associate.licenses.contains(&license.name)
}

/// A `GrantedModuleLicense`.
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
