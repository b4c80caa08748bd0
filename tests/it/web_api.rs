//! Tests of the Web API client over real HTTP without the gateway: the right credential, the meaning of responses, and
//! reads of people.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use http::{HeaderMap, Method};
use secrecy::SecretString;
use superoffice_sandbox::{ApiHost, Endpoint, Fault, FaultBody, FaultScope};
use tenant_gateway::{
    crypto::{SigningKey, SystemRandom},
    domain::{AllowedApiHosts, AssociateId, ContextIdentifier, Principal, WebApiUri},
    outbound::{Network, NetworkOptions},
    ports::{
        ApiBody, ApiCredential, ApiQuery, ApiRequest, ApiResponse, AssociateQueries as _,
        CallOutcome, SendError, SystemClock, SystemUserLogin as _, TenantStatusSource as _,
        WebApiHost as _,
    },
    superoffice::{
        Client, ClientOptions, Credentials, LoginHost, PeopleRequests, Registration, SuperOffice,
    },
};

use crate::support::{CLIENT_ID, CLIENT_SECRET, Options, PRIVATE_KEY, World};

/// One application in one tenant, with a ticket.
struct Eyes {
    world: World,
    superoffice: SuperOffice,
    uri: WebApiUri,
    system_user: ApiCredential,
}

fn tenant() -> ContextIdentifier {
    "Cust1".parse().unwrap()
}

/// Returns a client of the usual application, which has these secrets.
pub(crate) fn speaks_for(world: &World, secret: &str, next: Option<&str>) -> SuperOffice {
    let (clock, random) = (Arc::new(SystemClock), Arc::new(SystemRandom));
    let options = ClientOptions { timeout: Duration::from_secs(5), allow_loopback: true };
    let network = Network::new(NetworkOptions::default()).unwrap();
    let client = Client::new(&network, options);
    let uri = world.sandbox.login_uri();
    let registration = Registration { client_id: CLIENT_ID.to_owned(), issuer: uri.clone() };
    let login = LoginHost::new(client.clone(), uri, 8, clock.clone(), random.clone());
    let key = SigningKey::parse(&PRIVATE_KEY.into()).unwrap();
    let credentials = Credentials::new(secret.into(), next.map(Into::into), Arc::new(key), None);
    let allowed = AllowedApiHosts::new(vec!["127.0.0.1".to_owned()]).unwrap();
    SuperOffice::new(client, Arc::new(login), credentials, registration, allowed, clock, random)
}

async fn eyes() -> Eyes {
    let world = World::with_files(Options::default()).await;
    let token: SecretString = world.make_tenant("Cust1").into();
    let superoffice = speaks_for(&world, CLIENT_SECRET, None);
    let ticket = superoffice.authenticate(tenant(), &token).await.unwrap().value;
    let uri = superoffice.read(tenant()).await.unwrap().web_api_uri.unwrap();
    Eyes { world, superoffice, uri, system_user: ApiCredential::SystemUser { ticket } }
}

impl Eyes {
    async fn send(&self, request: ApiRequest) -> Result<ApiResponse, SendError> {
        self.superoffice.send(&self.uri, &self.system_user, request).await
    }

    async fn ask<T>(&self, call: &ApiQuery<T>) -> T {
        let response = self.send(call.request()).await.unwrap();
        assert_eq!(response.status, 200, "{call:?}");
        let body: Vec<Bytes> = response.body.try_collect().await.unwrap();
        call.read(&body.concat()).unwrap()
    }

    async fn outcome(&self) -> Result<CallOutcome, SendError> {
        self.send(principal().request()).await.map(|response| response.outcome)
    }
}

fn principal() -> ApiQuery<Principal> {
    PeopleRequests.current_principal(tenant())
}

#[tokio::test]
async fn all_users_are_read_page_by_page_once() {
    let eyes = eyes().await;
    eyes.world.sandbox.generate_people("Cust1", 2_345, 1).unwrap();
    let people = eyes.world.sandbox.people("Cust1").unwrap();
    let (mut after, mut read, mut pages) = (None, Vec::new(), 0);
    loop {
        let page = eyes.ask(&PeopleRequests.associates(after)).await;
        read.extend(page.associates);
        pages += 1;
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!((read.len(), pages), (2_345, 3));
    for (read, there) in read.iter().zip(people.associates.values()) {
        assert_eq!(read.id.get().unsigned_abs(), there.id);
        assert_eq!(read.login, there.name);
        assert_eq!(read.user_name, there.user_name);
        assert_eq!(read.kind.code(), there.kind.database_number());
        assert_eq!(read.active, Some(!there.deleted));
    }
}

#[tokio::test]
async fn only_the_requested_ids_are_read() {
    let eyes = eyes().await;
    eyes.world.sandbox.generate_people("Cust1", 700, 1).unwrap();
    let people = eyes.world.sandbox.people("Cust1").unwrap();
    let id = |number| AssociateId::new(number).unwrap();
    let known: Vec<_> = people.associates.keys().map(|id| i32::try_from(*id).unwrap()).collect();
    let missing = id(2_000_000_000);
    // The largest number of ids in one request, with the longest ids.
    let mut asked: Vec<_> = known.iter().take(499).copied().map(id).collect();
    asked.push(missing);
    let found = eyes.ask(&PeopleRequests.associates_by_id(&asked)).await;
    let found: Vec<_> = found.iter().map(|found| found.id).collect();
    assert_eq!(found, asked[..499]);
    let one = eyes.ask(&PeopleRequests.associate(asked[7])).await.unwrap();
    assert_eq!(one.id, asked[7]);
    assert_eq!(eyes.ask(&PeopleRequests.associate(missing)).await, None);
}

#[tokio::test]
async fn groups_and_roles_are_read_raw_including_deleted_ones() {
    let eyes = eyes().await;
    eyes.world.sandbox.generate_people("Cust1", 20, 1).unwrap();
    let people = eyes.world.sandbox.people("Cust1").unwrap();
    let groups = eyes.ask(&PeopleRequests.user_groups()).await.items;
    let read: Vec<_> =
        groups.iter().map(|g| (g.id.unsigned_abs(), g.display_name.as_str(), g.deleted)).collect();
    let there: Vec<_> =
        people.groups.values().map(|g| (g.id, g.name.as_str(), g.deleted)).collect();
    assert_eq!(read, there);
    assert!(there.iter().any(|(_, _, deleted)| *deleted));
    let roles = eyes.ask(&PeopleRequests.roles()).await.items;
    let read: Vec<_> =
        roles.iter().map(|r| (r.id.unsigned_abs(), r.display_name.as_str(), r.deleted)).collect();
    let there: Vec<_> = people.roles.values().map(|r| (r.id, r.name.as_str(), r.deleted)).collect();
    assert_eq!(read, there);
    assert!(there.iter().any(|(_, name, _)| name.contains("US:\"")), "none has translations");
}

#[tokio::test]
async fn ticket_and_secret_are_sent_and_credentials_in_the_request_are_removed() {
    let eyes = eyes().await;
    assert_eq!(eyes.ask(&principal()).await.tenant, tenant());
    let other_secret = speaks_for(&eyes.world, "another-secret-of-the-tests", None);
    let refused = other_secret.send(&eyes.uri, &eyes.system_user, principal().request()).await;
    assert_eq!(refused.unwrap().outcome, CallOutcome::CredentialRefused);
    // Credentials in the request headers are ignored, valid or invalid.
    let ApiCredential::SystemUser { ticket } = &eyes.system_user else { unreachable!() };
    let own = |headers: &mut HeaderMap, ticket: &str, secret: &str| {
        headers.append("authorization", format!("SOTicket {ticket}").parse().unwrap());
        headers.append("so-apptoken", secret.parse().unwrap());
        headers.append("host", "elsewhere.example".parse().unwrap());
    };
    let mut request = principal().request();
    own(&mut request.headers, secrecy::ExposeSecret::expose_secret(ticket), CLIENT_SECRET);
    let person = ApiCredential::Person { access_token: "8A:Cust1.none".into() };
    let refused = eyes.superoffice.send(&eyes.uri, &person, request).await.unwrap();
    assert_eq!(refused.outcome, CallOutcome::CredentialRefused);
    let mut request = principal().request();
    own(&mut request.headers, "7T:wrong", "wrong");
    assert_eq!(eyes.send(request).await.unwrap().outcome, CallOutcome::Done { success: true });
}

#[tokio::test]
async fn a_streamed_body_arrives_like_a_buffered_one() {
    let eyes = eyes().await;
    eyes.world.sandbox.generate_people("Cust1", 20, 1).unwrap();
    let call = PeopleRequests.associates_by_id(&[AssociateId::new(5).unwrap()]);
    let mut request = call.request();
    let parts: Vec<_> = call.body.chunks(7).map(|part| Ok(Bytes::copy_from_slice(part))).collect();
    request.body = ApiBody::Stream { parts: stream::iter(parts).boxed(), length: None, copy: None };
    let body: Vec<Bytes> = eyes.send(request).await.unwrap().body.try_collect().await.unwrap();
    assert_eq!(call.read(&body.concat()), Ok(eyes.ask(&call).await));
}

#[tokio::test]
async fn each_response_has_its_meaning_and_a_redirect_is_a_response() {
    let eyes = eyes().await;
    let elsewhere = format!("{}/Login/", eyes.world.sandbox.login_uri());
    let throttled = Fault::Status { status: 429, body: FaultBody::Empty, retry_after: Some(9) };
    for (fault, outcome) in [
        (Fault::status(401), CallOutcome::CredentialRefused),
        (Fault::status(403), CallOutcome::Forbidden),
        (Fault::status(404), CallOutcome::Done { success: false }),
        (throttled, CallOutcome::Throttled { retry_after: Duration::from_secs(9) }),
        (Fault::status(503), CallOutcome::Failed),
        (Fault::Redirect { location: elsewhere }, CallOutcome::Done { success: false }),
    ] {
        let sandbox = &eyes.world.sandbox;
        let what = format!("{fault:?}");
        sandbox.inject(Endpoint::CurrentPrincipal, fault, FaultScope::always()).unwrap();
        assert_eq!(eyes.outcome().await, Ok(outcome), "{what}");
        sandbox.clear_faults();
    }
    eyes.world.sandbox.move_tenant("Cust1", ApiHost::B).unwrap();
    assert_eq!(eyes.outcome().await, Ok(CallOutcome::Misdirected));
}

#[tokio::test]
async fn a_broken_connection_differs_from_one_that_was_never_opened() {
    let eyes = eyes().await;
    for fault in [Fault::Reset, Fault::Close] {
        let what = format!("{fault:?}");
        eyes.world.sandbox.inject(Endpoint::CurrentPrincipal, fault, FaultScope::always()).unwrap();
        assert!(matches!(eyes.outcome().await, Err(SendError::Interrupted(_))), "{what}");
        eyes.world.sandbox.clear_faults();
    }
    let cut = Fault::Truncate;
    eyes.world.sandbox.inject(Endpoint::CurrentPrincipal, cut, FaultScope::times(1)).unwrap();
    let response = eyes.send(principal().request()).await.unwrap();
    let body: Result<Vec<Bytes>, _> = response.body.try_collect().await;
    assert!(matches!(body, Err(SendError::Interrupted(_))));
    let Eyes { world, superoffice, uri, system_user } = eyes;
    world.sandbox.shutdown().await;
    let gone = superoffice.send(&uri, &system_user, principal().request()).await;
    assert!(matches!(gone, Err(SendError::NotSent(_))), "{gone:?}");
}

#[tokio::test]
async fn nothing_is_sent_outside_the_tenant() {
    let eyes = eyes().await;
    for path in ["/../../Cust2/api/v1/User/currentPrincipal", "/%2e%2e/%2e%2e/x", "@127.0.0.1/"] {
        let (method, body) = (Method::GET, ApiBody::Whole(Bytes::new()));
        let path_and_query = path.to_owned();
        let request = ApiRequest {
            method,
            path_and_query,
            headers: HeaderMap::new(),
            body,
            response_timeout: Duration::from_secs(30),
        };
        assert!(matches!(eyes.send(request).await, Err(SendError::InvalidRequest(_))), "{path}");
    }
    assert_eq!(eyes.world.sandbox.calls(Endpoint::CurrentPrincipal), 0);
}
