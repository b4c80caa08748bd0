//! The signed response with a ticket: an accepted one is from SuperOffice, current, and for the requested tenant.
#![no_main]

use std::sync::LazyLock;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use libfuzzer_sys::fuzz_target;
use secrecy::ExposeSecret as _;
use serde_json::Value;
use tenant_gateway::{domain::ticket_tenant, fuzzing::PublicKeys};
use tenant_gateway_fuzz::{KID, TENANT, now, public_keys, sign_jwt, tenant};

static KEYS: LazyLock<PublicKeys> = LazyLock::new(public_keys);

fuzz_target!(init: seed_is_accepted(), |data: &[u8]| fuzz(data));

/// A valid response is accepted; otherwise the fuzzer would reach little code.
fn seed_is_accepted() {
    assert!(
        KEYS.open_ticket(
            &sign_claims(include_bytes!("../corpus_seed/jwt/claims")).as_str().into(),
            tenant(),
            now()
        )
        .is_ok()
    );
}

/// Inputs: claims, or header and claims, to be signed with a known key; or a complete token.
fn fuzz(data: &[u8]) {
    match data {
        [b'{', ..] => check(&sign_claims(data)),
        [b'h', rest @ ..] => {
            let end = rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len());
            let (header, claims) = rest.split_at(end);
            check(&sign_jwt(header, claims.get(1..).unwrap_or_default()));
        }
        _ => {
            if let Ok(text) = std::str::from_utf8(data) {
                check(text);
            }
        }
    }
}

fn check(jwt: &str) {
    let Ok(issued) = KEYS.open_ticket(&jwt.into(), tenant(), now()) else { return };
    assert!(ticket_tenant(&issued.value).is_ok_and(|inside| inside.is_none_or(|t| t == tenant())));

    let company = &issued.company_name;
    assert!(company.chars().count() <= 256 && !company.contains(char::is_control));
    let parts: Vec<&str> = jwt.split('.').collect();
    assert_eq!(parts.len(), 3);
    let part = |index: usize| URL_SAFE_NO_PAD.decode(parts[index]).expect("base64url");
    let header: Value = serde_json::from_str(&String::from_utf8_lossy(&part(0))).expect("a header");
    assert_eq!(header["alg"], "RS256");
    assert!([&header["kid"], &header["x5t"]].iter().any(|id| **id == KID) || names_no_key(&header));
    // Only tokens signed by the fixture key reach this line, so the claims can be checked again.
    // Ignored claims may contain invalid UTF-8.
    let claims: Value = serde_json::from_str(&String::from_utf8_lossy(&part(1))).expect("claims");
    if claims.is_array() {
        return; // read in the order of the fields
    }
    let claim = |name: &str| &claims[format!("http://schemes.superoffice.net/identity/{name}")];
    assert_eq!(claims["iss"], "SuperOffice AS");
    assert_eq!(*claim("ctx"), TENANT);
    assert_eq!(*claim("ticket"), issued.value.expose_secret());
    let seconds = now().as_second();
    assert!(claims["exp"].as_i64().is_some_and(|exp| exp > seconds - 60));
    assert!(claims["nbf"].as_i64().is_none_or(|nbf| nbf <= seconds + 60));
    let audience = format!("spn:{}", claim("serial").as_str().expect("a serial number"));
    let listed =
        claims["aud"].as_array().is_some_and(|all| all.iter().any(|aud| *aud == *audience));
    assert!(listed || claims["aud"] == *audience);
}

fn sign_claims(claims: &[u8]) -> String {
    sign_jwt(format!(r#"{{"alg":"RS256","kid":"{KID}"}}"#).as_bytes(), claims)
}

fn names_no_key(header: &Value) -> bool {
    header["kid"].is_null() && header["x5t"].is_null()
}
