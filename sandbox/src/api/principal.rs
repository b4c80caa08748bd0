//! `GET /{tenant}/api/v1/User/currentPrincipal`: who am I.

use hyper::{HeaderMap, StatusCode};
use serde_json::json;

use super::{accepts_json, credential};
use crate::answer::Answer;
use crate::faults::Fault;
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
            "RoleId": 0,
            "RoleName": "System",
            "RoleDescription": "",
            "RoleType": "System",
            "Licenses": [],
            "FullName": "System user",
            "EMailAddress": "",
            "FunctionRights": [],
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
