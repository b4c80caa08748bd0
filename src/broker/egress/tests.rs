//! Tests of the requests that are sent for a caller, and of the user that they act as.

use bytes::Bytes;
use http::{HeaderValue, Method};

use super::*;
use crate::{
    access::{Access, CallError, Caller, QuotaRules, RequestedCall, Rules},
    broker::{
        SendProgress,
        fakes::{Reply, World, tenant},
    },
    domain::{ApiPath, CredentialId, Reason},
};

fn access(world: &World) -> Access {
    Access::insecure_anonymous(Rules::PermitAll, QuotaRules::default(), world.clock.clone())
}

fn egress(world: &World) -> Egress {
    Egress::new(world.web_api.clone(), world.impersonation.clone())
}

fn call(method: Method, path: &str) -> RequestedCall<TenantName> {
    RequestedCall { target: tenant(), method, path: ApiPath::parse(path).unwrap() }
}

fn sending(names: &[&'static str]) -> EgressRequest {
    let mut headers = HeaderMap::new();
    for name in names {
        headers.insert(*name, HeaderValue::from_static("theirs"));
    }
    EgressRequest { headers, body: ApiBody::Whole(Bytes::new()), max_wait: Duration::from_mins(1) }
}

/// Sends the call, and returns the response and the last credential that was sent.
async fn send(
    world: &World,
    acting: &AuthorizedCall,
    sending: EgressRequest,
) -> (Result<WebApiResponse, BrokerError>, Option<CredentialId>) {
    let mut used = None;
    let mut note = |progress: SendProgress<'_>| {
        if let SendProgress::Sending(id) = progress {
            used = Some(id.clone());
        }
    };
    let sent = world.finish(egress(world).send(acting, sending, &mut note)).await;
    (sent, used)
}

async fn act(world: &World, actor: &str) -> AuthorizedCall {
    let chosen =
        egress(world).resolve_actor(&tenant(), Some(actor.parse().unwrap()), true).await.unwrap();
    let call = call(Method::GET, "/api/v1/%43ontact/5?x=Y");
    access(world).authorize_web_api_call(&Caller::anonymous(), call, chosen).unwrap()
}

#[tokio::test]
async fn sends_the_authorized_call_without_credential_headers_of_the_caller() {
    let world = World::new();
    let acting = act(&world, "system").await;
    let sending = sending(&["authorization", "so-apptoken", "gateway-act-as", "if-match"]);
    let (sent, used) = send(&world, &acting, sending).await;
    let sent = sent.unwrap();
    assert_eq!(sent.response.status, 200);
    assert_eq!(sent.uri.as_str(), "https://one.superoffice.com/Cust1/api");
    assert!(used.unwrap().is_ticket());
    let arrived = world.received();
    assert_eq!(
        (&arrived[0].method, &*arrived[0].path_and_query),
        (&Method::GET, "/v1/%43ontact/5?x=Y")
    );
    assert_eq!(arrived[0].headers.keys().collect::<Vec<_>>(), ["if-match"]);
    assert_eq!(arrived[0].ticket, "7T:1");
}

#[tokio::test]
async fn acts_as_a_person_with_the_persons_token() {
    let world = World::new();
    world.grants.add(&tenant(), 5);
    let acting = act(&world, "associates/5").await;
    let (sent, used) = send(&world, &acting, sending(&[])).await;
    assert_eq!(sent.unwrap().response.status, 200);
    assert!(used.unwrap().grant().is_some());
    assert!(world.tickets()[0].starts_with("8A:"), "{:?}", world.tickets());
}

#[tokio::test]
async fn sends_nothing_for_a_person_without_a_grant() {
    let world = World::new();
    let acting = act(&world, "associates/5").await;
    let (sent, used) = send(&world, &acting, sending(&[])).await;
    assert_eq!(sent.err().unwrap().reason(), Reason::ConsentRequired);
    assert_eq!(used, None);
    assert!(world.received().is_empty());
}

#[tokio::test]
async fn acts_as_the_only_user_if_none_is_named_and_fails_if_there_are_several() {
    let world = World::new();
    let chosen = || async { egress(&world).resolve_actor(&tenant(), None, true).await.unwrap() };
    let act = |chosen| {
        access(&world).authorize_web_api_call(
            &Caller::anonymous(),
            call(Method::GET, "/api/v1/Contact"),
            chosen,
        )
    };
    assert!(matches!(act(chosen().await), Ok(AuthorizedCall::SystemUser(_))));
    world.grants.add(&tenant(), 5);
    assert_eq!(act(chosen().await).err(), Some(CallError::AmbiguousActor));
}

#[tokio::test]
async fn passes_an_error_response_on() {
    let world = World::with_script([Reply::Status(404)]);
    let acting = act(&world, "").await;
    let (sent, _) = send(&world, &acting, sending(&[])).await;
    assert_eq!(sent.unwrap().response.status, 404);
}
