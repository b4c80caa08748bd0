//! Compares requests with the official API descriptions in `tests/fixtures/openapi`.

use serde_json::Value;

use super::*;
use crate::superoffice::people::{
    groups::GROUP_FIELDS,
    principal::{LICENSE_FIELDS, PRINCIPAL_FIELDS},
};

/// The API descriptions.
fn described(pointer: &[&str]) -> Value {
    let file = include_str!("../../../../tests/fixtures/openapi/web-api.json");
    look(file, pointer)
}

/// Facts from the documentation that the descriptions omit.
fn named(pointer: &[&str]) -> Vec<String> {
    let file = include_str!("../../../../tests/fixtures/openapi/names.json");
    serde_json::from_value(look(file, pointer)).unwrap()
}

fn look(file: &str, pointer: &[&str]) -> Value {
    let whole: Value = serde_json::from_str(file).unwrap();
    let step = |value: Value, name: &&str| value.get(name).cloned().expect(name);
    pointer.iter().fold(whole, step)
}

fn id(number: i32) -> AssociateId {
    AssociateId::new(number).unwrap()
}

/// A request without its response reader.
struct Sent {
    method: String,
    path: String,
    query: Vec<(String, String)>,
    headers: HeaderMap,
}

fn sent<T>(call: &ApiQuery<T>) -> Sent {
    let (path, query) =
        call.path_and_query.split_once('?').unwrap_or((call.path_and_query.as_str(), ""));
    let query = if call.body.is_empty() { query.as_bytes() } else { &call.body };
    // The query must be fully encoded.
    assert!(query.iter().all(|b| b.is_ascii_alphanumeric() || b"$=&,()%".contains(b)), "{call:?}");
    Sent {
        method: call.method.as_str().to_lowercase(),
        path: path.to_owned(),
        query: url::form_urlencoded::parse(query).into_owned().collect(),
        headers: call.headers.clone(),
    }
}

fn every_call() -> Vec<(Sent, &'static str)> {
    let calls = PeopleRequests;
    vec![
        (sent(&calls.associates(None)), "/api/v1/User"),
        (sent(&calls.associates(Some(id(1000)))), "/api/v1/User"),
        (sent(&calls.associate(id(5))), "/api/v1/User"),
        (sent(&calls.associates_by_id(&[id(5), id(6)])), "/api/v1/Archive/{archiveProviderName}"),
        (sent(&calls.user_groups()), "/api/v1/MDOList/{listname}"),
        (sent(&calls.roles()), "/api/v1/Role"),
        (sent(&calls.current_principal("Cust1".parse().unwrap())), "/api/v1/User/currentPrincipal"),
    ]
}

/// Returns the names of parameters of a kind, with their descriptions.
fn parameters(path: &str, method: &str, kind: &str) -> Vec<(String, Value)> {
    let all = described(&["paths", path, method, "parameters"]);
    let all = all.as_array().unwrap().iter().filter(|parameter| parameter["in"] == kind);
    all.map(|one| (one["name"].as_str().unwrap().to_owned(), one.clone())).collect()
}

#[test]
fn every_path_and_method_is_in_the_api_description() {
    for (call, path) in every_call() {
        described(&["paths", path, &call.method]);
        match path.split_once('{') {
            None => assert_eq!(format!("/api{}", call.path), path),
            Some((before, _)) => {
                let last = format!("/api{}", call.path);
                let last = last.strip_prefix(before).unwrap();
                let archives = look(
                    include_str!("../../../../tests/fixtures/openapi/names.json"),
                    &["archives"],
                );
                let known = named(&["lists"]).iter().any(|list| list == last)
                    || archives.get(last).is_some();
                assert!(known, "{last}");
            }
        }
    }
}

#[test]
fn every_parameter_matches_the_api_description() {
    for (call, path) in every_call() {
        // The form has the same parameters as the query.
        let known = parameters(path, "get", "query");
        for (name, value) in &call.query {
            let (_, described) = known.iter().find(|(known, _)| known == name).expect(name);
            match described["type"].as_str().unwrap() {
                "integer" => assert!(value.parse::<i32>().is_ok(), "{name}={value}"),
                "boolean" => assert!(value.parse::<bool>().is_ok(), "{name}={value}"),
                _ => assert!(!value.is_empty(), "{name}"),
            }
            if let Some(allowed) = described.get("enum") {
                assert!(allowed.as_array().unwrap().contains(&value.as_str().into()), "{value}");
            }
        }
        let known = parameters(path, &call.method, "header");
        for name in call.headers.keys().filter(|name| **name != ACCEPT && **name != CONTENT_TYPE) {
            assert!(known.iter().any(|(known, _)| name == known.as_str()), "{name}");
        }
        assert!(known.iter().any(|(known, _)| known == "SO-AppToken"));
        assert_eq!(call.headers[ACCEPT], "application/json");
        assert_eq!(call.headers[ACCEPT_LANGUAGE], "*");
    }
}

#[test]
fn every_column_is_documented() {
    for (archive, columns) in [("AllUsers", ASSOCIATE_COLUMNS), ("Role", ROLE_COLUMNS)] {
        let known = named(&["archives", archive]);
        for column in columns {
            assert!(known.iter().any(|known| known == column), "{archive}: {column}");
        }
    }
    for (call, _) in every_call() {
        let value = |name: &str| call.query.iter().find(|(known, _)| known == name);
        let Some((_, select)) = value("$select") else { continue };
        let columns = if call.path == "/v1/Role" { ROLE_COLUMNS } else { ASSOCIATE_COLUMNS };
        assert_eq!(select.split(',').collect::<Vec<_>>(), columns);
        let key = columns[0];
        assert_eq!(value("$orderBy").unwrap().1, key);
        assert!(value("$filter").unwrap().1.starts_with(&format!("{key} ")));
    }
}

#[test]
fn filters_contain_only_integers() {
    let filter = |call: &Sent| {
        let filter = call.query.iter().find(|(name, _)| name == "$filter");
        filter.map(|(_, value)| value.clone()).unwrap()
    };
    let calls = PeopleRequests;
    assert_eq!(filter(&sent(&calls.associates(None))), "associateDbId > 0");
    assert_eq!(filter(&sent(&calls.associates(Some(id(1000))))), "associateDbId > 1000");
    assert_eq!(filter(&sent(&calls.associate(id(5)))), "associateDbId oneOf (5)");
    let many = filter(&sent(&calls.associates_by_id(&[id(5), id(i32::MAX)])));
    assert_eq!(many, "associateDbId oneOf (5,2147483647)");
    assert_eq!(filter(&sent(&calls.roles())), "roleId > 0");
}

#[test]
fn every_field_is_in_the_api_description() {
    let of = |name: &str| format!("SuperOffice.CRM.Services.{name}");
    for (carrier, fields) in [
        (of("SoPrincipalCarrier"), PRINCIPAL_FIELDS),
        (of("GrantedModuleLicense"), LICENSE_FIELDS),
        (of("MDOListItem"), GROUP_FIELDS),
        (
            "SuperOffice.Services.WebApi.OData.ODataSlimResponse".to_owned(),
            &["value", "odata.nextLink"],
        ),
    ] {
        let known = described(&["definitions", &carrier, "properties"]);
        assert!(!fields.is_empty());
        for field in fields {
            assert!(known.get(field).is_some(), "{carrier}: {field}");
        }
    }
}
