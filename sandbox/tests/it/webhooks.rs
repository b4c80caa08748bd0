//! Webhooks about associates.

use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use superoffice_sandbox::people::Associate;
use superoffice_sandbox::{NewWebhook, WebhookState};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::fixture::{Fixture, ONE};

const HOOK_SECRET: &str = "blåbær";

/// A target that receives webhooks.
pub(crate) struct Target(TcpListener);

impl Target {
    pub(crate) async fn open() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    pub(crate) fn uri(&self) -> String {
        format!("http://{}/hook?x=1", self.0.local_addr().unwrap())
    }

    fn hook(&self) -> NewWebhook {
        let target = self.uri();
        let hook = NewWebhook::new("people", &target, HOOK_SECRET);
        NewWebhook { waits_milliseconds: [1, 1], ..hook }
    }

    /// Answers the next call. Returns its head, in lower case, and its body.
    pub(crate) async fn answer(&self, status: u16) -> (String, Vec<u8>) {
        let (mut stream, _) = self.0.accept().await.unwrap();
        let mut call = Vec::new();
        let (head, length) = loop {
            assert_ne!(stream.read_buf(&mut call).await.unwrap(), 0);
            if let Some(end) = call.windows(4).position(|four| four == b"\r\n\r\n") {
                let head = String::from_utf8(call[..end].to_vec()).unwrap();
                let lower = head.to_lowercase();
                let length = lower.split("content-length: ").nth(1).unwrap();
                let length: usize = length.split("\r\n").next().unwrap().parse().unwrap();
                break (head, end + 4 + length);
            }
        };
        while call.len() < length {
            assert_ne!(stream.read_buf(&mut call).await.unwrap(), 0);
        }
        let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n");
        stream.write_all(answer.as_bytes()).await.unwrap();
        let body = call.split_off(head.len() + 4);
        (head, body)
    }
}

fn header<'a>(head: &'a str, name: &str) -> &'a str {
    let lines = head.split("\r\n").filter_map(|line| line.split_once(": "));
    lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value).next().unwrap()
}

#[tokio::test]
async fn changes_of_associates_are_sent_with_a_signature() {
    let fixture = Fixture::start().await;
    let target = Target::open().await;
    fixture.sandbox.set_webhook(ONE, target.hook()).unwrap();
    let new = Associate { id: 900, person_id: 5, ..Associate::default() };

    fixture.sandbox.add_associate(ONE, &new).unwrap();
    let (head, raw) = target.answer(200).await;
    assert!(head.starts_with("POST /hook?x=1 HTTP/1.1\r\n"));
    assert_eq!(header(&head, "Content-Type"), "application/json; charset=utf-8");
    assert!(header(&head, "User-Agent").starts_with("NetServer-Webhook/"));
    assert_eq!(header(&head, "X-Superoffice-Event"), "associate.created");
    let signature = STANDARD.decode(header(&head, "X-Superoffice-Signature")).unwrap();
    let key = hmac::Key::new(hmac::HMAC_SHA256, HOOK_SECRET.as_bytes());
    hmac::verify(&key, &raw, &signature).unwrap();
    let body: Value = serde_json::from_slice(&raw).unwrap();
    assert_eq!(body["EventId"], header(&head, "X-Superoffice-Eventid"));
    assert_eq!((&body["Entity"], &body["PrimaryKey"]), (&json!("associate"), &json!(900)));
    assert_eq!((&body["ContextIdentifier"], &body["WebhookName"]), (&json!(ONE), &json!("people")));
    assert_eq!(body["FieldValues"].as_object().unwrap().len(), 8);

    fixture.sandbox.change_associate(ONE, 900, |one| one.group_id = 3).unwrap();
    let (head, raw) = target.answer(200).await;
    assert_eq!(header(&head, "X-Superoffice-Event"), "associate.changed");
    let body: Value = serde_json::from_slice(&raw).unwrap();
    assert_eq!(body["Changes"], json!(["group_idx", "updated", "updated_associate_id"]));
    assert_eq!(
        (&body["FieldValues"]["group_idx"], &body["FieldValues"]["type"]),
        (&json!(3), &json!(0))
    );

    fixture.sandbox.delete_associate(ONE, 900).unwrap();
    let (head, raw) = target.answer(200).await;
    assert_eq!(header(&head, "X-Superoffice-Event"), "associate.deleted");
    let body: Value = serde_json::from_slice(&raw).unwrap();
    assert_eq!(body["Changes"], json!([]));
    assert_eq!(body["Values"], json!({ "associate_id": 900, "person_id": 5 }));
}

#[tokio::test]
async fn three_attempts_share_one_id_and_three_failed_deliveries_stop_the_webhook() {
    let fixture = Fixture::start().await;
    let target = Target::open().await;
    fixture.sandbox.set_webhook(ONE, target.hook()).unwrap();
    for _ in 0..3 {
        fixture.sandbox.change_associate(ONE, 3, |one| one.rank += 1).unwrap();
        let mut ids = Vec::new();
        for retry in ["0", "1", "2"] {
            let (head, _) = target.answer(500).await;
            assert_eq!(header(&head, "X-SuperOffice-Retry"), retry);
            ids.push(header(&head, "X-Superoffice-Eventid").to_owned());
        }
        ids.dedup();
        assert_eq!(ids.len(), 1);
    }
    let stopped = Some(WebhookState::TooManyErrors);
    for _ in 0..100 {
        if fixture.sandbox.webhook_state(ONE, "people") == stopped {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(fixture.sandbox.webhook_state(ONE, "people"), stopped);
    assert_eq!(fixture.sandbox.webhook_state(ONE, "other"), None);
}

#[tokio::test]
async fn webhooks_can_be_switched_off_limited_and_removed() {
    let fixture = Fixture::start().await;
    let target = Target::open().await;
    let events = vec!["associate.deleted".to_owned()];
    fixture.sandbox.set_webhook(ONE, NewWebhook { events, ..target.hook() }).unwrap();
    fixture.sandbox.change_associate(ONE, 3, |one| one.rank += 1).unwrap();
    fixture.sandbox.set_webhooks_sent(ONE, false).unwrap();
    fixture.sandbox.delete_associate(ONE, 3).unwrap();
    fixture.sandbox.set_webhooks_sent(ONE, true).unwrap();
    fixture.sandbox.delete_associate(ONE, 4).unwrap();
    let (head, raw) = target.answer(200).await;
    assert_eq!(header(&head, "X-Superoffice-Event"), "associate.deleted");
    let body: Value = serde_json::from_slice(&raw).unwrap();
    assert_eq!(body["PrimaryKey"], 4);
    fixture.sandbox.remove_webhook(ONE, "people");
    assert_eq!(fixture.sandbox.webhook_state(ONE, "people"), None);
    assert!(fixture.sandbox.set_webhook("Cust9", target.hook()).is_err());
}
