//! Tests of secret and key rotation: the next ones are configured in advance, and used once SuperOffice has them.

use std::time::Duration;

use superoffice_sandbox::{Endpoint, Fault, FaultScope};
use tenant_gateway::{config::Config, grpc::pb};
use tonic::Code;

use crate::support::{
    CLIENT_ID, CLIENT_SECRET, Options, PUBLIC_KEY, World, assert_status, issue, issue_with, name,
};

const NEXT_SECRET: &str = "next-client-secret-of-the-tests-91b2";
const NEXT_KEY: &str = include_str!("../fixtures/keys/next.pkcs8.pem");
const NEXT_PUBLIC_KEY: &str = include_str!("../fixtures/keys/next.public.pem");

/// An environment with a configured next secret and next key.
async fn prepared() -> World {
    let extra_application = "next_client_secret_file = \"next_secret\"\n\
                             next_private_key_file = \"next_key.pem\"\n\
                             allow_reveal_application_token = true"
        .to_owned();
    let options = Options {
        extra_application,
        files: vec![("next_secret", NEXT_SECRET), ("next_key.pem", NEXT_KEY)],
        ..Default::default()
    };
    World::with(options).await
}

async fn application_token(world: &World, tenant: &str) -> String {
    let request = pb::IssueSystemTicketRequest { include_application_token: true, ..issue(tenant) };
    let issued = issue_with(&mut world.tokens().await, request).await.unwrap();
    issued.application_token.clone()
}

#[tokio::test]
async fn the_next_secret_is_used_and_returned_once_superoffice_has_it() {
    let world = prepared().await;
    for tenant in ["Cust1", "Cust2", "Cust3"] {
        world.enroll(tenant).await;
    }
    assert_eq!(application_token(&world, "Cust1").await, CLIENT_SECRET);
    world.sandbox.set_secrets(CLIENT_ID, &[NEXT_SECRET]).unwrap();
    assert_eq!(application_token(&world, "Cust2").await, NEXT_SECRET);
    assert_eq!(application_token(&world, "Cust1").await, NEXT_SECRET);
    world.sandbox.reset_counts();
    world.ticket("Cust3").await.unwrap();
    assert_eq!(world.sandbox.calls(Endpoint::Authenticate), 1, "the working secret is tried first");
}

#[tokio::test]
async fn the_next_key_signs_once_superoffice_has_it() {
    let world = prepared().await;
    world.enroll("Cust1").await;
    world.enroll("Cust2").await;
    world.sandbox.set_public_keys(CLIENT_ID, &[NEXT_PUBLIC_KEY]).unwrap();
    world.ticket("Cust1").await.unwrap();
    world.sandbox.reset_counts();
    world.ticket("Cust2").await.unwrap();
    assert_eq!(world.sandbox.calls(Endpoint::Authenticate), 1);
    // Back to the first key.
    world.sandbox.set_public_keys(CLIENT_ID, &[PUBLIC_KEY]).unwrap();
    world.enroll("Cust3").await;
    world.ticket("Cust3").await.unwrap();
}

#[tokio::test]
async fn secret_and_key_may_change_together() {
    let world = prepared().await;
    world.enroll("Cust1").await;
    world.sandbox.set_public_keys(CLIENT_ID, &[NEXT_PUBLIC_KEY]).unwrap();
    world.sandbox.set_secrets(CLIENT_ID, &[NEXT_SECRET]).unwrap();
    assert_eq!(application_token(&world, "Cust1").await, NEXT_SECRET);
}

#[tokio::test]
async fn a_rejected_ticket_is_tried_with_the_other_secret_before_it_is_replaced() {
    let world = prepared().await;
    world.enroll("Cust1").await;
    let id = world.ticket("Cust1").await.unwrap().credential_id.clone();
    world.sandbox.set_secrets(CLIENT_ID, &[NEXT_SECRET]).unwrap();
    let report =
        pb::ReportRejectedCredentialRequest { tenant: name("Cust1"), credential_id: id.clone() };
    world.tokens().await.report_rejected_credential(report).await.unwrap();
    assert_eq!(world.ticket("Cust1").await.unwrap().credential_id, id);
    assert_eq!(application_token(&world, "Cust1").await, NEXT_SECRET);
    assert_eq!(world.exchanges(), 1);
}

#[tokio::test]
async fn after_all_pairs_were_tried_the_error_names_application_or_system_user() {
    let mut world = prepared().await;
    world.enroll("Cust1").await;
    world.sandbox.set_secrets(CLIENT_ID, &["a third"]).unwrap();
    let status = world.ticket("Cust1").await.unwrap_err();
    assert_status(&status, Code::FailedPrecondition, "SYSTEM_USER_REJECTED");
    assert_eq!(world.sandbox.calls(Endpoint::Authenticate), 4);
    world.advance(Duration::from_secs(61));
    world.sandbox.set_secrets(CLIENT_ID, &[CLIENT_SECRET]).unwrap();
    let fault = Fault::Refuse { message: "Authorization error: InvalidSignature (7)".to_owned() };
    world.sandbox.inject(Endpoint::Authenticate, fault, FaultScope::always()).unwrap();
    let status = world.ticket("Cust1").await.unwrap_err();
    assert_status(&status, Code::FailedPrecondition, "APPLICATION_CREDENTIAL_REFUSED");
}

#[tokio::test]
async fn a_documented_refusal_is_not_tried_with_other_secrets() {
    let world = prepared().await;
    world.enroll("Cust1").await;
    for message in ["Authorization error: Revoked (1)", "Authorization error: Denied (4)"] {
        world.sandbox.reset_counts();
        let fault = Fault::Refuse { message: message.to_owned() };
        world.sandbox.inject(Endpoint::Authenticate, fault, FaultScope::always()).unwrap();
        world.set_token("Cust1", "Some App-1234567890").await;
        world.ticket("Cust1").await.unwrap_err();
        assert_eq!(world.sandbox.calls(Endpoint::Authenticate), 1, "{message}");
        world.sandbox.clear_faults();
    }
}

#[tokio::test]
async fn the_public_names_of_both_keys_are_shown() {
    let world = prepared().await;
    let list = pb::ListApplicationsRequest::default();
    let listed = world.applications().await.list_applications(list).await.unwrap().into_inner();
    assert_eq!(listed.applications[0].key_ids.len(), 2);
    assert!(Config::load(&world.config_file()).unwrap().warnings.is_empty());
}
