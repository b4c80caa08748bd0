//! JSON web tokens, genuine and forged.

use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};

use crate::faults::Fault;
use crate::keys::SigningKey;
use crate::lock::read;
use crate::platform::Platform;

/// The prefix of SuperOffice's own claims (documented).
pub(crate) const CLAIM_PREFIX: &str = "http://schemes.superoffice.net/identity/";

/// Seconds between `nbf` and `iat` (observed).
const NBF_SECONDS_BEFORE_ISSUE: i64 = 60;

/// Lifetime of a token in seconds (observed).
const LIFETIME_SECONDS: i64 = 300;

/// Seconds since the expiry of a token that is expired on purpose.
const EXPIRED_SINCE_SECONDS: i64 = 3600;

/// Returns `iat`, `nbf` and `exp` of a token issued now, or of one that has expired if the fault
/// says so.
pub(crate) fn time_claims(platform: &Platform, fault: Option<&Fault>) -> Map<String, Value> {
    let mut issued_at = platform.clock.now().as_second();
    if fault == Some(&Fault::ExpiredToken) {
        issued_at -= EXPIRED_SINCE_SECONDS + LIFETIME_SECONDS;
    }
    let mut claims = Map::new();
    claims.insert("iat".to_owned(), json!(issued_at));
    claims.insert("nbf".to_owned(), json!(issued_at - NBF_SECONDS_BEFORE_ISSUE));
    claims.insert("exp".to_owned(), json!(issued_at + LIFETIME_SECONDS));
    claims
}

/// Signs claims with the current key, or as a signature fault says.
pub(crate) fn encode_token(
    platform: &Platform,
    claims: Map<String, Value>,
    fault: Option<&Fault>,
) -> Result<String, Unspecified> {
    let payload = Value::Object(claims);
    let current = read(&platform.keys).current();
    match fault {
        Some(Fault::ForeignKey) => sign(platform.foreign_key()?, &payload),
        Some(Fault::AlgNone) => {
            let header = json!({ "alg": "none", "typ": "JWT" });
            Ok(format!("{}.", signing_input(&header, &payload)))
        }
        Some(Fault::Hs256PublicKey) => {
            let input = signing_input(&header("HS256", &current), &payload);
            let secret = hmac::Key::new(hmac::HMAC_SHA256, current.public_pem.as_bytes());
            let tag = hmac::sign(&secret, input.as_bytes());
            Ok(format!("{input}.{}", URL_SAFE_NO_PAD.encode(tag)))
        }
        Some(Fault::WrongSignature) => {
            // A valid signature over other data.
            let input = signing_input(&header("RS256", &current), &payload);
            let signature = current.sign(b"something else")?;
            Ok(format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature)))
        }
        _ => sign(&current, &payload),
    }
}

fn sign(key: &SigningKey, payload: &Value) -> Result<String, Unspecified> {
    let input = signing_input(&header("RS256", key), payload);
    let signature = key.sign(input.as_bytes())?;
    Ok(format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature)))
}

fn header(algorithm: &str, key: &SigningKey) -> Value {
    json!({ "alg": algorithm, "kid": key.kid, "x5t": key.x5t, "typ": "JWT" })
}

fn signing_input(header: &Value, payload: &Value) -> String {
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}", encode(header), encode(payload))
}
