//! Signed tokens (RFC 7519 in the form of RFC 7515, 7.1): what is read before the signature, and what is checked
//! after it.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::{SignedDuration, Timestamp};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, IgnoredAny},
};

use super::rules::IssuerRules;

/// Far more than a token with a reasonable number of claims has; servers refuse headers of this size too.
const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// How far an issuer's clock and ours may be apart, in either direction.
pub(super) const LEEWAY: SignedDuration = SignedDuration::from_secs(30);

/// The algorithms that are accepted (RFC 7518, 3.1 and RFC 8037, 3.1). None that shares a secret, and not `none`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
}

impl Algorithm {
    pub(super) fn from_name(name: &str) -> Option<Self> {
        match name {
            "RS256" => Some(Self::Rs256),
            "ES256" => Some(Self::Es256),
            "EdDSA" => Some(Self::EdDsa),
            _ => None,
        }
    }
}

/// A token, taken apart. Nothing in it is believed.
pub(super) struct Unverified<'a> {
    pub(super) algorithm: Algorithm,
    pub(super) kid: Option<String>,
    pub(super) claims: Claims,
    /// What the signature is of.
    pub(super) signed: &'a str,
    /// In base64url.
    pub(super) signature: &'a str,
}

/// Claims, each at most once; others are passed over.
#[derive(Deserialize)]
pub(super) struct Claims {
    pub(super) iss: String,
    sub: Option<String>,
    aud: Option<Audience>,
    exp: Option<NumericDate>,
    nbf: Option<NumericDate>,
    iat: Option<NumericDate>,
}

/// What the checked claims say.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Checked<'a> {
    pub(super) subject: &'a str,
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

/// Whatever its value: who understands it would have to act on it.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
}

impl<'a> Unverified<'a> {
    /// Takes a token apart.
    pub(super) fn read(token: &'a str) -> Result<Self, &'static str> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err("it is oversized: more than 8 KiB");
        }
        let (signed, signature) = token.rsplit_once('.').ok_or("it is not three parts")?;
        let (header, claims) = signed.split_once('.').ok_or("it is not three parts")?;
        if claims.contains('.') || [header, claims, signature].iter().any(|part| part.is_empty()) {
            return Err("it is not three parts");
        }
        URL_SAFE_NO_PAD.decode(signature).map_err(|_| "its signature is not base64url")?;
        let header: Header = part(header)
            .ok_or("its header is no JSON object with an algorithm, or names something twice")?;
        if header.crit {
            return Err("its header asks for an extension (crit)");
        }
        let algorithm = Algorithm::from_name(&header.alg)
            .ok_or("it is not signed with RS256, ES256 or EdDSA")?;
        let claims = part(claims).ok_or(
            "its claims are no JSON object, or name something twice, lack the issuer, or have another type than registered",
        )?;
        Ok(Self { algorithm, kid: header.kid, claims, signed, signature })
    }
}

fn part<T: DeserializeOwned>(part: &str) -> Option<T> {
    let json = URL_SAFE_NO_PAD.decode(part).ok()?;
    // Serde would fill the fields from an array in their order.
    let object = json.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{');
    object.then(|| serde_json::from_slice(&json).ok()).flatten()
}

impl Claims {
    /// Checks the claims against what is configured of their issuer. Whether the issuer made them, the signature
    /// tells.
    pub(super) fn check(
        &self,
        rules: &IssuerRules,
        now: Timestamp,
    ) -> Result<Checked<'_>, &'static str> {
        if self.iss != rules.issuer {
            return Err("it is of another issuer");
        }
        let addressed = match &self.aud {
            None => false,
            Some(Audience::One(audience)) => *audience == rules.audience,
            Some(Audience::Many(all)) => all.contains(&rules.audience),
        };
        if !addressed {
            return Err("it is for another audience");
        }
        let NumericDate(expiry) = *self.exp.as_ref().ok_or("it has no expiry")?;
        if now.duration_since(expiry) >= LEEWAY {
            return Err("it has expired; compare clocks");
        }
        let future = |time: &NumericDate| time.0.duration_since(now) > LEEWAY;
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
        let subject = self.sub.as_deref().ok_or("it has no subject")?;
        Ok(Checked { subject, expiry })
    }
}
