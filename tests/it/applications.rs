//! Tests of `ApplicationService`.

use std::time::Duration;

use superoffice_sandbox::Authorization;
use tenant_gateway::grpc::pb;

use crate::support::{APPLICATION, CLIENT_ID, CLIENT_SECRET, Options, World};

/// RFC 7638 thumbprint of `fixtures/keys/public.pem`, made with openssl and Python.
const KEY_ID: &str = "gu82VbW3vvmnBgKS5SPKJ3Q0TI8BCM1oPcL3A0fQt3c";

async fn list(world: &World) -> Vec<pb::Application> {
    let mut client = world.applications().await;
    let listed = client.list_applications(pb::ListApplicationsRequest::default());
    listed.await.unwrap().into_inner().applications
}

async fn only(world: &World) -> pb::Application {
    let mut listed = list(world).await;
    assert_eq!(listed.len(), 1);
    listed.remove(0)
}

#[tokio::test]
async fn an_application_shows_its_data_but_no_secret() {
    let mut world = World::new().await;
    let application = only(&world).await;
    let wanted = pb::Application {
        name: format!("applications/{APPLICATION}"),
        environment: "sod".to_owned(),
        client_id: CLIENT_ID.to_owned(),
        key_ids: vec![KEY_ID.to_owned()],
        ..Default::default()
    };
    assert_eq!(application, wanted);
    let shown = format!("{application:?}");
    assert!(!shown.contains(CLIENT_SECRET) && !shown.contains("PRIVATE"), "{shown}");
    world.restart().await;
    assert_eq!(only(&world).await, wanted);
}

#[tokio::test]
async fn an_application_shows_when_an_exchange_last_succeeded() {
    let mut world = World::new().await;
    world.enroll("Cust1").await;
    let ticket = world.ticket("Cust1").await.unwrap();
    let application = only(&world).await;
    assert_eq!(application.last_success_time, ticket.issue_time);
    assert_eq!((application.last_failure_time, application.last_failure), (None, None));
    // A cached ticket needs no exchange.
    world.advance(Duration::from_mins(1));
    world.ticket("Cust1").await.unwrap();
    assert_eq!(only(&world).await.last_success_time, ticket.issue_time);
}

#[tokio::test]
async fn an_application_shows_why_an_exchange_last_failed_and_what_to_do() {
    let mut world = World::new().await;
    world.enroll("Cust1").await;
    world.enroll("Cust2").await;
    world.sandbox.set_authorization(CLIENT_ID, "Cust1", Authorization::Revoked).unwrap();
    world.ticket("Cust1").await.unwrap_err();
    let failed = only(&world).await;
    assert_eq!(failed.last_success_time, None);
    let failure = failed.last_failure.unwrap();
    assert_eq!(failure.reason(), pb::ErrorReason::ApplicationRevoked);
    assert!(failure.message.contains("Cust1"), "{failure:?}");
    assert!(failure.mend.contains("approve"), "{failure:?}");
    // A later success neither hides nor changes the failure.
    world.advance(Duration::from_secs(1));
    world.ticket("Cust2").await.unwrap();
    let application = only(&world).await;
    assert_eq!(application.last_failure, Some(failure));
    assert_eq!(application.last_failure_time, failed.last_failure_time);
    let seconds = |time: Option<prost_types::Timestamp>| time.unwrap().seconds;
    assert_eq!(seconds(application.last_success_time), seconds(failed.last_failure_time) + 1);
}

#[tokio::test]
async fn pages_list_each_application_once_in_order() {
    let more = ["a-first", "reports", "z-last"].map(|id| {
        format!(
            "[[applications]]\nid = \"{id}\"\nenvironment = \"sod\"\nclient_id = \"of-{id}\"\n\
             client_secret_file = \"client_secret\"\nprivate_key_file = \"private_key.pem\"\n"
        )
    });
    let extra_application = more.concat();
    let world = World::with(Options { extra_application, ..Default::default() }).await;
    let all: Vec<_> = list(&world).await.into_iter().map(|a| a.name).collect();
    let wanted =
        ["a-first", APPLICATION, "reports", "z-last"].map(|id| format!("applications/{id}"));
    assert_eq!(all, wanted);
    for page_size in [1, 2, 3, 4] {
        let mut client = world.applications().await;
        let mut seen = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = pb::ListApplicationsRequest { page_size, page_token };
            let page = client.list_applications(request).await.unwrap().into_inner();
            assert!(page.applications.len() <= usize::try_from(page_size).unwrap());
            assert!(!page.applications.is_empty());
            seen.extend(page.applications.into_iter().map(|a| a.name));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        assert_eq!(seen, wanted, "pages of {page_size}");
    }
}
