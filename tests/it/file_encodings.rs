//! Tests of files as Windows editors save them: a byte order mark before UTF-8, and UTF-16.

use std::fs;

use crate::support::{Options, binary::Site, issue};

const MARK: &[u8] = "\u{feff}".as_bytes();
const POLICY: &str = "permit (principal in CallerGroup::\"jobs\", action, resource);";
const ENTITIES: &str = r#"[{"uid": {"type": "Caller", "id": "anonymous"}, "parents": [{"type": "CallerGroup", "id": "jobs"}]}]"#;

/// Every file that the gateway of [`site`] reads.
const FILES: [&str; 6] = [
    "gateway.toml",
    "client_secret",
    "private_key.pem",
    "keyring.toml",
    "policy.cedar",
    "entities.json",
];

async fn site() -> Site {
    let site = Site::with(Options {
        extra_config: "[policy]\nfile = \"policy.cedar\"\nentities_file = \"entities.json\"\n"
            .to_owned(),
        files: vec![("policy.cedar", POLICY), ("entities.json", ENTITIES)],
        ..Options::default()
    });
    site.await
}

/// Changes the content of a file and keeps its permissions.
fn change(site: &Site, file: &str, change: impl FnOnce(&[u8]) -> Vec<u8>) {
    let path = site.file(file);
    let content = fs::read(&path).unwrap();
    fs::write(&path, change(&content)).unwrap();
}

#[tokio::test]
async fn a_byte_order_mark_before_any_file_changes_nothing() {
    let site = site().await;
    for file in FILES {
        change(&site, file, |content| [MARK, content].concat());
    }
    let token = site.make_tenant("Cust1");
    site.run(&["tenant", "add", "Cust1"]).await.succeeded();
    let with_mark = format!("\u{feff}{token}\r\n");
    site.run_with_input(&["tenant", "set-token", "Cust1"], &with_mark).await.succeeded();
    site.run(&["policy", "check"]).await.succeeded();
    site.run(&["keys", "generate", "--add"]).await.succeeded();
    let served = site.serve().await;
    served.tokens().await.issue_system_ticket(issue("Cust1")).await.unwrap();
    served.stop().await;
}

#[tokio::test]
async fn a_byte_order_mark_in_an_environment_variable_is_ignored() {
    let site = site().await;
    site.enroll("Cust1").await;
    let secret = site.read("client_secret");
    let from = "client_secret_file = \"client_secret\"";
    let text = site.read("gateway.toml").replace(from, "client_secret_env = \"CLIENT_SECRET\"");
    fs::write(site.file("gateway.toml"), text).unwrap();
    let mut command = site.command(&["serve"]);
    command.env("CLIENT_SECRET", format!("\u{feff}{secret}"));
    let served = crate::support::binary::Served::start(command).await;
    served.tokens().await.issue_system_ticket(issue("Cust1")).await.unwrap();
    served.stop().await;
}

#[tokio::test]
async fn a_utf_16_file_is_refused_with_its_encoding() {
    for file in FILES {
        let site = site().await;
        change(&site, file, |content| {
            let text = std::str::from_utf8(content).unwrap();
            let units = std::iter::once(0xfeff).chain(text.encode_utf16());
            units.flat_map(u16::to_le_bytes).collect()
        });
        let message = site.run(&["serve"]).await.failed(2);
        assert!(message.contains(file) && message.contains("UTF-16"), "{message}");
    }
}
