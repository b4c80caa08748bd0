//! Tests of webhooks about associates: only signed ones are accepted, and they cost little.

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use aws_lc_rs::hmac;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use superoffice_sandbox::{NewWebhook, WebhookState, people::Associate};
use tenant_gateway::grpc::pb::{self, associate_service_client::AssociateServiceClient};
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

use crate::support::{
    CLIENT_SECRET, Options, World, eventually_so,
    http::{Answer, request, send},
    name,
    trail::StoredTrail,
};

const SECRET: &str = "blåbærsyltetøy-i-krukke";
const OTHER_SECRET: &str = "another-secret-of-webhooks";
const PATH: &str = "/webhooks/superoffice/associates/crm-sync";
const LIMIT: usize = 64 * 1024;

/// A gateway with three applications, of which two have a webhook secret.
async fn world() -> World {
    let application = |id: &str, webhook: &str| {
        format!(
            "[[applications]]\nid = \"{id}\"\nenvironment = \"sod\"\nclient_id = \"{id}\"\n\
             client_secret_file = \"client_secret\"\nprivate_key_file = \"private_key.pem\"\n{webhook}\n"
        )
    };
    let extra_config = format!(
        "[http]\nlisten = \"127.0.0.1:0\"\n{}{}",
        application("reports", "webhook_secret_file = \"other_webhook_secret\""),
        application("quiet", ""),
    );
    World::with(Options {
        extra_config,
        extra_application: "webhook_secret_file = \"webhook_secret\"".to_owned(),
        files: vec![("webhook_secret", SECRET), ("other_webhook_secret", OTHER_SECRET)],
        ..Default::default()
    })
    .await
}

fn address(world: &World) -> SocketAddr {
    world.gateway().http_address.unwrap()
}

fn sign(secret: &str, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    BASE64_STANDARD.encode(hmac::sign(&key, body))
}

fn body(tenant: &str, event: u32) -> Vec<u8> {
    let body = serde_json::json!({
        "EventId": format!("00000000-0000-4000-8000-{event:012}"),
        "Timestamp": "2026-11-22T10:00:00.0000000Z",
        "Changes": ["group_idx"],
        "Event": "associate.changed",
        "PrimaryKey": 900,
        "Entity": "associate",
        "ContextIdentifier": tenant,
    });
    body.to_string().into_bytes()
}

async fn deliver(world: &World, signature: &str, body: &[u8]) -> Answer {
    let headers = [("X-Superoffice-Signature", signature)];
    send(address(world), "POST", PATH, &headers, body).await
}

async fn hints(world: &World) -> i64 {
    world.metric("associate_hints_total").await
}

#[tokio::test]
async fn a_genuine_webhook_is_accepted() {
    let world = world().await;
    world.enroll("Cust10001").await;
    let target = format!("http://{}{PATH}", address(&world));
    let hook = NewWebhook::new("people", &target, SECRET);
    world.sandbox.set_webhook("Cust10001", hook).unwrap();
    let new = Associate { id: 900, person_id: 5, ..Associate::default() };
    world.sandbox.add_associate("Cust10001", &new).unwrap();
    world.sandbox.change_associate("Cust10001", 900, |one| one.group_id = 3).unwrap();
    world.sandbox.delete_associate("Cust10001", 900).unwrap();
    eventually_so("all three are heard", async || hints(&world).await == 3).await;
    let state = world.sandbox.webhook_state("Cust10001", "people");
    assert_eq!(state, Some(WebhookState::Active));
}

#[tokio::test]
async fn changed_associates_are_read_again_at_their_next_use_at_most_once_a_minute() {
    let mut world = world().await;
    world.enroll("Cust10001").await;
    let mut client = AssociateServiceClient::new(world.channel().await);
    let mut login = async || {
        let name = format!("{}/associates/3", name("Cust10001"));
        let get = pb::GetAssociateRequest { name, ..Default::default() };
        client.get_associate(get).await.unwrap().into_inner().associate.unwrap().login
    };
    let before = login().await;
    let rename = |world: &World, to: &'static str| {
        world.sandbox.change_associate("Cust10001", 3, |one| one.name = to.to_owned()).unwrap();
    };
    rename(&world, "FIRST");
    let body = body("Cust10001", 1);
    assert_eq!(deliver(&world, &sign(SECRET, &body), &body).await.status, 200);
    assert_eq!(login().await, before, "it was read less than a minute ago");
    world.advance(Duration::from_secs(61));
    assert_eq!(login().await, "FIRST");
    rename(&world, "SECOND");
    world.advance(Duration::from_secs(61));
    assert_eq!(login().await, "FIRST", "there was no webhook");
}

#[tokio::test]
async fn a_repeated_delivery_is_accepted_without_effect() {
    let world = world().await;
    let (one, another) = (body("Cust10001", 1), body("Cust10001", 2));
    for body in [&one, &one, &another, &one] {
        let answer = deliver(&world, &sign(SECRET, body), body).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, ""));
    }
    assert_eq!(hints(&world).await, 2);
}

#[tokio::test]
async fn the_response_to_a_signed_webhook_does_not_reveal_known_tenants() {
    let world = world().await;
    world.enroll("Cust10001").await;
    let mut answers = Vec::new();
    for tenant in ["Cust10001", "Cust99999"] {
        let body = body(tenant, 1);
        let answer = deliver(&world, &sign(SECRET, &body), &body).await;
        answers.push((answer.status, answer.body.clone()));
    }
    assert_eq!(answers[0], (200, String::new()));
    assert_eq!(answers[0], answers[1]);
}

#[tokio::test]
async fn unsigned_webhooks_get_a_fixed_response_and_are_counted() {
    let mut world = world().await;
    let body = body("Cust10001", 1);
    let good = sign(SECRET, &body);
    let truncated = &body[..body.len() - 1];
    let digits = |byte: &u8| format!("{byte:02x}");
    let hex: String = BASE64_STANDARD.decode(&good).unwrap().iter().map(digits).collect();
    let mut details = BTreeSet::new();
    let mut refused = 0;
    for (signature, body) in [
        (sign(OTHER_SECRET, &body), &body[..]),
        (sign(CLIENT_SECRET, &body), &body),
        (sign("", &body), &body),
        (good.clone(), truncated),
        (good.clone(), b""),
        (good[1..].to_owned(), &body),
        (good.to_lowercase(), &body),
        (format!("sha256={good}"), &body),
        (hex, &body),
        (String::new(), &body),
        (sign(OTHER_SECRET, b"<html>"), b"<html>"),
    ] {
        let answer = deliver(&world, &signature, body).await;
        let problem = answer.assert_problem(401, "CALLER_UNAUTHENTICATED");
        details.insert(problem["detail"].to_string());
        refused += 1;
    }
    // Without a signature, and with two of which one is valid.
    for headers in
        [&[][..], &[("X-Superoffice-Signature", &*good), ("x-superoffice-signature", "x")]]
    {
        let answer = send(address(&world), "POST", PATH, headers, &body).await;
        let problem = answer.assert_problem(401, "CALLER_UNAUTHENTICATED");
        details.insert(problem["detail"].to_string());
        refused += 1;
    }
    assert_eq!(details.len(), 1);
    assert_eq!(hints(&world).await, 0);

    world.stop().await;
    let written = StoredTrail::read(&world.config_file()).await;
    let counted = written.events.iter().filter(|event| &*event.record.action == "authenticate");
    let counted: Vec<_> = counted
        .map(|event| {
            let count = event.record.aggregate.as_ref().unwrap().count;
            (event.record.client_address.to_string(), count)
        })
        .collect();
    assert_eq!(counted, [("127.0.0.1".to_owned(), refused)]);
}

#[tokio::test]
async fn an_application_without_a_secret_has_no_webhook() {
    let world = world().await;
    let body = body("Cust10001", 1);
    let prefix = "/webhooks/superoffice/associates/";
    for application in ["quiet", "nobody", "CRM-SYNC", "crm-sync/", "crm%2Dsync/x", "%ff", ""] {
        let path = format!("{prefix}{application}");
        let signature = sign("", &body);
        let headers = [("X-Superoffice-Signature", &*signature)];
        let answer = send(address(&world), "POST", &path, &headers, &body).await;
        answer.assert_problem(404, "RESOURCE_NOT_FOUND");
    }
    // The secret of one application is not valid for another.
    let signature = sign(SECRET, &body);
    let headers = [("X-Superoffice-Signature", &*signature)];
    let path = format!("{prefix}reports");
    let answer = send(address(&world), "POST", &path, &headers, &body).await;
    answer.assert_problem(401, "CALLER_UNAUTHENTICATED");
    let signature = sign(OTHER_SECRET, &body);
    let headers = [("X-Superoffice-Signature", &*signature)];
    assert_eq!(send(address(&world), "POST", &path, &headers, &body).await.status, 200);
    assert_eq!(hints(&world).await, 1);
}

#[tokio::test]
async fn the_name_of_the_header_may_be_written_in_any_case() {
    let world = world().await;
    for (number, name) in [
        (1, "X-Superoffice-Signature"),
        (2, "x-superoffice-signature"),
        (3, "X-SUPEROFFICE-SIGNATURE"),
    ] {
        let body = body("Cust10001", number);
        let signature = sign(SECRET, &body);
        let answer = send(address(&world), "POST", PATH, &[(name, &*signature)], &body).await;
        assert_eq!(answer.status, 200, "{name}");
    }
    assert_eq!(hints(&world).await, 3);
}

#[tokio::test]
async fn a_signed_but_invalid_webhook_has_its_own_response() {
    let world = world().await;
    let good = String::from_utf8(body("Cust10001", 1)).unwrap();
    for text in [
        String::new(),
        "null".to_owned(),
        "<html></html>".to_owned(),
        good.replace("Cust10001", "Cust"),
        good.replace("Cust10001", "../Cust10001"),
        good.replace("associate.changed", "contact.changed"),
        good.replace("EventId", "Id"),
        "[".repeat(LIMIT),
    ] {
        let answer = deliver(&world, &sign(SECRET, text.as_bytes()), text.as_bytes()).await;
        answer.assert_problem(400, "INVALID_ARGUMENT");
        // The signature is checked before the content.
        let answer = deliver(&world, &sign(OTHER_SECRET, text.as_bytes()), text.as_bytes()).await;
        answer.assert_problem(401, "CALLER_UNAUTHENTICATED");
    }
    assert_eq!(hints(&world).await, 0);
}

#[tokio::test]
async fn a_body_is_read_up_to_its_limit() {
    let world = world().await;
    let mut body = body("Cust10001", 1);
    body.resize(LIMIT, b' ');
    assert_eq!(deliver(&world, &sign(SECRET, &body), &body).await.status, 200);
    body.push(b' ');
    let answer = deliver(&world, &sign(SECRET, &body), &body).await;
    answer.assert_problem(413, "RESPONSE_TOO_LARGE");

    // A chunked body without declared length.
    let head = format!(
        "POST {PATH} HTTP/1.1\r\nHost: g\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    let mut stream = TcpStream::connect(address(&world)).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let piece = format!("8000\r\n{}\r\n", "x".repeat(0x8000));
    for _ in 0..2 {
        stream.write_all(piece.as_bytes()).await.unwrap();
    }
    stream.write_all(b"1\r\nx\r\n0\r\n\r\n").await.unwrap();
    Answer::read(&mut stream).await.assert_problem(413, "RESPONSE_TOO_LARGE");
    assert_eq!(hints(&world).await, 1);
}

#[tokio::test]
async fn a_client_that_disconnects_does_not_affect_others() {
    let world = world().await;
    let body = body("Cust10001", 1);
    let signature = sign(SECRET, &body);
    let headers = [("X-Superoffice-Signature", &*signature)];
    let whole = request("POST", PATH, &headers, &body);
    for end in [1, 20, whole.len() - body.len(), whole.len() - 1] {
        let mut stream = TcpStream::connect(address(&world)).await.unwrap();
        stream.write_all(&whole[..end]).await.unwrap();
        drop(stream);
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(hints(&world).await, 0);
    assert_eq!(deliver(&world, &signature, &body).await.status, 200);
    assert_eq!(hints(&world).await, 1);
}
