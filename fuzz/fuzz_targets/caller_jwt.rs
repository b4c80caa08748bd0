//! Callers' tokens: an accepted token is from the issuer, for this audience, current, and has no reserved caller id.
#![no_main]

use std::{sync::LazyLock, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use tenant_gateway::{access::IssuerRules, fuzzing::TokenIssuer};
use tenant_gateway_fuzz::{KID, jwks, now, sign_jwt};

static ISSUER: LazyLock<TokenIssuer> =
    LazyLock::new(|| TokenIssuer::read(rules(), jwks().as_bytes()).expect("a key"));

fuzz_target!(init: seed_is_accepted(), |data: &[u8]| fuzz(data));

fn rules() -> IssuerRules {
    IssuerRules {
        spiffe_trust_domain: Some("example.org".to_owned()),
        max_lifetime: Some(Duration::from_secs(86_400)),
        ..IssuerRules::new("https://issuer.example", "tenant-gateway")
    }
}

/// A valid token is accepted; otherwise the fuzzer would reach little code.
fn seed_is_accepted() {
    let claims = include_bytes!("../corpus_seed/caller_jwt/claims");
    assert!(ISSUER.caller_id(&sign_claims(claims), now()).is_ok());
}

/// Inputs: claims, or header and claims, to be signed with a known key; a key set; or a complete token.
fn fuzz(data: &[u8]) {
    match data {
        [b'{', ..] => check(&sign_claims(data)),
        [b'h', rest @ ..] => {
            let end = rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len());
            let (header, claims) = rest.split_at(end);
            check(&sign_jwt(header, claims.get(1..).unwrap_or_default()));
        }
        [b'k', rest @ ..] => drop(TokenIssuer::read(rules(), rest)),
        _ => {
            if let Ok(text) = std::str::from_utf8(data) {
                check(text);
            }
        }
    }
}

fn check(jwt: &str) {
    let Ok(id) = ISSUER.caller_id(jwt, now()) else { return };
    assert!(jwt.len() <= 8 * 1024);
    let parts: Vec<&str> = jwt.split('.').collect();
    assert_eq!(parts.len(), 3);
    let part = |index: usize| -> Value {
        let bytes = URL_SAFE_NO_PAD.decode(parts[index]).expect("base64url");
        serde_json::from_str(&String::from_utf8_lossy(&bytes)).expect("JSON")
    };
    let (header, claims) = (part(0), part(1));
    // An RSA key, which verifies several algorithms.
    assert!(
        header["alg"].as_str().is_some_and(|alg| alg.starts_with("RS") || alg.starts_with("PS"))
    );
    assert!(header["kid"] == KID || header["kid"].is_null());
    assert!(header.get("crit").is_none());

    assert_eq!(claims["sub"], *id);
    assert_eq!(claims["iss"], "https://issuer.example");
    let listed =
        claims["aud"].as_array().is_some_and(|all| all.iter().any(|a| *a == "tenant-gateway"));
    assert!(listed || claims["aud"] == "tenant-gateway");
    let seconds = now().as_second() as f64;
    assert!(claims["exp"].as_f64().is_some_and(|exp| exp > seconds - 30.0));
    assert!(claims["nbf"].as_f64().is_none_or(|nbf| nbf <= seconds + 30.0));
    assert!(claims["iat"].as_f64().is_some_and(|iat| iat <= seconds + 30.0));

    assert!((1..=512).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic()));
    let lower = id.to_ascii_lowercase();
    assert!(lower != "anonymous" && !lower.starts_with("cli:"));
    assert!(!lower.starts_with("spiffe://") || id.starts_with("spiffe://example.org/"));
}

fn sign_claims(claims: &[u8]) -> String {
    sign_jwt(format!(r#"{{"alg":"RS256","kid":"{KID}"}}"#).as_bytes(), claims)
}
