use std::sync::LazyLock;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, encode};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::superoffice::{jwks::JwkSet, jwt::MAX_JWT_BYTES};

pub(in crate::superoffice) const NOW: i64 = 1_771_837_200;
const IDENTITY: &str = "http://schemes.superoffice.net/identity/";
pub(in crate::superoffice) const EXPECTED: Expected<'_> = Expected {
    issuer: "https://sod.superoffice.com",
    client_id: "6cf25376616343b38d14ddcd804f2891",
    nonce: Some("n-0S6_WzA2Mj"),
};

fn now() -> Timestamp {
    Timestamp::from_second(NOW).unwrap()
}

/// Observed claims of an administrator. The claims in `other` replace them; null removes one. Names like `ctx` have no
/// prefix.
pub(in crate::superoffice) fn claims(other: &[(&str, Value)]) -> Value {
    let mut claims = json!({
        "sub": "anna.admin@example.com",
        "iss": EXPECTED.issuer, "aud": EXPECTED.client_id, "nonce": EXPECTED.nonce,
        "iat": NOW, "nbf": NOW - 60, "exp": NOW + 300,
        "associateid": "5", "identityprovider": "central-superid",
        "email": "anna.admin@example.com", "upn": "anna.admin@example.com",
        "so_primary_email_address": "anna@example.com", "initials": "AA",
        "is_administrator": "True", "ctx": "Cust26759", "company_name": "Blåbær AS",
        "serial": "1801550193",
        "netserver_url": "https://sod.superoffice.com/Cust26759/Remote/Services88/",
        "system_token": "SuperOffice DevNet Node OIDC-8k8Q7DmBgo",
    });
    for (name, value) in other {
        claims[name] = value.clone();
    }
    let name = |name: String| match name.as_str() {
        "sub" | "iss" | "aud" | "azp" | "nonce" | "iat" | "nbf" | "exp" => name,
        _ => format!("{IDENTITY}{name}"),
    };
    let Value::Object(claims) = claims else { unreachable!() };
    let kept = claims.into_iter().filter(|(_, value)| !value.is_null());
    kept.map(|(key, value)| (name(key), value)).collect()
}

pub(in crate::superoffice) fn signed(claims: &Value) -> SecretString {
    static KEY: LazyLock<EncodingKey> = LazyLock::new(|| {
        let pem = include_bytes!("../../../tests/fixtures/keys/rsa-2048.pkcs8.pem");
        EncodingKey::from_rsa_pem(pem).unwrap()
    });
    encode(&Header::new(Algorithm::RS256), claims, &KEY).unwrap().into()
}

fn open_signed(
    jwt: &SecretString,
    expected: Expected<'_>,
) -> Result<VerifiedIdentity, UpstreamError> {
    static KEY: LazyLock<DecodingKey> = LazyLock::new(|| {
        let pem = include_bytes!("../../../tests/fixtures/keys/public.pem");
        DecodingKey::from_rsa_pem(pem).unwrap()
    });
    read_header(jwt)?;
    validate_with_key(&KEY, jwt, expected, now())
}

fn read(other: &[(&str, Value)]) -> Result<VerifiedIdentity, UpstreamError> {
    open_signed(&signed(&claims(other)), EXPECTED)
}

/// Returns the reason of the rejection, which repeats no received data.
fn why(result: Result<VerifiedIdentity, UpstreamError>) -> String {
    match result {
        Err(UpstreamError::InvalidResponse(why)) => why.replace("id_token: ", ""),
        other => panic!("{other:?}"),
    }
}

#[test]
fn reads_the_identity_from_observed_claims() {
    let identity = read(&[]).unwrap();
    assert_eq!(identity.tenant.to_string(), "Cust26759");
    assert_eq!(identity.associate_id.get(), 5);
    assert_eq!(identity.user_principal_name, "anna.admin@example.com");
    assert_eq!(identity.email, "anna@example.com");
    assert_eq!(identity.full_name, "");
    assert_eq!(identity.company_name, "Blåbær AS");
    assert!(identity.is_administrator);
    let token = identity.system_user_token.unwrap();
    assert_eq!(token.secret().expose_secret(), "SuperOffice DevNet Node OIDC-8k8Q7DmBgo");
}

#[test]
fn accepts_the_variations_between_versions_and_people() {
    let as_text = [("iat", json!(NOW.to_string())), ("associateid", json!(5))];
    assert_eq!(read(&as_text).unwrap().associate_id.get(), 5);
    assert!(read(&[("nbf", Value::Null)]).is_ok());
    assert!(read(&[("aud", json!([EXPECTED.client_id]))]).is_ok());
    assert!(read(&[("azp", json!(EXPECTED.client_id))]).is_ok());
    let names = [("firstname", json!("Anna")), ("lastname", json!("Admin"))];
    assert_eq!(read(&names).unwrap().full_name, "Anna Admin");
    for (flag, administrator) in [
        (json!("True"), true),
        (json!("true"), true),
        (json!(true), true),
        (json!("False"), false),
        (json!("yes"), false),
        (json!(false), false),
        (Value::Null, false),
    ] {
        let identity = read(&[("is_administrator", flag.clone())]).unwrap();
        assert_eq!(identity.is_administrator, administrator, "{flag}");
    }
    for none in [Value::Null, json!(""), json!(" ")] {
        assert!(read(&[("system_token", none)]).unwrap().system_user_token.is_none());
    }
    for (sub, upn) in [
        ("ANNA.ADMIN@example.com", "anna.admin@example.com"),
        ("A\u{30a}SE@example.com", "\u{e5}se@example.com"),
        ("\u{e5}se@example.com", "\u{c5}se@example.com"),
    ] {
        let identity = read(&[("sub", json!(sub)), ("upn", json!(upn))]).unwrap();
        assert_eq!(identity.user_principal_name, upn);
    }
    let least = read(&[
        ("upn", Value::Null),
        ("email", Value::Null),
        ("so_primary_email_address", Value::Null),
        ("company_name", Value::Null),
    ]);
    let least = least.unwrap();
    assert_eq!(least.user_principal_name, "anna.admin@example.com");
    assert_eq!((least.email.as_str(), least.company_name.as_str()), ("", ""));
}

#[test]
fn rejects_invalid_claims_without_repeating_them() {
    let unread = "claims missing or of other types than documented";
    for (name, value, wanted) in [
        ("iss", json!("https://sod.superoffice.com/"), "another issuer"),
        ("iss", json!("https://online.superoffice.com"), "another issuer"),
        ("iss", json!("https://sod.superoffice.com.evil.example"), "another issuer"),
        ("iss", json!("SuperOffice AS"), "another issuer"),
        ("iss", Value::Null, unread),
        ("aud", json!("00000000000000000000000000000000"), "another audience"),
        ("aud", json!("spn:6cf25376616343b38d14ddcd804f2891"), "another audience"),
        ("aud", json!([]), "another audience"),
        ("aud", json!([EXPECTED.client_id, "canary"]), "another audience"),
        ("aud", Value::Null, unread),
        ("azp", json!("canary"), "another audience"),
        ("exp", json!(NOW - 60), "expired; compare clocks"),
        ("exp", json!(i64::MAX), "impossible time"),
        ("exp", json!("1771837500"), unread),
        ("exp", Value::Null, unread),
        ("nbf", json!(NOW + 61), "not yet valid; compare clocks"),
        ("iat", json!(NOW + 61), "issued in the future; compare clocks"),
        ("iat", json!("canary"), "iat is not a time"),
        ("iat", Value::Null, unread),
        ("nonce", json!("canary"), "not the nonce of this sign-in"),
        ("nonce", json!("n-0S6_WzA2Mj0"), "not the nonce of this sign-in"),
        ("nonce", json!(""), "not the nonce of this sign-in"),
        ("nonce", Value::Null, "not the nonce of this sign-in"),
        ("nonce", json!(5), unread),
        ("ctx", json!("canary"), "ctx is not a context identifier"),
        ("ctx", json!("cust26759"), "ctx is not a context identifier"),
        ("ctx", json!("Cust26759 "), "ctx is not a context identifier"),
        ("ctx", Value::Null, unread),
        ("associateid", json!("0"), "associateid is not an associate id"),
        ("associateid", json!(0), "associateid is not an associate id"),
        ("associateid", json!(-5), "associateid is not an associate id"),
        ("associateid", json!("05"), "associateid is not an associate id"),
        ("associateid", json!("+5"), "associateid is not an associate id"),
        ("associateid", json!(1_i64 << 32 | 5), "associateid is not an associate id"),
        ("associateid", json!(5.5), unread),
        ("associateid", Value::Null, unread),
        ("upn", json!("canary@example.com"), "upn and sub are not the same"),
        ("upn", json!("\u{430}nna.admin@example.com"), "upn and sub are not the same"),
        ("sub", json!("canary@example.com"), "upn and sub are not the same"),
        ("sub", Value::Null, unread),
        ("system_token", json!("canary\n-8k8Q7DmBgo"), "system_token is not a token"),
        ("company_name", json!(5), unread),
    ] {
        assert_eq!(why(read(&[(name, value.clone())])), wanted, "{name}: {value}");
    }
    for name in ["", " anna", "an\u{0}na", &"x".repeat(321)] {
        let both = [("sub", json!(name)), ("upn", json!(name))];
        assert_eq!(why(read(&both)), "upn is not a user name");
    }
}

#[test]
fn allows_a_clock_difference_of_one_minute() {
    assert!(read(&[("exp", json!(NOW - 59))]).is_ok());
    assert!(read(&[("nbf", json!(NOW + 60))]).is_ok());
    assert!(read(&[("iat", json!(NOW + 60))]).is_ok());
}

#[test]
fn a_refresh_requires_no_nonce() {
    let expected = Expected { nonce: None, ..EXPECTED };
    for nonce in [Value::Null, json!("of a sign-in long ago")] {
        assert!(open_signed(&signed(&claims(&[("nonce", nonce)])), expected).is_ok());
    }
}

#[test]
fn removes_control_characters_and_limits_names() {
    let name = |name: &str| read(&[("company_name", json!(name))]).unwrap().company_name;
    assert_eq!(name("A\u{1b}[2J\u{9b}31m\r\nB"), "A[2J31mB");
    assert_eq!(name(&"å".repeat(10_000)), "å".repeat(256));
}

#[test]
fn accepts_only_an_rs256_signature_of_the_key() {
    let good = signed(&claims(&[]));
    let [header, body, signature] =
        <[&str; 3]>::try_from(good.expose_secret().split('.').collect::<Vec<_>>()).unwrap();
    let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let other = signed(&claims(&[("ctx", json!("Cust1"))]));
    let other = other.expose_secret().split('.').nth(1).unwrap();
    let hmac = {
        let key = include_bytes!("../../../tests/fixtures/keys/public.pem");
        let key = EncodingKey::from_secret(key);
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims(&[]), &key).unwrap()
    };
    let foreign = {
        let key = include_bytes!("../../../tests/fixtures/keys/next.pkcs8.pem");
        let key = EncodingKey::from_rsa_pem(key).unwrap();
        jsonwebtoken::encode(&Header::new(Algorithm::RS256), &claims(&[]), &key).unwrap()
    };
    for (jwt, wanted) in [
        (format!("{}.{body}.", encode(r#"{"alg":"none"}"#)), "no JWT header"),
        (format!("{}.{body}.{signature}", encode(r#"{"alg":"none"}"#)), "no JWT header"),
        (hmac, "not signed with RS256"),
        (format!("{}.{body}.{signature}", encode(r#"{"alg":"PS256"}"#)), "not signed with RS256"),
        (foreign, "wrong signature"),
        (format!("{header}.{other}.{signature}"), "wrong signature"),
        (format!("{header}.{body}."), "wrong signature"),
        (
            format!("{}.{body}.{signature}", encode(r#"{"alg":"RS256","crit":["x"],"x":1}"#)),
            "has critical header parameters that are not supported",
        ),
        (format!("{header}.{body}"), "no JWT header"),
        (format!("{header}.{body}.{signature}.{signature}"), "no JWT header"),
        (String::new(), "no JWT header"),
        ("8A:Cust1.x".to_owned(), "no JWT header"),
        ("A".repeat(MAX_JWT_BYTES + 1), "too long"),
    ] {
        assert_eq!(why(open_signed(&jwt.as_str().into(), EXPECTED)), wanted, "{jwt:.60}");
    }
}

#[test]
fn finds_the_key_of_the_2022_key_set_by_kid_and_x5t() {
    let body = include_bytes!("../../../tests/fixtures/jwks.sod.2022.json");
    let keys = JwkSet::read(body, std::time::Duration::ZERO).unwrap();
    let kid = Some("16B7FB8C3F9AB06885A800C64E64C97C4AB5E98C");
    let x5t = Some("Frf7jD-asGiFqADGTmTJfEq16Yw");
    for (kid, x5t, known) in [
        (kid, x5t, true),
        (kid, None, true),
        (None, x5t, true),
        (x5t, None, true),
        (None, None, false),
        (Some("SEkDp3Mrkox5gKOdOOlH6hGfEIk"), None, false),
    ] {
        assert_eq!(keys.find(kid, x5t).is_some(), known, "{kid:?} {x5t:?}");
    }
    // Signed with another key.
    let key = keys.find(kid, x5t).unwrap();
    let refused = validate_with_key(&key, &signed(&claims(&[])), EXPECTED, now());
    assert_eq!(why(refused), "wrong signature");
}

proptest! {
    #[test]
    fn no_text_makes_reading_panic(text in "(eyJhbGciOiJSUzI1NiJ9)?[A-Za-z0-9_.-]{0,60}|\\PC{0,60}") {
        let _ = open_signed(&text.as_str().into(), EXPECTED);
    }

    #[test]
    fn accepted_tokens_are_current_and_for_this_client(
        iss in "https://sod\\.superoffice\\.com|\\PC{0,20}",
        aud in "6cf25376616343b38d14ddcd804f2891|\\PC{0,9}",
        nonce in "n-0S6_WzA2Mj|\\PC{0,9}",
        exp in prop_oneof![NOW - 120..NOW + 600, any::<i64>()],
        iat in prop_oneof![NOW - 600..NOW + 120, any::<i64>()],
        ctx in "Cust[0-9]{1,11}|\\PC{0,9}",
        associate in prop_oneof![-2..9_i64, any::<i64>()],
    ) {
        let claims = claims(&[
            ("iss", json!(iss)), ("aud", json!(aud)), ("nonce", json!(nonce)), ("exp", json!(exp)),
            ("iat", json!(iat)), ("ctx", json!(ctx)), ("associateid", json!(associate)),
        ]);
        let times = Timestamp::MIN.as_second()..=Timestamp::MAX.as_second();
        let right = iss == EXPECTED.issuer
            && aud == EXPECTED.client_id
            && Some(nonce.as_str()) == EXPECTED.nonce
            && times.contains(&exp) && exp > NOW - 60
            && times.contains(&iat) && iat <= NOW + 60
            && ctx.parse::<ContextIdentifier>().is_ok()
            && (1..=i64::from(i32::MAX)).contains(&associate);
        prop_assert_eq!(open_signed(&signed(&claims), EXPECTED).is_ok(), right);
    }
}
