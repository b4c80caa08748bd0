//! Tenant status: the URI of an accepted status is that of the tenant, on an allowed host.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};
use tenant_gateway::{
    domain::{AllowedApiHosts, Usability},
    fuzzing::read_status,
};
use tenant_gateway_fuzz::{ALLOWED_HOST, TENANT, allowed_hosts, now, tenant};

static ALLOWED: LazyLock<AllowedApiHosts> = LazyLock::new(allowed_hosts);

fuzz_target!(init: seed_is_accepted(), |data: &[u8]| fuzz(data));

/// A valid status is accepted; otherwise the fuzzer would reach little code.
fn seed_is_accepted() {
    assert!(
        read_status(
            include_bytes!("../corpus_seed/tenant_status/documented"),
            tenant(),
            &ALLOWED,
            now()
        )
        .is_ok()
    );
}

/// Inputs: the body of a response, or lines with its `Api`, `State`, `ValidUntil`, `Endpoint` and `Version`.
fn fuzz(data: &[u8]) {
    check(data);
    if let Ok(text) = std::str::from_utf8(data) {
        let mut lines = text.splitn(5, '\n');
        let mut line = |otherwise: &str| match lines.next() {
            None | Some("") => Value::from(otherwise),
            Some(line) => Value::from(line),
        };
        let body = json!({
            "ContextIdentifier": TENANT,
            "Api": line("https://online2.superoffice.com/Cust12345/api"),
            "State": line("Running"),
            "ValidUntil": line("2026-02-23T09:52:01.9342965Z"),
            "Endpoint": line("https://online2.superoffice.com/Cust12345"),
            "Version": line("Release_11.10_2026.02.24-02"),
        });
        check(body.to_string().as_bytes());
    }
}

fn check(body: &[u8]) {
    let Ok(status) = read_status(body, tenant(), &ALLOWED, now()) else { return };
    let seconds = status.valid_until.duration_since(now()).as_secs();
    assert!((15..=3600).contains(&seconds), "{seconds}");
    assert!(status.version.chars().count() <= 128 && !status.version.contains(char::is_control));
    assert_eq!(status.web_api_uri.is_some(), status.state.usability() == Usability::Usable);
    if let Ok(Value::Object(body)) = serde_json::from_slice(body) {
        assert_eq!(body.get("ContextIdentifier").and_then(Value::as_str), Some(TENANT));
    }
    let Some(uri) = status.web_api_uri else { return };
    // Split by hand, as an independent check of the URI parser.
    let rest = uri.as_str().strip_prefix("https://").expect("https");
    let (host, path) = rest.split_once('/').expect("a path");
    assert_eq!(path, format!("{TENANT}/api"));
    let before = host.strip_suffix(ALLOWED_HOST).expect("an allowed host");
    assert!(before.is_empty() || before.ends_with('.'), "{uri}");
    let letters = |b: u8| b.is_ascii_graphic() && !b"@:/?#\\%[]<>^|".contains(&b);
    assert!(host.bytes().all(letters), "{uri}");
}
