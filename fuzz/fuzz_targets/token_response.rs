//! The response to a code exchange: the refresh token is found even if the rest is invalid, and an accepted rest is
//! from SuperOffice, current, and for this application and this sign-in.
#![no_main]

use std::sync::LazyLock;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use libfuzzer_sys::fuzz_target;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use tenant_gateway::{
    domain::access_token_tenant,
    fuzzing::{PublicKeys, read_refresh_token},
    ports::{UpstreamError, VerifiedAccess},
};
use tenant_gateway_fuzz::{KID, TENANT, now, public_keys, sign_jwt};

const ISSUER: &str = "https://sod.superoffice.com";
const CLIENT_ID: &str = "6cf25376616343b38d14ddcd804f2891";
const NONCE: &str = "n-0S6_WzA2Mj";

static KEYS: LazyLock<PublicKeys> = LazyLock::new(public_keys);

fuzz_target!(init: seed_is_accepted(), |data: &[u8]| fuzz(data));

/// A valid response is accepted; otherwise the fuzzer would reach little code.
fn seed_is_accepted() {
    let seed = include_bytes!("../corpus_seed/token_response/claims");
    assert!(open(answer(&seed[1..]).as_bytes()).is_ok());
}

/// Inputs: `c` and claims to be signed with a known key; or a complete response.
fn fuzz(data: &[u8]) {
    match data {
        [b'c', claims @ ..] => check(answer(claims).as_bytes()),
        _ => check(data),
    }
}

fn answer(claims: &[u8]) -> String {
    let header = format!(r#"{{"typ":"JWT","alg":"RS256","kid":"{KID}"}}"#);
    let answer = json!({
        "token_type": "Bearer",
        "access_token": format!("8A:{TENANT}.AR2s3phb0g=="),
        "expires_in": 3600,
        "refresh_token": "KSamN1Tp4sd26pZJSGK6JobrWOUWorIZ2Y5XxcAqX86K9qoZRp4d3lUH32F4fiT3",
        "id_token": sign_jwt(header.as_bytes(), claims),
    });
    answer.to_string()
}

fn open(body: &[u8]) -> Result<VerifiedAccess, UpstreamError> {
    KEYS.open_access(body, ISSUER, CLIENT_ID, NONCE, now())
}

fn check(body: &[u8]) {
    // A response that is JSON only after a repair cannot be compared.
    let parsed = serde_json::from_slice::<Value>(body).ok();
    if let Ok(Some(token)) = read_refresh_token(body) {
        let token = token.secret().expose_secret();
        assert!(!token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic()));
        if let Some(parsed) = &parsed {
            assert_eq!(parsed["refresh_token"].as_str().map(str::trim), Some(token));
        }
    }
    let Ok(access) = open(body) else { return };
    let identity = &access.identity;
    let named = access_token_tenant(&access.access_token).expect("can be sent in a header");
    assert!(named.is_none_or(|tenant| tenant == identity.tenant));
    assert!((1..=86_400).contains(&access.expires_in.as_secs()));
    for name in [&identity.full_name, &identity.email, &identity.company_name] {
        assert!(name.chars().count() <= 256 && !name.contains(char::is_control));
    }
    let user = &identity.user_principal_name;
    assert!((1..=320).contains(&user.len()) && !user.contains(char::is_control));
    // Only tokens signed by the fixture key reach this line, so the claims can be checked again.
    let Some(id_token) = parsed.as_ref().and_then(|parsed| parsed["id_token"].as_str()) else {
        return;
    };
    let claims = URL_SAFE_NO_PAD.decode(id_token.split('.').nth(1).expect("claims"));
    let claims = claims.expect("base64url");
    let Ok(claims) = serde_json::from_slice::<Value>(&claims) else { return };
    if claims.is_array() {
        return; // read in the order of the fields
    }
    let claim = |name: &str| &claims[format!("http://schemes.superoffice.net/identity/{name}")];
    assert_eq!(claims["iss"], ISSUER);
    assert!(claims["aud"] == CLIENT_ID || claims["aud"] == json!([CLIENT_ID]));
    assert_eq!(claims["nonce"], NONCE);
    assert_eq!(*claim("ctx"), identity.tenant.to_string());
    let associate = identity.associate_id.get();
    assert!(*claim("associateid") == associate || *claim("associateid") == associate.to_string());
    let seconds = now().as_second();
    assert!(claims["exp"].as_i64().is_some_and(|exp| exp > seconds - 60));
    assert!(claims["nbf"].as_i64().is_none_or(|nbf| nbf <= seconds + 60));
}
