//! Archives and lists of people.

use std::collections::BTreeSet;

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use superoffice_sandbox::ApiHost;
use superoffice_sandbox::people::{Associate, AssociateType, Oddities, PrimaryKeyForm};

use crate::fixture::{Fixture, ONE, SECRET};

/// A fixture and a ticket for its first tenant.
pub(crate) struct Api {
    pub(crate) fixture: Fixture,
    pub(crate) ticket: String,
}

impl Api {
    pub(crate) async fn with(count: usize) -> Self {
        let fixture = Fixture::start().await;
        fixture.sandbox.generate_people(ONE, count, 1).unwrap();
        let ticket = fixture.ticket().await;
        Self { fixture, ticket }
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let uri = format!("{}/{ONE}/api/v1/{path}", self.fixture.sandbox.api_uri(ApiHost::A));
        self.admitted(method, &uri)
    }

    fn admitted(&self, method: Method, uri: &str) -> RequestBuilder {
        self.fixture
            .http
            .request(method, uri)
            .header("Accept", "application/json")
            .header("Authorization", format!("SOTicket {}", self.ticket))
            .header("SO-AppToken", SECRET)
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        let response = self.request(Method::GET, path).send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap_or_default())
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        let response = self.request(Method::POST, path).json(&body).send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap_or_default())
    }

    /// The rows of a page.
    pub(crate) async fn rows(&self, path: &str) -> Vec<Value> {
        let (status, body) = self.get(path).await;
        assert_eq!(status, 200, "{path}: {body}");
        body["value"].as_array().unwrap().clone()
    }

    /// Returns the ids of the users that match a filter.
    async fn found(&self, filter: &str) -> BTreeSet<u32> {
        let path = format!("User?$select=associateDbId&$top=1000&$filter={filter}");
        let response = self.request(Method::GET, &path).send().await.unwrap();
        assert_eq!(response.status(), 200, "{filter}");
        ids(&response.json::<Value>().await.unwrap())
    }

    /// Returns the ids of the associates that match, from the data itself.
    fn held(&self, wanted: impl Fn(&Associate) -> bool) -> BTreeSet<u32> {
        let people = self.fixture.sandbox.people(ONE).unwrap();
        people.associates.values().filter(|one| wanted(one)).map(|one| one.id).collect()
    }
}

fn ids(page: &Value) -> BTreeSet<u32> {
    let rows = page["value"].as_array().unwrap();
    rows.iter().map(|row| u32::try_from(row["associateDbId"].as_u64().unwrap()).unwrap()).collect()
}

#[tokio::test]
async fn a_bad_query_gets_the_documented_error() {
    let api = Api::with(10).await;
    for query in [
        "$filter=nope eq 1",
        "$filter=associateDbId",
        "$filter=associateDbId eq",
        "$filter=associateDbId eq 'x'",
        "$filter=associateDbId like 3",
        "$filter=associateDbId begins 'a'",
        "$filter=associateDbId oneOf ()",
        "$filter=associateDbId oneOf (1,",
        "$filter=associateDbId eq 99999999999",
        "$filter=assocName eq 'open",
        "$filter=assocName eq 'it''s'",
        "$filter=assocName eq \"x\"",
        "$filter=assocName eq 'line%0Abreak'",
        "$filter=(associateDbId eq 1",
        "$filter=associateDbId eq 1 associateDbId eq 2",
        "$filter=isActive eq maybe",
        "$filter=userplan eq 'x'",
        "$filter=superoffice_ten-sales eq true",
        "$filter=startswith(associateDbId, 'x')",
        "$select=nope",
        "$orderBy=nope",
        "$orderBy=assocName upwards",
        "$top=-1",
        "$skip=many",
    ] {
        let (status, error) = api.get(&format!("User?{query}")).await;
        assert_eq!(
            (status, &error["Message"]),
            (400, &json!("The request is invalid.")),
            "{query}"
        );
        assert!(error["MessageDetail"].is_string(), "{query}");
    }
    let deep = format!("User?$filter={}", "(".repeat(5000));
    assert_eq!(api.get(&deep).await.0, 400);
    // Documented operators that fail in the real service.
    for filter in ["associateDbId le 3", "associateDbId ge 3", "assocName notEnds 'x'"] {
        let (status, error) = api.get(&format!("User?$filter={filter}")).await;
        assert_eq!((status, &error["Error"]), (500, &json!(true)), "{filter}");
    }
}

#[tokio::test]
async fn filters_find_what_a_direct_evaluation_finds() {
    let api = Api::with(400).await;
    let kind = |kind| move |one: &Associate| one.kind == kind;
    let lower = |one: &Associate| one.name.to_lowercase();
    assert_eq!(api.found("associateDbId oneOf (2, 3,9999)").await, BTreeSet::from([2, 3]));
    assert_eq!(api.found("associateDbId associateIsOneOf (1,6)").await, BTreeSet::from([1, 6]));
    assert_eq!(api.found("associateDbId currentAssociate").await, BTreeSet::from([2]));
    assert_eq!(api.found("associateDbId > 50").await, api.held(|one| one.id > 50));
    assert_eq!(api.found("associateDbId gt 50").await, api.held(|one| one.id > 50));
    assert_eq!(
        api.found("associateDbId between (5, 20)").await,
        api.held(|one| (5..=20).contains(&one.id))
    );
    for (number, kind_of) in [(0, AssociateType::Internal), (13, AssociateType::System)] {
        let filter = format!("assocType oneOf ({number})");
        assert_eq!(api.found(&filter).await, api.held(kind(kind_of)));
    }
    assert_eq!(api.found("isActive eq false").await, api.held(|one| one.deleted));
    assert_eq!(api.found("isActive = 1 and canLogin ne true").await, {
        api.held(|one| !one.deleted && !one.can_login)
    });
    assert_eq!(
        api.found("(usergroupId eq 1 or usergroupId eq 2) and assocName begins 'emp1'").await,
        api.held(|one| [1, 2].contains(&one.group_id) && lower(one).starts_with("emp1"))
    );
    assert_eq!(
        api.found("assocName notContains '1'").await,
        api.held(|one| !one.name.contains('1'))
    );
    assert_eq!(
        api.found("endswith(assocName, '7')").await,
        api.held(|one| one.name.ends_with('7'))
    );
    assert_eq!(
        api.found("substringof('EXT', assocName)").await,
        api.held(|one| lower(one).contains("ext"))
    );
    assert_eq!(api.found("getNoRows = 1").await, BTreeSet::new());
    assert_eq!(api.found("getAllRows = 1").await, api.held(|_| true));
}

#[tokio::test]
async fn following_the_links_returns_every_user_once() {
    let api = Api::with(5_000).await;
    let mut uri = format!(
        "{}/{ONE}/api/v1/User?$select=associateDbId&$orderBy=associateDbId&$top=700",
        api.fixture.sandbox.api_uri(ApiHost::A)
    );
    let mut found = Vec::new();
    loop {
        let response = api.admitted(Method::GET, &uri).send().await.unwrap();
        let page: Value = response.json().await.unwrap();
        found.extend(
            page["value"].as_array().unwrap().iter().map(|row| row["associateDbId"].clone()),
        );
        match page["odata.nextLink"].as_str() {
            Some(next) => uri = next.to_owned(),
            None => break,
        }
    }
    let held: Vec<Value> = api.held(|_| true).into_iter().map(Value::from).collect();
    assert_eq!(found, held);
}

#[tokio::test]
async fn fifty_thousand_users_are_paged_by_key() {
    let api = Api::with(50_000).await;
    let mut found = BTreeSet::new();
    loop {
        let last = found.last().copied().unwrap_or_default();
        let next = api.found(&format!("associateDbId > {last}")).await;
        if next.is_empty() {
            break;
        }
        found.extend(next);
    }
    assert_eq!(found, api.held(|_| true));
}

#[tokio::test]
async fn a_page_is_bounded_and_links_to_the_next() {
    let api = Api::with(5_000).await;
    let (_, page) = api.get("User?$top=4000").await;
    assert_eq!(page["value"].as_array().unwrap().len(), 1000);
    let next = page["odata.nextLink"].as_str().unwrap();
    assert!(next.starts_with("http://") && next.ends_with("$skip=1000"), "{next}");
    let metadata = page["odata.metadata"].as_str().unwrap();
    assert!(metadata.ends_with("/api/v1/Archive//$metadata"));
    let (_, last) = api.get("User?$skip=4999").await;
    assert_eq!(
        (last["value"].as_array().unwrap().len(), &last["odata.nextLink"]),
        (1, &Value::Null)
    );
}

#[tokio::test]
async fn rows_are_sorted_and_have_the_selected_columns() {
    let api = Api::with(60).await;
    let rows = api.rows("User?$select=assocName,personEmail&$orderby=assocName desc&$top=60").await;
    let names: Vec<&str> = rows.iter().map(|row| row["assocName"].as_str().unwrap()).collect();
    assert!(names.is_sorted_by(|left, right| left >= right));
    assert_eq!(rows[0].as_object().unwrap().len(), 4);
    let row = &api.rows("User?$filter=associateDbId eq 2").await[0];
    assert_eq!(row["PrimaryKey"], "2");
    assert_eq!(row["superoffice_system-user-cal"], true);
    assert_eq!(row["assocType"], "System");
    let full = &api.rows("User?$mode=Full&$select=assocType&$filter=associateDbId eq 2").await[0];
    assert_eq!(full["PrimaryKey"], 2);
    assert_eq!(full["Column"]["assocType"]["RawValue"], 13);
}

#[tokio::test]
async fn each_provider_has_its_rows_and_columns() {
    let api = Api::with(300).await;
    let is = |kind| move |one: &Associate| one.kind == kind;
    for (path, expected) in [
        ("AllUsers?", api.held(|_| true)),
        ("InternalUsers?", api.held(|one| is(AssociateType::Internal)(one) && !one.deleted)),
        ("InternalUsers?$entities=retired", api.held(is(AssociateType::Internal))),
        ("ExternalUsers?", api.held(is(AssociateType::External))),
        (
            "OtherUsers?",
            api.held(|one| matches!(one.kind, AssociateType::System | AssociateType::Anonymous)),
        ),
    ] {
        let (_, page) = api.get(&format!("Archive/{path}")).await;
        assert_eq!(ids(&page), expected, "{path}");
    }
    assert_eq!(api.get("Archive/OtherUsers?$select=fullName").await.0, 400);
    assert_eq!(api.get("Archive/Nothing").await.0, 404);
    let form = "$select=associateDbId&$top=3";
    let posted = api.request(Method::POST, "Archive/AllUsers").body(form).send().await.unwrap();
    assert_eq!(posted.json::<Value>().await.unwrap()["value"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn roles_have_levels_types_raw_names_and_empty_dates() {
    let api = Api::with(10).await;
    let roles = api.rows("Role").await;
    assert_eq!(
        (&roles[0]["name"], &roles[5]["name"]),
        (&json!("User level 0"), &json!("User level 5"))
    );
    assert_eq!(roles[0]["updatedDate"], "0001-01-01T00:00:00");
    assert_eq!(roles[6]["name"], "NO:\"Ekstern\";US:\"External user\"");
    let system = api.rows("Role?$filter=roleTypeId eq 3").await;
    assert_eq!((system.len(), &system[0]["roleTypeName"]), (1, &json!("System")));
    assert_eq!(api.rows("Role?$filter=isDeleted eq true").await[0]["name"], "Old role");
    let changed = api.rows("Role?$filter=updatedDate date '2024-02-29'").await;
    assert!(changed.iter().all(|role| role["roleId"].as_u64().unwrap() % 2 == 0));
    assert!(!changed.is_empty());
}

#[tokio::test]
async fn strings_are_raw_unless_the_request_has_a_language() {
    let api = Api::with(10).await;
    let raw = "NO:\"Salg\";US:\"Sales\";GE:\"Vertrieb\"";
    for (header, value, expected) in [
        ("X-None", "x", raw),
        ("Accept-Language", "*", raw),
        ("Accept-Language", "de-DE,de;q=0.9", "Vertrieb"),
        ("SO-Language", "no", "Salg"),
        ("SO-Language", "fr", "Sales"),
    ] {
        let request = api.request(Method::GET, "MDOList/usergroup").header(header, value);
        let groups: Value = request.send().await.unwrap().json().await.unwrap();
        assert_eq!(groups[0]["Name"], expected, "{header}: {value}");
    }
}

#[tokio::test]
async fn lists_are_the_documented_ones() {
    let api = Api::with(300).await;
    let list = async |path: &str| api.get(&format!("MDOList/{path}")).await.1;
    let groups = list("usergroup").await;
    assert_eq!(groups[0].as_object().unwrap().len(), 14);
    assert!(groups[0]["ToolTip"].is_string());
    let named = |list: &Value, name| list.as_array().unwrap().iter().any(|one| one["Name"] == name);
    assert!(!named(&groups, "Closed department"));
    assert!(named(&list("usergroupwithhistoryall").await, "Closed department"));
    let but_one = list("usergroup?additional=exclude_id=1").await;
    assert_eq!(but_one.as_array().unwrap().len() + 1, groups.as_array().unwrap().len());

    let employees = list("associate").await;
    let active = api.held(|one| one.kind == AssociateType::Internal && !one.deleted);
    assert_eq!(employees.as_array().unwrap().len(), active.len());
    assert_eq!(employees[0]["ExtraInfo"], "person_id=13&contact_id=1");
    let members = list("filterassociates?additional=group_idx=1").await;
    let group = |one: &Associate| one.group_id == 1 || one.other_groups.contains(&1);
    let expected = api.held(|one| one.kind == AssociateType::Internal && group(one));
    assert_eq!(members.as_array().unwrap().len(), expected.len());

    let external = list("roles?additional=1").await;
    assert_eq!(external.as_array().unwrap().len(), 1);
    let types = list("usertype").await;
    let types: Vec<&Value> = types.as_array().unwrap().iter().map(|one| &one["Id"]).collect();
    assert_eq!(types, [0, 4, 1, 7, 13, -1]);
    assert_eq!(api.get("MDOList/nothing").await.0, 404);
    let (_, agent) = api.post("Agents/MDO/GetList", json!({ "Name": "UserGroup" })).await;
    assert_eq!(agent, groups);
}

#[tokio::test]
async fn the_oddities_can_be_switched_on() {
    let api = Api::with(50).await;
    let set = |oddities| api.fixture.sandbox.set_oddities(ONE, oddities).unwrap();
    set(Oddities { primary_key: PrimaryKeyForm::Mixed, page_limit: 2, ..Oddities::default() });
    let rows = api.rows("User").await;
    assert_eq!((&rows[0]["PrimaryKey"], &rows[1]["PrimaryKey"]), (&json!("1"), &json!(2)));

    set(Oddities { repeat_first_page: true, page_limit: 3, ..Oddities::default() });
    let first = api.rows("User").await;
    assert_eq!(first, api.rows("User?$skip=9").await);
    assert_eq!(first, api.rows("User?$filter=associateDbId > 20").await);

    set(Oddities { duplicate_rows: true, page_limit: 3, ..Oddities::default() });
    let second = api.rows("User?$skip=3").await;
    assert_eq!((second.len(), &second[0]), (4, api.rows("User").await.last().unwrap()));

    set(Oddities {
        missing_columns: vec!["userName".into()],
        wrong_types: vec!["assocName".into()],
        extra_column: true,
        list_columns_are_ids: true,
        no_next_link: true,
        page_limit: 2,
        ..Oddities::default()
    });
    let (_, page) = api.get("User").await;
    assert_eq!(page["odata.nextLink"], Value::Null);
    let row = &page["value"][1];
    assert_eq!((row.get("userName"), row["assocName"].is_object()), (None, true));
    assert_eq!((&row["assocType"], row["notAskedFor"].is_array()), (&json!(13), true));
}
