//! Tests of `AssociateService`.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use proptest::{prelude::*, test_runner::TestRunner};
use prost::Message as _;
use superoffice_sandbox::{
    ApiHost, Endpoint, Fault, FaultScope,
    people::{Associate, AssociateType, Oddities, People, Rewrite, RoleType},
};
use tenant_gateway::grpc::pb::{
    self, associate_service_client::AssociateServiceClient,
    impersonation_service_client::ImpersonationServiceClient, lookup_associate_request::Key,
};
use tonic::{Code, IntoRequest, Request, Status, transport::Channel};

use crate::support::{
    APPLICATION, CLIENT_ID, Options, World, assert_invalid, assert_status,
    callers::AuthenticatedGateway, name,
};

/// A budget that these tests never reach; the budget has its own tests.
const NO_BUDGET: &str = "calls_per_second = 10000\nburst = 10000";

/// A client that fills in this credential if a request has none.
#[derive(Clone)]
struct Client {
    inner: AssociateServiceClient<Channel>,
    credential: String,
}

macro_rules! calls {
    ($($method:ident: $request:ident -> $response:ident),+ $(,)?) => {
        impl Client {
            $(async fn $method(
                &mut self,
                request: impl IntoRequest<pb::$request>,
            ) -> Result<tonic::Response<pb::$response>, Status> {
                let mut request = request.into_request();
                let credential = &mut request.get_mut().credential;
                if credential.is_empty() {
                    credential.clone_from(&self.credential);
                }
                self.inner.$method(request).await
            })+
        }
    };
}

calls! {
    get_associate: GetAssociateRequest -> GetAssociateResponse,
    batch_get_associates: BatchGetAssociatesRequest -> BatchGetAssociatesResponse,
    list_associates: ListAssociatesRequest -> ListAssociatesResponse,
    lookup_associate: LookupAssociateRequest -> LookupAssociateResponse,
    get_current_principal: GetCurrentPrincipalRequest -> GetCurrentPrincipalResponse,
    list_user_groups: ListUserGroupsRequest -> ListUserGroupsResponse,
    list_roles: ListRolesRequest -> ListRolesResponse,
    resolve_owner: ResolveOwnerRequest -> ResolveOwnerResponse,
}

/// The context that reads: the system user, or a person.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Eyes {
    System,
    Person,
}

impl Eyes {
    async fn world(self, count: usize) -> (World, Client) {
        let (world, mut client) = world(count).await;
        if self == Self::Person {
            let grant = consented(&world).await;
            let (_, id) = grant.rsplit_once('/').unwrap();
            client.credential = format!("grants/{id}");
        }
        (world, client)
    }
}

/// Imports a grant of a person of Cust1. Returns the name of the grant.
async fn consented(world: &World) -> String {
    let signed_in = |id| world.sandbox.begin_grant(CLIENT_ID, "Cust1", id).ok();
    let refresh_token = (1..100).find_map(signed_in).expect("no user can sign in");
    let import =
        pb::ImportGrantRequest { tenant: name("Cust1"), refresh_token, ..Default::default() };
    let mut client = ImpersonationServiceClient::new(world.channel().await);
    client.import_grant(import).await.unwrap().into_inner().grant.unwrap().name
}

/// Runs each test as the system user and as a person. The other tests are about tickets or about cached data.
macro_rules! for_each_context {
    ($($promise:ident),+ $(,)?) => {
        mod as_the_system_user {
            $(#[tokio::test]
            async fn $promise() {
                super::$promise(super::Eyes::System).await;
            })+
        }
        mod as_a_person {
            $(#[tokio::test]
            async fn $promise() {
                super::$promise(super::Eyes::Person).await;
            })+
        }
    };
}

for_each_context! {
    every_user_is_returned_with_the_data_of_superoffice,
    changes_during_a_listing_affect_no_other_user,
    a_batch_keeps_the_order_and_names_missing_users,
    an_associate_is_found_by_user_name_email_or_person,
    groups_and_roles_are_listed_in_pages_including_deleted_ones,
    texts_come_in_the_callers_language,
    an_owner_is_an_associate_and_its_primary_group,
    a_sorted_list_has_every_user_once_in_order,
    cached_data_is_served_and_refreshed_in_the_background,
    a_new_user_is_found_without_reading_all_users_again,
    a_disabled_tenant_is_refused_although_its_data_is_cached,
    an_invalid_response_is_reported_and_not_cached,
    documented_oddities_do_not_change_the_result,
    a_tenant_that_has_moved_is_found_again,
}

/// Starts a gateway with one tenant that has this many users.
async fn world(count: usize) -> (World, Client) {
    world_with(count, "").await
}

async fn world_with(count: usize, extra_config: &str) -> (World, Client) {
    let options = Options {
        extra_application: NO_BUDGET.to_owned(),
        extra_config: extra_config.to_owned(),
        ..Default::default()
    };
    let world = World::with(options).await;
    world.enroll("Cust1").await;
    world.sandbox.generate_people("Cust1", count, 7).unwrap();
    let inner = AssociateServiceClient::new(world.channel().await);
    (world, Client { inner, credential: String::new() })
}

fn people(world: &World) -> std::sync::Arc<People> {
    world.sandbox.people("Cust1").unwrap()
}

fn associate_name(id: impl std::fmt::Display) -> String {
    format!("{}/associates/{id}", name("Cust1"))
}

fn get(id: u32) -> pb::GetAssociateRequest {
    pb::GetAssociateRequest { name: associate_name(id), ..Default::default() }
}

fn list() -> pb::ListAssociatesRequest {
    pb::ListAssociatesRequest { parent: name("Cust1"), ..Default::default() }
}

fn look_up(key: Key) -> pb::LookupAssociateRequest {
    pb::LookupAssociateRequest { parent: name("Cust1"), key: Some(key), ..Default::default() }
}

/// Returns a request with metadata.
fn with<T>(message: T, key: &'static str, value: &'static str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert(key, value.parse().unwrap());
    request
}

/// Returns the number of sandbox calls about people.
fn upstream_calls(world: &World) -> u64 {
    use Endpoint::{Archive, CurrentPrincipal, MdoList, RoleList, UserList};
    let endpoints = [UserList, RoleList, MdoList, Archive, CurrentPrincipal];
    endpoints.into_iter().map(|endpoint| world.sandbox.calls_for(endpoint, "Cust1")).sum()
}

async fn get_one(client: &mut Client, id: u32) -> Result<pb::Associate, Status> {
    Ok(client.get_associate(get(id)).await?.into_inner().associate.unwrap())
}

/// Returns all pages of a list.
async fn list_all(
    client: &mut Client,
    request: pb::ListAssociatesRequest,
) -> Result<Vec<pb::Associate>, Status> {
    let mut all = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = pb::ListAssociatesRequest { page_token, ..request.clone() };
        let mut request = Request::new(request);
        // A test build takes long to read and list fifty thousand users.
        request.set_timeout(Duration::from_mins(3));
        let page = client.list_associates(request).await?.into_inner();
        all.extend(page.associates);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(all);
        }
    }
}

fn kind_of(associate: &Associate) -> pb::AssociateType {
    match associate.kind {
        AssociateType::Internal => pb::AssociateType::Internal,
        AssociateType::Resource => pb::AssociateType::Resource,
        AssociateType::External => pb::AssociateType::External,
        AssociateType::Anonymous => pb::AssociateType::Anonymous,
        AssociateType::System => pb::AssociateType::System,
        AssociateType::Other(_) => pb::AssociateType::Unrecognized,
    }
}

/// Compares an associate with the data of the simulated SuperOffice.
fn assert_associate_equals(told: &pb::Associate, held: &Associate, people: &People) {
    let id = i32::try_from(held.id).unwrap();
    assert_eq!((told.associate_id, told.name.as_str()), (id, &*associate_name(id)));
    assert_eq!(
        (told.r#type(), told.type_code),
        (kind_of(held), held.kind.database_number()),
        "{id}"
    );
    assert_eq!((&*told.login, &*told.user_name), (&*held.name, &*held.user_name), "{id}");
    if let Some(person) = people.person_of(held) {
        let wanted = (person.full_name(), person.email.clone(), person.id, person.company_id);
        let number = |number: i32| u32::try_from(number).unwrap();
        let (person_id, company) = (number(told.person_id), number(told.contact_id));
        let got = (told.full_name.clone(), told.email.clone(), person_id, company);
        assert_eq!(got, wanted, "{id}");
    }
    let group = told.primary_group.as_ref().unwrap();
    assert_eq!(group.group_id, i32::try_from(held.group_id).unwrap(), "{id}");
    let others: BTreeSet<_> = told.other_groups.iter().map(|group| group.group_id).collect();
    let held_others = held.other_groups.iter().filter(|group| **group != held.group_id);
    let held_others: BTreeSet<_> = held_others.map(|id| i32::try_from(*id).unwrap()).collect();
    assert_eq!(others, held_others, "{id}");
    assert_eq!(told.active, !held.deleted, "{id}");
    let signs_in = held.kind == AssociateType::Internal && !held.deleted && held.can_login;
    assert_eq!((told.can_sign_in, told.sign_in_obstacles.is_empty()), (signs_in, signs_in), "{id}");
    let has_consented = !told.grant.is_empty();
    let impersonation = (told.can_be_impersonated, told.impersonation_obstacles.is_empty());
    assert_eq!(impersonation, (has_consented, has_consented));
    assert_eq!(told.capabilities.unwrap().sign_in, held.kind == AssociateType::Internal);
    assert!(told.read_time.is_some());
}

async fn every_user_is_returned_with_the_data_of_superoffice(eyes: Eyes) {
    let (world, mut client) = eyes.world(300).await;
    let people = people(&world);
    let all = list_all(&mut client, list()).await.unwrap();
    assert_eq!(all.len(), people.associates.len());
    for (told, held) in all.iter().zip(people.associates.values()) {
        assert_associate_equals(told, held, &people);
        assert_eq!(get_one(&mut client, held.id).await.unwrap(), *told);
    }
    let consented = all.iter().filter(|told| told.can_be_impersonated).count();
    assert_eq!(consented, usize::from(eyes == Eyes::Person));
    let odd = all.iter().filter(|told| !told.data_warnings.is_empty()).count();
    assert!(odd > 0, "no user has a data warning");
}

#[tokio::test]
async fn each_of_fifty_thousand_users_is_on_one_page_with_any_page_size() {
    let (world, mut client) = world(50_000).await;
    let held: Vec<i32> =
        people(&world).associates.keys().map(|id| i32::try_from(*id).unwrap()).collect();
    for page_size in [1000, 997, 333] {
        let request = pb::ListAssociatesRequest { page_size, ..list() };
        let all = list_all(&mut client, request).await.unwrap();
        let ids: Vec<_> = all.iter().map(|told| told.associate_id).collect();
        assert_eq!(ids, held, "pages of {page_size}");
    }
    // One read serves all lists: 50 pages of people, and groups and roles.
    assert!(upstream_calls(&world) <= 55, "{}", upstream_calls(&world));
    let in_memory = world.metric("associates_in_memory").await;
    assert_eq!(usize::try_from(in_memory).unwrap(), held.len());
}

async fn changes_during_a_listing_affect_no_other_user(eyes: Eyes) {
    let (mut world, mut client) = eyes.world(200).await;
    let before: BTreeSet<u32> = people(&world).associates.keys().copied().collect();
    let request = pb::ListAssociatesRequest { page_size: 10, ..list() };
    let (mut ids, mut page_token) = (Vec::new(), String::new());
    let mut gone = BTreeSet::new();
    for page in 0.. {
        let request = pb::ListAssociatesRequest { page_token, ..request.clone() };
        let request = with(request, "gateway-max-staleness", "0s");
        let answer = client.list_associates(request).await.unwrap().into_inner();
        ids.extend(answer.associates.iter().map(|told| u32::try_from(told.associate_id).unwrap()));
        page_token = answer.next_page_token;
        if page_token.is_empty() {
            break;
        }
        // One user is deleted and one is created, before and after the position of the list.
        let leaver = *before.iter().nth((page * 37) % before.len()).unwrap();
        if gone.insert(leaver) {
            world.sandbox.delete_associate("Cust1", leaver).unwrap();
        }
        let newcomer =
            Associate { id: 1_000_000 - u32::try_from(page).unwrap(), ..internal("new") };
        world.sandbox.add_associate("Cust1", &newcomer).unwrap();
        world.advance(Duration::from_secs(1));
    }
    let once: BTreeSet<u32> = ids.iter().copied().collect();
    assert_eq!(once.len(), ids.len(), "a user was listed twice");
    let stayed: BTreeSet<u32> = before.difference(&gone).copied().collect();
    assert!(stayed.is_subset(&once), "a user was left out");
}

fn internal(login: &str) -> Associate {
    Associate {
        name: login.to_owned(),
        user_name: format!("{login}@example.com"),
        group_id: 1,
        role_id: 1,
        can_login: true,
        ..Default::default()
    }
}

async fn a_batch_keeps_the_order_and_names_missing_users(eyes: Eyes) {
    let (world, mut client) = eyes.world(50).await;
    let ids: Vec<u32> = people(&world).associates.keys().copied().collect();
    let batch = |ids: &[u32]| pb::BatchGetAssociatesRequest {
        parent: name("Cust1"),
        names: ids.iter().map(associate_name).collect(),
        ..Default::default()
    };
    let asked = [ids[7], ids[3], ids[7], ids[0]];
    let got = client.batch_get_associates(batch(&asked)).await.unwrap().into_inner().associates;
    let got: Vec<_> = got.iter().map(|told| u32::try_from(told.associate_id).unwrap()).collect();
    assert_eq!(got, asked);

    let asked = [ids[0], 900_001, ids[1], 900_002];
    let status = client.batch_get_associates(batch(&asked)).await.unwrap_err();
    let details = assert_status(&status, Code::NotFound, "RESOURCE_NOT_FOUND");
    assert_eq!(details.error_info().unwrap().metadata["associate_ids"], "900001,900002");
    assert!(status.message().contains("900001, 900002"), "{}", status.message());

    let status = client.batch_get_associates(batch(&[1; 501])).await.unwrap_err();
    assert_invalid(&status, &["names"]);
    let status = client.batch_get_associates(batch(&[])).await.unwrap_err();
    assert_invalid(&status, &["names"]);
    let mut foreign = batch(&[ids[0]]);
    foreign.names.push(format!("{}/associates/1", name("Cust2")));
    foreign.names.push("associates/1".to_owned());
    let status = client.batch_get_associates(foreign).await.unwrap_err();
    assert_invalid(&status, &["names[1]", "names[2]"]);

    // With a wildcard parent, names may have the real application or the wildcard.
    let open = "applications/-/tenants/Cust1";
    let mut open_batch = batch(&[ids[0]]);
    open_batch.parent = open.to_owned();
    open_batch.names.push(format!("{open}/associates/{}", ids[1]));
    let got = client.batch_get_associates(open_batch.clone()).await.unwrap().into_inner();
    assert_eq!(got.associates[1].name, associate_name(ids[1]));
    open_batch.names.push(format!("applications/other/tenants/Cust1/associates/{}", ids[0]));
    let status = client.batch_get_associates(open_batch).await.unwrap_err();
    assert_invalid(&status, &["names[2]"]);

    // Errors of full batches stay within the size limit of clients.
    let absent: Vec<u32> = (900_000..900_500).collect();
    let status = client.batch_get_associates(batch(&absent)).await.unwrap_err();
    let details = assert_status(&status, Code::NotFound, "RESOURCE_NOT_FOUND");
    let told = &details.error_info().unwrap().metadata["associate_ids"];
    assert_eq!(told.split(',').count(), 500);
    assert!(status.message().contains("and 490 more") && status.details().len() < 6000);
    let mut wrong = batch(&absent);
    wrong.names.iter_mut().for_each(|name| name.push('x'));
    let status = client.batch_get_associates(wrong).await.unwrap_err();
    assert_status(&status, Code::InvalidArgument, "INVALID_ARGUMENT");
    assert!(status.message().contains("more") && status.details().len() < 6000);
}

async fn an_associate_is_found_by_user_name_email_or_person(eyes: Eyes) {
    let (world, mut client) = eyes.world(100).await;
    let people = people(&world);
    let held = people.associates.values().find(|one| !one.user_name.is_empty()).unwrap();
    let found = client.lookup_associate(look_up(Key::UserName(held.user_name.to_uppercase())));
    let told = found.await.unwrap().into_inner().associate.unwrap();
    assert_associate_equals(&told, held, &people);

    // Looks up unique values, and values that several users share.
    let mut by_email: BTreeMap<String, Vec<&Associate>> = BTreeMap::new();
    let mut by_person: BTreeMap<u32, Vec<&Associate>> = BTreeMap::new();
    for one in people.associates.values() {
        if let Some(person) = people.person_of(one) {
            by_person.entry(person.id).or_default().push(one);
            if !person.email.is_empty() {
                by_email.entry(person.email.to_lowercase()).or_default().push(one);
            }
        }
    }
    for (email, holders) in by_email {
        let found = client.lookup_associate(look_up(Key::Email(email))).await;
        assert_found(found, &holders);
    }
    for (person, holders) in by_person {
        let person = i32::try_from(person).unwrap();
        let found = client.lookup_associate(look_up(Key::PersonId(person))).await;
        assert_found(found, &holders);
    }
    let nobody = client.lookup_associate(look_up(Key::Email("nobody@example.com".to_owned())));
    assert_status(&nobody.await.unwrap_err(), Code::NotFound, "RESOURCE_NOT_FOUND");
    for (key, field) in [
        (None, "key"),
        (Some(Key::UserName(String::new())), "user_name"),
        (Some(Key::Email("a\nb".to_owned())), "email"),
        (Some(Key::Email("a".repeat(321))), "email"),
        (Some(Key::PersonId(0)), "person_id"),
        (Some(Key::PersonId(-5)), "person_id"),
    ] {
        let request =
            pb::LookupAssociateRequest { parent: name("Cust1"), key, ..Default::default() };
        assert_invalid(&client.lookup_associate(request).await.unwrap_err(), &[field]);
    }
}

fn assert_found(
    found: Result<tonic::Response<pb::LookupAssociateResponse>, Status>,
    holders: &[&Associate],
) {
    match (found, holders) {
        (Ok(found), [held]) => {
            let told = found.into_inner().associate.unwrap();
            assert_eq!(told.associate_id, i32::try_from(held.id).unwrap());
        }
        (Err(status), [_, _, ..]) => {
            assert_status(&status, Code::FailedPrecondition, "ASSOCIATE_AMBIGUOUS");
        }
        (found, holders) => panic!("{holders:?}: {found:?}"),
    }
}

async fn groups_and_roles_are_listed_in_pages_including_deleted_ones(eyes: Eyes) {
    let (world, mut client) = eyes.world(20).await;
    let people = people(&world);
    let mut groups = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = pb::ListUserGroupsRequest {
            parent: name("Cust1"),
            page_size: 3,
            page_token,
            ..Default::default()
        };
        let page = client.list_user_groups(request).await.unwrap().into_inner();
        assert!(page.user_groups.len() <= 3);
        groups.extend(page.user_groups);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let told: Vec<_> = groups
        .iter()
        .map(|group| (u32::try_from(group.group_id).unwrap(), group.rank, group.deleted))
        .collect();
    let held: Vec<_> =
        people.groups.values().map(|group| (group.id, group.rank, group.deleted)).collect();
    assert_eq!(told, held);

    let request = pb::ListRolesRequest { parent: name("Cust1"), ..Default::default() };
    let roles = client.list_roles(request).await.unwrap().into_inner().roles;
    let told: Vec<_> = roles
        .iter()
        .map(|role| (u32::try_from(role.role_id).unwrap(), role.role_type(), role.deleted))
        .collect();
    let role_type = |kind| match kind {
        RoleType::Employee => pb::RoleType::Employee,
        RoleType::ExternalUser => pb::RoleType::External,
        RoleType::Anonymous => pb::RoleType::Anonymous,
        RoleType::System => pb::RoleType::System,
    };
    let held: Vec<_> =
        people.roles.values().map(|role| (role.id, role_type(role.kind), role.deleted)).collect();
    assert_eq!(told, held);
    assert!(roles.iter().any(|role| role.user_level == Some(0)), "{roles:?}");
}

async fn texts_come_in_the_callers_language(eyes: Eyes) {
    let (world, mut client) = eyes.world(20).await;
    world
        .sandbox
        .change_people("Cust1", |people| {
            people.groups.get_mut(&1).unwrap().name = "NO:\"Salg\";US:\"Sales\"".to_owned();
            Ok(())
        })
        .unwrap();
    let request = || pb::ListUserGroupsRequest { parent: name("Cust1"), ..Default::default() };
    for (languages, wanted) in [
        ("nb-NO,en;q=0.5", "Salg"),
        ("en", "Sales"),
        ("fr", "Sales"),
        ("*", "NO:\"Salg\";US:\"Sales\""),
        ("\u{7f}", "Sales"),
    ] {
        let Ok(value) = languages.parse() else { continue };
        let mut request = Request::new(request());
        request.metadata_mut().insert("accept-language", value);
        let groups = client.list_user_groups(request).await.unwrap().into_inner().user_groups;
        assert_eq!(groups[0].display_name, wanted, "{languages}");
    }
    let groups = client.list_user_groups(request()).await.unwrap().into_inner().user_groups;
    assert_eq!(groups[0].display_name, "Sales");
}

#[tokio::test]
async fn the_principal_of_the_system_user_has_its_rights() {
    let (_world, mut client) = world(20).await;
    for credential in ["", "system"] {
        let request = pb::GetCurrentPrincipalRequest {
            tenant: name("Cust1"),
            credential: credential.to_owned(),
        };
        let principal = client.get_current_principal(request).await.unwrap().into_inner().principal;
        let principal = principal.unwrap();
        assert_eq!(principal.r#type(), pb::AssociateType::System);
        assert_eq!(principal.tenant, name("Cust1"));
        assert_eq!(principal.role_type(), pb::RoleType::System);
        assert!(!principal.function_rights.is_empty() && !principal.licenses.is_empty());
    }
}

async fn an_owner_is_an_associate_and_its_primary_group(eyes: Eyes) {
    let (world, mut client) = eyes.world(100).await;
    for held in people(&world).associates.values() {
        let request =
            pb::ResolveOwnerRequest { associate: associate_name(held.id), ..Default::default() };
        let owner = client.resolve_owner(request).await.map(tonic::Response::into_inner);
        let id = i32::try_from(held.id).unwrap();
        let group = i32::try_from(held.group_id).unwrap();
        match held.kind {
            AssociateType::Other(_) => {
                let status = owner.unwrap_err();
                assert_status(&status, Code::Unavailable, "UPSTREAM_INVALID_RESPONSE");
            }
            AssociateType::Internal | AssociateType::Resource if group == 0 => {
                let status = owner.unwrap_err();
                assert_status(&status, Code::Unavailable, "UPSTREAM_INVALID_RESPONSE");
            }
            AssociateType::Internal => {
                let owner = owner.unwrap();
                assert_eq!((owner.associate_id, owner.group_id), (id, group));
            }
            AssociateType::Resource => {
                assert_eq!(owner.unwrap().associate_id, id);
            }
            _ => {
                let owner = owner.unwrap();
                assert_eq!((owner.associate_id, owner.group_id), (id, 0), "in no group");
            }
        }
    }
}

#[tokio::test]
async fn a_person_without_consent_is_refused_and_not_replaced_by_the_system_user() {
    let (_world, mut client) = world(10).await;
    for (credential, code, reason) in [
        ("associates/5", Code::FailedPrecondition, "CONSENT_REQUIRED"),
        ("grants/abc", Code::NotFound, "RESOURCE_NOT_FOUND"),
    ] {
        let request = pb::GetAssociateRequest { credential: credential.to_owned(), ..get(1) };
        let status = client.get_associate(request).await.unwrap_err();
        assert_status(&status, code, reason);
    }
    for credential in ["System", "associates/0", "grants/", "grants/-", "associates/5\r\n", "me"] {
        let request = pb::GetAssociateRequest { credential: credential.to_owned(), ..get(1) };
        assert_invalid(&client.get_associate(request).await.unwrap_err(), &["credential"]);
    }
}

#[tokio::test]
async fn an_invalid_list_request_is_refused_with_every_invalid_field() {
    let (world, mut client) = world(10).await;
    let before = upstream_calls(&world);
    let wrong = |change: fn(&mut pb::ListAssociatesRequest)| {
        let mut request = list();
        change(&mut request);
        request
    };
    for (request, fields) in [
        (wrong(|list| list.parent = "applications/-".to_owned()), &["parent"][..]),
        (wrong(|list| list.page_size = -1), &["page_size"]),
        (wrong(|list| list.page_token = "x".repeat(5000)), &["page_token"]),
        (wrong(|list| list.filter = "password = \"x\"".to_owned()), &["filter"]),
        (wrong(|list| list.filter = "type = 5".to_owned()), &["filter"]),
        (wrong(|list| list.filter = "active = maybe".to_owned()), &["filter"]),
        (wrong(|list| list.filter = "person_id : \"a\"".to_owned()), &["filter"]),
        (wrong(|list| list.filter = "login = \"a\u{0}b\"".to_owned()), &["filter"]),
        (wrong(|list| list.filter = "login = 'a".to_owned()), &["filter"]),
        (wrong(|list| list.order_by = "rank".to_owned()), &["order_by"]),
        (wrong(|list| list.order_by = "login up".to_owned()), &["order_by"]),
        (
            wrong(|list| {
                list.page_size = -5;
                list.filter = "(".to_owned();
                list.order_by = ",".to_owned();
                list.credential = "root".to_owned();
            }),
            &["page_size", "filter", "order_by", "credential"],
        ),
    ] {
        let status = client.list_associates(request).await.unwrap_err();
        assert_invalid(&status, fields);
    }
    assert_eq!(upstream_calls(&world), before, "SuperOffice was asked");
    let huge = pb::ListAssociatesRequest { page_size: i32::MAX, ..list() };
    assert_eq!(client.list_associates(huge).await.unwrap().into_inner().associates.len(), 10);
}

#[tokio::test]
async fn a_page_token_is_valid_for_its_own_list_only() {
    let (mut world, mut client) = world(60).await;
    let by_name = || pb::ListAssociatesRequest { order_by: "full_name".to_owned(), ..list() };
    let first = client.list_associates(by_name()).await.unwrap().into_inner();
    let page_token = first.next_page_token;
    let with_token = |request: pb::ListAssociatesRequest| pb::ListAssociatesRequest {
        page_token: page_token.clone(),
        ..request
    };
    for other in [
        list(),
        pb::ListAssociatesRequest { filter: "active = true".to_owned(), ..by_name() },
        pb::ListAssociatesRequest { order_by: "full_name desc".to_owned(), ..list() },
        pb::ListAssociatesRequest { credential: "system".to_owned(), ..by_name() },
    ] {
        let status = client.list_associates(with_token(other)).await.unwrap_err();
        assert_invalid(&status, &["page_token"]);
    }
    let mut altered = page_token.clone().into_bytes();
    altered[10] = if altered[10] == b'A' { b'B' } else { b'A' };
    let page_token = String::from_utf8(altered).unwrap();
    let status = client.list_associates(pb::ListAssociatesRequest { page_token, ..by_name() });
    assert_invalid(&status.await.unwrap_err(), &["page_token"]);
    client.list_associates(with_token(by_name())).await.unwrap();

    // The snapshot of a list survives one newer read, but not two.
    for reading in 0..2 {
        world.advance(Duration::from_secs(1));
        let fresh = with(get(1), "gateway-max-staleness", "0s");
        client.get_associate(fresh).await.unwrap();
        let page = client.list_associates(with_token(by_name())).await;
        if reading == 0 {
            page.unwrap();
        } else {
            let status = page.unwrap_err();
            assert_invalid(&status, &["page_token"]);
            assert!(status.message().contains("begin the list again"), "{}", status.message());
        }
    }
}

/// Filters that a caller may write, with their meaning.
fn filters() -> impl Strategy<Value = (String, fn(&pb::Associate, &str) -> bool, String)> {
    type Meaning = fn(&pb::Associate, &str) -> bool;
    let has_group = |told: &pb::Associate, wanted: &str| {
        let primary = told.primary_group.iter().filter(|group| group.group_id != 0);
        let mut groups = primary.chain(&told.other_groups);
        groups.any(|group| group.group_id.to_string() == wanted || group.display_name == wanted)
    };
    let forms: [(&str, Meaning); 7] = [
        ("active = {}", |told, wanted| told.active.to_string() == wanted),
        ("type = {}", |told, wanted| told.r#type().as_str_name().ends_with(&format!("_{wanted}"))),
        ("group : \"{}\"", has_group),
        ("NOT login = \"{}\"", |told, wanted| told.login != wanted),
        ("login = \"{}*\"", |told, wanted| told.login.starts_with(wanted)),
        ("person_id > {}", |told, wanted| told.person_id > wanted.parse().unwrap()),
        ("person_id <= {}", |told, wanted| told.person_id <= wanted.parse().unwrap()),
    ];
    (0..forms.len(), 0_u32..60).prop_map(move |(form, seed)| {
        let (text, meaning) = forms[form];
        let value = match form {
            0 => (seed % 2 == 0).to_string(),
            1 => ["INTERNAL", "RESOURCE", "EXTERNAL", "ANONYMOUS", "SYSTEM"][seed as usize % 5]
                .to_owned(),
            2 => (seed % 9).to_string(),
            3 | 4 => ["A", "B", "M", "AN", "KL", "ZZ"][seed as usize % 6].to_owned(),
            _ => seed.to_string(),
        };
        (text.replace("{}", &value), meaning, value)
    })
}

#[test]
fn a_filter_returns_exactly_the_matching_users() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (_world, mut client) = runtime.block_on(world(400));
    let all = runtime.block_on(list_all(&mut client, list())).unwrap();
    let client = std::cell::RefCell::new(client);
    let mut runner = TestRunner::new(ProptestConfig::with_cases(120));
    let any = (filters(), filters(), any::<bool>());
    runner
        .run(&any, |((left, left_means, left_value), (right, right_means, right_value), both)| {
            let filter = format!("({left}) {} ({right})", if both { "AND" } else { "OR" });
            let request =
                pb::ListAssociatesRequest { filter: filter.clone(), page_size: 100, ..list() };
            let found = runtime.block_on(list_all(&mut client.borrow_mut(), request)).unwrap();
            let wanted = all.iter().filter(|told| {
                let (left, right) =
                    (left_means(told, &left_value), right_means(told, &right_value));
                if both { left && right } else { left || right }
            });
            let wanted: Vec<_> = wanted.map(|told| told.associate_id).collect();
            let found: Vec<_> = found.iter().map(|told| told.associate_id).collect();
            prop_assert_eq!(found, wanted, "{}", filter);
            Ok(())
        })
        .unwrap();
}

async fn a_sorted_list_has_every_user_once_in_order(eyes: Eyes) {
    let (_world, mut client) = eyes.world(500).await;
    for order_by in ["full_name", "login desc", "type, full_name desc", "active desc, person_id"] {
        let request =
            pb::ListAssociatesRequest { order_by: order_by.to_owned(), page_size: 37, ..list() };
        let all = list_all(&mut client, request).await.unwrap();
        let ids: BTreeSet<_> = all.iter().map(|told| told.associate_id).collect();
        assert_eq!((ids.len(), all.len()), (500, 500), "{order_by}");
        let key = |told: &pb::Associate| match order_by {
            "full_name" => told.full_name.to_lowercase(),
            "active desc, person_id" => format!("{} {:010}", !told.active, told.person_id),
            _ => String::new(),
        };
        assert!(all.is_sorted_by_key(key), "{order_by}");
    }
    let logins = pb::ListAssociatesRequest { order_by: "login desc".to_owned(), ..list() };
    let all = list_all(&mut client, logins).await.unwrap();
    assert!(all.is_sorted_by(|a, b| a.login.to_lowercase() >= b.login.to_lowercase()));
}

async fn cached_data_is_served_and_refreshed_in_the_background(eyes: Eyes) {
    let (mut world, mut client) = eyes.world(30).await;
    get_one(&mut client, 1).await.unwrap();
    let read = upstream_calls(&world);
    for _ in 0..20 {
        get_one(&mut client, 2).await.unwrap();
    }
    assert_eq!(upstream_calls(&world), read);
    world.sandbox.change_associate("Cust1", 1, |one| one.name = "RENAMED".to_owned()).unwrap();
    assert_ne!(get_one(&mut client, 1).await.unwrap().login, "RENAMED");
    let fresh = with(get(1), "gateway-max-staleness", "0s");
    world.advance(Duration::from_secs(1));
    let told = client.get_associate(fresh).await.unwrap().into_inner().associate.unwrap();
    assert_eq!(told.login, "RENAMED");

    world.sandbox.change_associate("Cust1", 1, |one| one.name = "AGAIN".to_owned()).unwrap();
    world.advance(Duration::from_mins(14));
    get_one(&mut client, 1).await.unwrap();
    crate::support::eventually_so("it is renewed in the background", async || {
        get_one(&mut client.clone(), 1).await.unwrap().login == "AGAIN"
    })
    .await;
}

async fn a_new_user_is_found_without_reading_all_users_again(eyes: Eyes) {
    let (mut world, mut client) = eyes.world(30).await;
    get_one(&mut client, 1).await.unwrap();
    let newcomer = Associate { id: 777_777, ..internal("NEW") };
    world.sandbox.add_associate("Cust1", &newcomer).unwrap();
    assert_status(
        &get_one(&mut client, 777_777).await.unwrap_err(),
        Code::NotFound,
        "RESOURCE_NOT_FOUND",
    );
    world.advance(Duration::from_secs(61));
    let before = upstream_calls(&world);
    assert_eq!(get_one(&mut client, 777_777).await.unwrap().login, "NEW");
    assert_eq!(upstream_calls(&world), before + 1);
    let before = upstream_calls(&world);
    // The new user shows that the cached data is outdated.
    assert_eq!(get_one(&mut client, 777_777).await.unwrap().login, "NEW");
    assert!(upstream_calls(&world) > before);
    let before = upstream_calls(&world);
    for _ in 0..10 {
        let status = get_one(&mut client, 888_888).await.unwrap_err();
        assert_status(&status, Code::NotFound, "RESOURCE_NOT_FOUND");
    }
    assert_eq!(upstream_calls(&world), before, "the data is fresh, so an unknown id needs no call");
}

async fn a_disabled_tenant_is_refused_although_its_data_is_cached(eyes: Eyes) {
    let (world, mut client) = eyes.world(10).await;
    get_one(&mut client, 1).await.unwrap();
    let disable = pb::DisableTenantRequest { name: name("Cust1"), reason: "incident".to_owned() };
    world.tenants().await.disable_tenant(disable).await.unwrap();
    let status = get_one(&mut client, 1).await.unwrap_err();
    assert_status(&status, Code::FailedPrecondition, "TENANT_DISABLED");
}

async fn an_invalid_response_is_reported_and_not_cached(eyes: Eyes) {
    let (mut world, mut client) = eyes.world(1500).await;
    let odd = |change: fn(&mut Oddities)| {
        let mut oddities = Oddities::default();
        change(&mut oddities);
        oddities
    };
    for (oddities, what) in [
        (odd(|odd| odd.repeat_first_page = true), "a page that repeats itself for ever"),
        (odd(|odd| odd.duplicate_rows = true), "pages that overlap"),
    ] {
        world.sandbox.set_oddities("Cust1", oddities).unwrap();
        let status = get_one(&mut client, 1).await.unwrap_err();
        let details = assert_status(&status, Code::Unavailable, "UPSTREAM_INVALID_RESPONSE");
        assert!(details.retry_info().is_some(), "{what}");
        // The gateway waits before it tries again.
        world.advance(Duration::from_mins(5));
    }
    for fault in [Fault::Html, Fault::Truncate, Fault::Huge { mebibytes: 10 }] {
        world.sandbox.set_oddities("Cust1", Oddities::default()).unwrap();
        world.sandbox.inject(Endpoint::UserList, fault, FaultScope::default()).unwrap();
        get_one(&mut client, 1).await.unwrap_err();
        world.sandbox.clear_faults();
        world.advance(Duration::from_mins(5));
    }
    // No invalid data was cached.
    assert_eq!(world.metric("associates_in_memory").await, 0);
    get_one(&mut client, 1).await.unwrap();
}

async fn documented_oddities_do_not_change_the_result(eyes: Eyes) {
    let (mut world, mut client) = eyes.world(1200).await;
    let plain = list_all(&mut client, list()).await.unwrap();
    let odd = |change: fn(&mut Oddities)| {
        let mut oddities = Oddities::default();
        change(&mut oddities);
        oddities
    };
    for oddities in [
        odd(|odd| odd.primary_key = superoffice_sandbox::people::PrimaryKeyForm::Mixed),
        odd(|odd| odd.list_columns_are_ids = true),
        odd(|odd| odd.no_next_link = true),
        odd(|odd| odd.extra_column = true),
        odd(|odd| odd.page_limit = 100),
        // The row's primary key also contains the id.
        odd(|odd| odd.missing_columns = vec!["associateDbId".to_owned()]),
    ] {
        world.sandbox.set_oddities("Cust1", oddities.clone()).unwrap();
        world.advance(Duration::from_secs(1));
        let fresh = with(get(1), "gateway-max-staleness", "0s");
        client.get_associate(fresh).await.unwrap();
        let all = list_all(&mut client, list()).await.unwrap();
        let same = |a: &pb::Associate, b: &pb::Associate| {
            let read_time = None;
            let (a, b) = (a.clone(), b.clone());
            pb::Associate { read_time, ..a } == pb::Associate { read_time, ..b }
        };
        assert_eq!(all.len(), plain.len(), "{oddities:?}");
        assert!(all.iter().zip(&plain).all(|(a, b)| same(a, b)), "{oddities:?}");
    }
}

async fn a_tenant_that_has_moved_is_found_again(eyes: Eyes) {
    let (mut world, mut client) = eyes.world(10).await;
    get_one(&mut client, 1).await.unwrap();
    world.sandbox.move_tenant("Cust1", ApiHost::B).unwrap();
    world.advance(Duration::from_secs(1));
    let fresh = with(get(1), "gateway-max-staleness", "0s");
    client.get_associate(fresh).await.unwrap();
}

#[tokio::test]
async fn an_expired_ticket_is_replaced_without_an_error_for_callers() {
    let (mut world, mut client) = world(10).await;
    get_one(&mut client, 1).await.unwrap();
    let before = world.exchanges();
    world.sandbox.expire_tickets(None);
    world.advance(Duration::from_secs(1));
    let fresh = with(get(1), "gateway-max-staleness", "0s");
    client.get_associate(fresh).await.unwrap();
    assert_eq!(world.exchanges(), before + 1);
}

/// The calls a second that SuperOffice allows here, and the burst.
const RATE: u32 = 100;
const BURST: u32 = 20;

const EVERYBODY: &str = r#"permit (principal, action == Action::"readAssociates", resource); permit (principal == Caller::"ada", action, resource);"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_greedy_caller_delays_another_by_its_fair_share_only_and_the_limit_holds() {
    let extra_application = format!("calls_per_second = {RATE}\nburst = {BURST}");
    let options = Options { extra_application, ..Default::default() };
    let mut guarded = AuthenticatedGateway::with(EVERYBODY, options).await;
    let token = guarded.world.make_tenant("Cust1");
    let create = pb::CreateTenantRequest {
        parent: format!("applications/{APPLICATION}"),
        tenant_id: "Cust1".to_owned(),
        tenant: None,
    };
    guarded.call("ada", "TenantService/CreateTenant", create.encode_to_vec()).await.unwrap();
    let set = pb::SetSystemUserTokenRequest { name: name("Cust1"), system_user_token: token };
    guarded.call("ada", "TenantService/SetSystemUserToken", set.encode_to_vec()).await.unwrap();
    guarded.call("ada", "AssociateService/GetAssociate", get(1).encode_to_vec()).await.unwrap();
    // From now on each unknown id needs its own call.
    guarded.world.advance(Duration::from_secs(61));
    let guarded = std::sync::Arc::new(guarded);
    let ask = |caller: &'static str, id: u32| {
        let guarded = std::sync::Arc::clone(&guarded);
        async move {
            let begun = std::time::Instant::now();
            let message = get(id).encode_to_vec();
            let end = guarded.call(caller, "AssociateService/GetAssociate", message).await;
            assert_status(&end.unwrap_err(), Code::NotFound, "RESOURCE_NOT_FOUND");
            begun.elapsed()
        }
    };
    let begun = std::time::Instant::now();
    let mut greedy = tokio::task::JoinSet::new();
    for number in 0..1000 {
        greedy.spawn(ask("greedy", 500_000 + number));
    }
    crate::support::eventually_so("the greedy caller waits", async || {
        guarded.world.metric("web_api_waiting").await > 500
    })
    .await;
    let modest = ask("modest", 600_000).await;
    greedy.join_all().await;
    let greedy = begun.elapsed();
    assert!(modest * 5 < greedy, "modest waited {modest:?} while greedy took {greedy:?}");
    let seconds = greedy.as_secs_f64();
    assert!(1001.0 <= f64::from(BURST) + f64::from(RATE) * seconds, "1001 calls in {seconds} s");
    // Calls are sent evenly, but may arrive together on a busy machine.
    let most = guarded.world.sandbox.call_rate("Cust1").max_per_second;
    assert!(most <= (RATE + BURST) as usize * 3 / 2, "{most} calls within a second");
}

#[tokio::test]
async fn a_call_that_cannot_meet_its_deadline_is_refused_at_once_with_retry_info() {
    let extra_application = "calls_per_second = 1\nburst = 4".to_owned();
    let mut world = World::with(Options { extra_application, ..Default::default() }).await;
    world.enroll("Cust1").await;
    let inner = AssociateServiceClient::new(world.channel().await);
    let mut client = Client { inner, credential: String::new() };
    get_one(&mut client, 1).await.unwrap();
    world.advance(Duration::from_secs(61));
    let mut refused = None;
    for id in 500_000..500_020 {
        let mut request = Request::new(get(id));
        // Requests that keep waiting end with DEADLINE_EXCEEDED.
        request.set_timeout(Duration::from_millis(700));
        let status = client.get_associate(request).await.unwrap_err();
        if status.code() == Code::ResourceExhausted {
            refused = Some(status);
            break;
        }
    }
    let status = refused.expect("nothing was refused");
    let details = assert_status(&status, Code::ResourceExhausted, "UPSTREAM_BUDGET_EXHAUSTED");
    assert!(details.quota_failure().is_some());
    let wait = details.retry_info().unwrap().retry_delay.unwrap();
    assert!(wait > Duration::ZERO && wait <= Duration::from_secs(2), "{wait:?}");
}

#[tokio::test]
async fn an_unreadable_row_affects_no_other_row_and_is_counted_and_logged() {
    let (mut world, mut client) = world(30).await;
    let plain = list_all(&mut client, list()).await.unwrap();
    let groups = |answer: pb::ListUserGroupsResponse| answer.user_groups;
    let list_groups = || pb::ListUserGroupsRequest { parent: name("Cust1"), ..Default::default() };
    let all_groups = groups(client.list_user_groups(list_groups()).await.unwrap().into_inner());
    // Looks for a name without JSON escapes that only one user has.
    let is_plain =
        |name: &str| name.len() > 3 && name.bytes().all(|b| b.is_ascii_alphabetic() || b == b' ');
    let count = |name: &str| plain.iter().filter(|one| one.full_name == name).count();
    let cut = plain.iter().find(|one| is_plain(&one.full_name) && count(&one.full_name) == 1);
    let cut = cut.unwrap();
    let (user, role, list_path) =
        ("api/v1/User", "api/v1/Role", "api/v1/MDOList/usergroupwithhistoryall");
    let rewrite = |path: &str, from: &str, to: &str| Rewrite {
        path: path.to_owned(),
        from: from.to_owned(),
        to: to.to_owned(),
    };
    let quoted = |end: &str| format!("\"{}{end}\"", cut.full_name);
    let nobody = r#""value":[{"EntityName":"associate","Column":{"fullName":{"RawValue":"x"}}},"#;
    let zero = r#""value":[{"PrimaryKey":0,"Column":{"roleId":{"RawValue":0},"name":{"RawValue":"Odd"}}},"#;
    let number = r#"[{"Id":900,"Name":42,"Deleted":false,"Rank":1},{"#;
    // For each kind of row: the number of rows left out, and of rows read in part.
    for (odd, left_out, in_part) in [
        (rewrite(role, r#""value":["#, zero), 1, 0),
        (rewrite(list_path, "[{", number), 0, 1),
        (rewrite(user, &quoted(""), &quoted("\\ud83d")), 0, 1),
        (rewrite(user, r#""value":["#, nobody), 1, 0),
    ] {
        let oddities = Oddities { rewrites: vec![odd.clone()], ..Oddities::default() };
        world.sandbox.set_oddities("Cust1", oddities).unwrap();
        let before = odd_rows(&world).await;
        world.advance(Duration::from_secs(1));
        client.get_associate(with(get(1), "gateway-max-staleness", "0s")).await.unwrap();
        let all = list_all(&mut client, list()).await.unwrap();
        assert_eq!(all.len(), plain.len(), "{odd:?}");
        for (told, before) in all.iter().zip(&plain) {
            let mut told = pb::Associate { read_time: before.read_time, ..told.clone() };
            if odd.path == user && in_part == 1 && told.name == cut.name {
                let warning = told.data_warnings.iter().find(|text| text.starts_with("fullName"));
                assert!(warning.is_some(), "{:?}", told.data_warnings);
                assert_eq!(told.full_name, format!("{}\u{fffd}", cut.full_name));
                told.data_warnings.clone_from(&before.data_warnings);
                told.full_name.clone_from(&before.full_name);
            }
            assert_eq!(told, *before, "{odd:?}");
        }
        let (out, part) = odd_rows(&world).await;
        assert_eq!((out - before.0, part - before.1), (left_out, in_part), "{odd:?}");
        let told = groups(client.list_user_groups(list_groups()).await.unwrap().into_inner());
        let (known, odd_group): (Vec<_>, Vec<_>) =
            told.into_iter().partition(|group| group.group_id != 900);
        assert_eq!(known, all_groups);
        if let [group] = &odd_group[..] {
            assert_eq!((group.display_name.as_str(), group.data_warnings.len()), ("42", 1));
        }
    }
}

/// Returns the number of rows left out and of rows read in part so far.
async fn odd_rows(world: &World) -> (i64, i64) {
    let left_out = world.metric("people_rows_left_out_total").await;
    (left_out, world.metric("people_rows_in_part_total").await)
}
