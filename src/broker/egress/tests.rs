//! What goes out for a caller, and as whom.

use bytes::Bytes;
use http::{HeaderValue, Method};

use super::*;
use crate::{
    access::{Access, Caller, Calling, NotActing, QuotaRules, Rules},
    broker::{
        SendProgress,
        fakes::{Told, World, tenant},
    },
    domain::{ApiPath, CredentialId, Reason},
};

fn access(world: &World) -> Access {
    Access::insecure_anonymous(Rules::PermitAll, QuotaRules::default(), world.clock.clone())
}

fn egress(world: &World) -> Egress {
    Egress::new(world.web_api.clone(), world.impersonation.clone())
}

fn call(method: Method, path: &str) -> Calling<TenantName> {
    Calling { on: tenant(), method, path: ApiPath::parse(path).unwrap() }
}

fn sending(names: &[&'static str]) -> Sending {
    let mut headers = HeaderMap::new();
    for name in names {
        headers.insert(*name, HeaderValue::from_static("theirs"));
    }
    Sending { headers, body: ApiBody::Whole(Bytes::new()), patience: Duration::from_mins(1) }
}

/// The call, and the last credential that was sent with it.
async fn send(
    world: &World,
    acting: &Acting,
    sending: Sending,
) -> (Result<Sent, BrokerError>, Option<CredentialId>) {
    let mut used = None;
    let mut note = |progress: SendProgress<'_>| {
        if let SendProgress::Sends(id) = progress {
            used = Some(id.clone());
        }
    };
    let sent = world.in_time(egress(world).send(acting, sending, &mut note)).await;
    (sent, used)
}

async fn act(world: &World, eyes: &str) -> Acting {
    let chosen = egress(world).chosen(&tenant(), Some(eyes.parse().unwrap()), true).await.unwrap();
    let call = call(Method::GET, "/api/v1/%43ontact/5?x=Y");
    access(world).act(&Caller::anonymous(), call, chosen).unwrap()
}

#[tokio::test]
async fn what_was_decided_on_is_what_is_sent_and_headers_of_the_caller_are_not_all_of_it() {
    let world = World::new();
    let acting = act(&world, "system").await;
    let sending = sending(&["authorization", "so-apptoken", "gateway-act-as", "if-match"]);
    let (sent, used) = send(&world, &acting, sending).await;
    let sent = sent.unwrap();
    assert_eq!(sent.response.status, 200);
    assert_eq!(sent.uri.as_str(), "https://one.superoffice.com/Cust1/api");
    assert!(used.unwrap().is_ticket());
    let arrived = world.arrived();
    assert_eq!(
        (&arrived[0].method, &*arrived[0].path_and_query),
        (&Method::GET, "/v1/%43ontact/5?x=Y")
    );
    assert_eq!(arrived[0].headers.keys().collect::<Vec<_>>(), ["if-match"]);
    assert_eq!(arrived[0].ticket, "7T:1");
}

#[tokio::test]
async fn a_person_is_acted_as_with_that_persons_token() {
    let world = World::new();
    world.grants.add(&tenant(), 5);
    let acting = act(&world, "associates/5").await;
    let (sent, used) = send(&world, &acting, sending(&[])).await;
    assert_eq!(sent.unwrap().response.status, 200);
    assert!(used.unwrap().grant().is_some());
    assert!(world.tickets()[0].starts_with("8A:"), "{:?}", world.tickets());
}

#[tokio::test]
async fn for_a_person_who_has_not_consented_nothing_is_sent() {
    let world = World::new();
    let acting = act(&world, "associates/5").await;
    let (sent, used) = send(&world, &acting, sending(&[])).await;
    assert_eq!(sent.err().unwrap().reason(), Reason::ConsentRequired);
    assert_eq!(used, None);
    assert!(world.arrived().is_empty());
}

#[tokio::test]
async fn where_nobody_was_named_the_only_user_is_meant_and_where_there_are_several_nobody() {
    let world = World::new();
    let chosen = || async { egress(&world).chosen(&tenant(), None, true).await.unwrap() };
    let act = |chosen| {
        access(&world).act(&Caller::anonymous(), call(Method::GET, "/api/v1/Contact"), chosen)
    };
    assert!(matches!(act(chosen().await), Ok(Acting::SystemUser(_))));
    world.grants.add(&tenant(), 5);
    assert_eq!(act(chosen().await).err(), Some(NotActing::Several));
}

#[tokio::test]
async fn what_superoffice_answers_is_passed_on_without_its_cookies() {
    let world = World::told([Told::Status(404)]);
    let acting = act(&world, "").await;
    let (sent, _) = send(&world, &acting, sending(&[])).await;
    assert_eq!(sent.unwrap().response.status, 404);
}
