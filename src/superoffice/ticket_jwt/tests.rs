use std::sync::LazyLock;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jsonwebtoken::{Algorithm, EncodingKey, encode};
use proptest::prelude::*;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use super::*;
use crate::superoffice::jwt::MAX_JWT_BYTES;

const NOW: i64 = 1_771_837_200;
const IDENTITY: &str = "http://schemes.superoffice.net/identity/";

fn tenant() -> ContextIdentifier {
    "Cust12345".parse().unwrap()
}

fn now() -> Timestamp {
    Timestamp::from_second(NOW).unwrap()
}

fn ticket(tenant: &str) -> String {
    let inside = format!("07f1edd1de08b1acd68471699a4fb392;2087315043;{tenant}");
    let bytes: Vec<u8> = inside.encode_utf16().flat_map(u16::to_le_bytes).collect();
    format!("7T:{}", STANDARD.encode(bytes))
}

/// Returns the documented claims, with one of them changed.
fn claims(name: &str, value: Value) -> Value {
    let mut claims = json!({
        "iss": ISSUER, "aud": "spn:123", "exp": NOW + 300, "nbf": NOW,
        format!("{IDENTITY}ctx"): "Cust12345",
        format!("{IDENTITY}serial"): "123",
        format!("{IDENTITY}ticket"): ticket("Cust12345"),
    });
    claims[name] = value;
    claims
}

fn signed(claims: &Value) -> SecretString {
    static KEY: LazyLock<EncodingKey> = LazyLock::new(|| {
        let pem = include_bytes!("../../../tests/fixtures/keys/rsa-2048.pkcs8.pem");
        EncodingKey::from_rsa_pem(pem).unwrap()
    });
    encode(&Header::new(Algorithm::RS256), claims, &KEY).unwrap().into()
}

fn open_claims(claims: &Value) -> Result<IssuedTicket, UpstreamError> {
    static KEY: LazyLock<DecodingKey> = LazyLock::new(|| {
        let pem = include_bytes!("../../../tests/fixtures/keys/public.pem");
        DecodingKey::from_rsa_pem(pem).unwrap()
    });
    validate_with_key(&KEY, &signed(claims), tenant(), now())
}

#[test]
fn reads_the_ticket_from_the_documented_claims() {
    let issued = open_claims(&claims("iss", ISSUER.into())).unwrap();
    assert_eq!(issued.value.expose_secret(), ticket("Cust12345"));
    let many = claims("aud", json!(["spn:1", "spn:123"]));
    assert!(open_claims(&many).is_ok());
}

#[test]
fn rejects_invalid_claims() {
    let identity = |name: &str| format!("{IDENTITY}{name}");
    for (name, value) in [
        ("iss", json!("SuperOffice")),
        ("aud", json!("spn:124")),
        ("aud", json!([])),
        ("exp", json!(NOW - 60)),
        ("exp", json!(i64::MAX)),
        ("exp", json!("never")),
        ("nbf", json!(NOW + 61)),
        (&identity("ctx"), json!("Cust12346")),
        (&identity("ctx"), Value::Null),
        (&identity("ticket"), json!("8A:x")),
        (&identity("ticket"), json!(ticket("Cust12346"))),
    ] {
        let refused = open_claims(&claims(name, value));
        assert!(matches!(refused, Err(UpstreamError::InvalidResponse(_))), "{name}");
    }
}

#[test]
fn removes_control_characters_and_limits_the_company_name() {
    let name = |name: &str| {
        let claims = claims(&format!("{IDENTITY}company_name"), name.into());
        open_claims(&claims).unwrap().company_name
    };
    assert_eq!(name("Blåbær & Sønner AS"), "Blåbær & Sønner AS");
    assert_eq!(name("A\u{1b}[2J\u{9b}31m\r\nB"), "A[2J31mB");
    assert_eq!(name(&"å".repeat(10_000)), "å".repeat(256));
}

#[test]
fn rejects_algorithms_other_than_rs256() {
    for header in [r#"{"alg":"none"}"#, r#"{"alg":"HS256"}"#, r#"{"alg":"PS256"}"#, "{}", ""] {
        let header = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(header);
        assert!(read_header(&format!("{header}.e30.AA").into()).is_err());
    }
    assert!(read_header(&"A".repeat(MAX_JWT_BYTES + 1).into()).is_err());
}

proptest! {
    #[test]
    fn no_text_makes_reading_panic(text in "(eyJhbGciOiJSUzI1NiJ9)?[A-Za-z0-9_.-]{0,60}|\\PC{0,60}") {
        let _ = read_header(&text.into());
    }

    #[test]
    fn accepted_tokens_are_current_and_for_the_tenant(
        iss in "SuperOffice AS|\\PC{0,20}",
        aud in "spn:123|\\PC{0,9}",
        exp in prop_oneof![NOW - 120..NOW + 600, any::<i64>()],
        nbf in prop::option::of(prop_oneof![NOW - 600..NOW + 120, any::<i64>()]),
        ctx in "Cust12345|Cust1234[5-9]|\\PC{0,9}",
        inside in "Cust12345|Cust1234[5-9]|\\PC{0,9}",
    ) {
        let claims = json!({
            "iss": iss, "aud": aud, "exp": exp, "nbf": nbf,
            format!("{IDENTITY}ctx"): ctx,
            format!("{IDENTITY}serial"): "123",
            format!("{IDENTITY}ticket"): ticket(&inside),
        });
        // A ticket without a readable tenant is accepted.
        let named: Option<ContextIdentifier> = inside.rsplit(';').next().unwrap().parse().ok();
        let right = iss == ISSUER
            && aud == "spn:123"
            && ctx == "Cust12345"
            && (NOW - 59..=Timestamp::MAX.as_second()).contains(&exp)
            && nbf.is_none_or(|nbf| (Timestamp::MIN.as_second()..=NOW + 60).contains(&nbf))
            && named.is_none_or(|named| named == tenant());
        prop_assert_eq!(open_claims(&claims).is_ok(), right);
    }
}
