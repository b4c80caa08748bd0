//! Signed tokens (RFC 7519, in the compact form of RFC 7515, 7.1): parsing and the checks of the claims.

use std::{borrow::Cow, fmt};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::{SignedDuration, Timestamp};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error as _, IgnoredAny, MapAccess, Visitor},
};
use serde_json::Value;

use super::issuer_rules::{IssuerRules, SUBJECT};
use crate::domain::{TokenAlgorithm, starts_with_ignore_case};

/// Maximum size of a token, in bytes. Servers also reject headers of this size.
const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// A parsed token that is not verified. Its content is untrusted.
pub(super) struct UnverifiedToken<'a> {
    pub(super) algorithm: TokenAlgorithm,
    pub(super) kid: Option<String>,
    pub(super) claims: Claims,
    /// The signed text.
    pub(super) signed: &'a str,
    /// The signature, decoded from base64url.
    pub(super) signature: Vec<u8>,
}

/// The registered claims, each at most once. Other claims are ignored.
#[derive(Deserialize)]
pub(super) struct Claims {
    /// The whole JSON text, for a `caller_claim` that is not a registered claim.
    #[serde(skip)]
    json: Vec<u8>,
    pub(super) iss: String,
    sub: Option<String>,
    aud: Option<Audience>,
    exp: Option<NumericDate>,
    nbf: Option<NumericDate>,
    iat: Option<NumericDate>,
}

/// The result of checking the claims.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CheckedClaims<'a> {
    /// The value of the issuer's `caller_claim`.
    pub(super) subject: Cow<'a, str>,
    pub(super) expiry: Timestamp,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    #[serde(default, deserialize_with = "present")]
    crit: bool,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

/// Seconds since 1970, with or without a fraction (RFC 7519, 2).
struct NumericDate(Timestamp);

impl<'de> Deserialize<'de> for NumericDate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = serde_json::Number::deserialize(deserializer)?;
        let instant = match number.as_i64() {
            Some(seconds) => Timestamp::from_second(seconds).ok(),
            None => number
                .as_f64()
                .and_then(|seconds| SignedDuration::try_from_secs_f64(seconds).ok())
                .and_then(|since| Timestamp::from_duration(since).ok()),
        };
        instant.map(Self).ok_or_else(|| serde::de::Error::custom("impossible time"))
    }
}

/// Reports that the member is present, whatever its value: it marks an extension that must be applied.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
}

impl<'a> UnverifiedToken<'a> {
    /// Parses a token.
    pub(super) fn read(token: &'a str) -> Result<Self, &'static str> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err("it is oversized: more than 8 KiB");
        }
        let (signed, signature) = token.rsplit_once('.').ok_or("it does not have three parts")?;
        let (header, claims) = signed.split_once('.').ok_or("it does not have three parts")?;
        if claims.contains('.') || [header, claims, signature].iter().any(|part| part.is_empty()) {
            return Err("it does not have three parts");
        }
        let signature =
            URL_SAFE_NO_PAD.decode(signature).map_err(|_| "its signature is not base64url")?;
        let (header, _): (Header, _) = part(header)
            .ok_or("its header is not a JSON object with an algorithm, or has a member twice")?;
        if header.crit {
            return Err("its header requires an extension (crit)");
        }
        let algorithm = TokenAlgorithm::from_name(&header.alg)
            .ok_or_else(|| unsupported_algorithm(&header.alg))?;
        let (claims, json): (Claims, _) = part(claims).ok_or(
            "its claims are not a JSON object, have a member twice, lack the issuer, or have a type other than registered",
        )?;
        let claims = Claims { json, ..claims };
        Ok(Self { algorithm, kid: header.kid, claims, signed, signature })
    }
}

fn unsupported_algorithm(name: &str) -> &'static str {
    if name.eq_ignore_ascii_case("none") {
        "it is not signed with a key: its algorithm is none"
    } else if starts_with_ignore_case(name, "HS") {
        "it is not signed with a private key but with a shared secret (HMAC), which every verifier knows"
    } else {
        "it is not signed with an algorithm that is supported: RS256, RS384, RS512, PS256, PS384, PS512, ES256, \
         ES384, ES512 or Ed25519 (EdDSA)"
    }
}

/// Decodes a part of the token, and returns the value and its JSON text.
fn part<T: DeserializeOwned>(part: &str) -> Option<(T, Vec<u8>)> {
    let json = URL_SAFE_NO_PAD.decode(part).ok()?;
    // Rejects arrays, from which serde would fill the fields in order.
    let object = json.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{');
    let read = object.then(|| serde_json::from_slice(&json).ok()).flatten()?;
    Some((read, json))
}

/// Finds one member of a JSON object, which must not occur twice.
struct Member<'a>(&'a str);

impl<'de> Visitor<'de> for Member<'_> {
    type Value = Option<Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Option<Value>, A::Error> {
        let mut found = None;
        while let Some(name) = map.next_key::<Cow<'_, str>>()? {
            if name != self.0 {
                map.next_value::<IgnoredAny>()?;
            } else if found.replace(map.next_value()?).is_some() {
                return Err(A::Error::custom("twice"));
            }
        }
        Ok(found)
    }
}

impl Claims {
    /// Checks the claims against the configuration of their issuer. Does not verify the signature.
    pub(super) fn check(
        &self,
        rules: &IssuerRules,
        now: Timestamp,
    ) -> Result<CheckedClaims<'_>, Cow<'static, str>> {
        if self.iss != rules.issuer {
            return Err("it is from another issuer".into());
        }
        let ours = |audience: &String| rules.audiences.contains(audience);
        let addressed = match &self.aud {
            None => false,
            Some(Audience::One(audience)) => ours(audience),
            Some(Audience::Many(all)) => all.iter().any(ours),
        };
        if !addressed {
            return Err("it is for another audience".into());
        }
        let expiry = self.check_times(rules, now)?;
        Ok(CheckedClaims { subject: self.subject(&rules.caller_claim)?, expiry })
    }

    fn check_times(&self, rules: &IssuerRules, now: Timestamp) -> Result<Timestamp, &'static str> {
        let NumericDate(expiry) = *self.exp.as_ref().ok_or("it has no expiry")?;
        if now.duration_since(expiry) >= rules.leeway {
            return Err("it has expired; compare clocks");
        }
        let future = |time: &NumericDate| time.0.duration_since(now) > rules.leeway;
        if self.nbf.as_ref().is_some_and(future) {
            return Err("it is not yet valid; compare clocks");
        }
        if self.iat.as_ref().is_some_and(future) {
            return Err("it was issued in the future; compare clocks");
        }
        if let Some(longest) = rules.max_lifetime {
            let NumericDate(issued) = *self
                .iat
                .as_ref()
                .ok_or("it does not say when it was issued, and max_lifetime is set")?;
            let lifetime = expiry.duration_since(issued);
            if !lifetime.is_negative() && lifetime.unsigned_abs() > longest {
                return Err("it was issued for longer than max_lifetime");
            }
        }
        Ok(expiry)
    }

    /// Returns the claimed issuer and subject, to recognize a caller before verification.
    pub(super) fn claimed_identity(&self) -> Vec<u8> {
        [self.iss.as_bytes(), b"\0", self.sub.as_deref().unwrap_or_default().as_bytes()].concat()
    }

    /// Returns the claim that names the caller.
    fn subject(&self, claim: &str) -> Result<Cow<'_, str>, Cow<'static, str>> {
        if claim == SUBJECT {
            return self.sub.as_deref().map(Cow::Borrowed).ok_or("it has no subject".into());
        }
        let found = serde_json::Deserializer::from_slice(&self.json).deserialize_map(Member(claim));
        match found {
            Ok(Some(Value::String(text))) => Ok(text.into()),
            Ok(Some(_)) => Err(format!("its claim {claim:?} (caller_claim) is not a string").into()),
            Ok(None) => Err(format!(
                "it has no claim {claim:?} (caller_claim): have the issuer add it, or name another claim"
            )
            .into()),
            Err(_) => Err(format!("its claims name {claim:?} (caller_claim) twice").into()),
        }
    }
}
