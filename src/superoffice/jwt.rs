//! What the tokens that SuperOffice signs have in common (SUPEROFFICE.md 2.6, 4.3; RFC 7519).

use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation, decode, decode_header};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, de::DeserializeOwned};

use crate::ports::UpstreamError;

/// How far the clocks of SuperOffice and ours may be apart when times are compared. Such a token lives five
/// minutes and is read at once, so a minute is plenty.
pub(super) const LEEWAY: SignedDuration = SignedDuration::from_secs(60);

/// Far more than a real token has.
pub(super) const MAX_JWT_BYTES: usize = 64 * 1024;

/// A name is the customer's own words and shown to people, on terminals too; more than this is not a name.
const MAX_NAME_CHARS: usize = 256;

/// Which token it is, in errors.
#[derive(Clone, Copy)]
pub(super) struct Kind(pub(super) &'static str);

/// Whom a token is for (RFC 7519 section 4.1.3).
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Audience {
    One(String),
    Many(Vec<String>),
}

impl Kind {
    /// The header, which names the key: nothing in it is believed yet.
    pub(super) fn header(self, jwt: &SecretString) -> Result<Header, UpstreamError> {
        let text = jwt.expose_secret();
        if text.len() > MAX_JWT_BYTES {
            return Err(self.refused("too long"));
        }
        let header = decode_header(text).map_err(|_| self.refused("no JWT header"))?;
        if header.alg != Algorithm::RS256 {
            return Err(self.refused("not signed with RS256"));
        }
        // RFC 7515 section 4.1.11.
        if header.crit.is_some() {
            return Err(self.refused("wants to be understood in ways that we do not know"));
        }
        Ok(header)
    }

    /// The claims, if the key has signed them.
    pub(super) fn claims<C: DeserializeOwned>(
        self,
        key: &DecodingKey,
        jwt: &SecretString,
    ) -> Result<C, UpstreamError> {
        let decoded = decode::<C>(jwt.expose_secret(), key, &signature_only());
        let decoded = decoded.map_err(|error| match error.kind() {
            jsonwebtoken::errors::ErrorKind::InvalidSignature => self.refused("wrong signature"),
            _ => self.refused("claims missing or of other types than documented"),
        })?;
        Ok(decoded.claims)
    }

    pub(super) fn refused(self, why: &str) -> UpstreamError {
        UpstreamError::InvalidResponse(format!("{}: {why}", self.0))
    }
}

/// Whether a token is current.
pub(super) fn check_times(exp: i64, nbf: Option<i64>, now: Timestamp) -> Result<(), &'static str> {
    if now.duration_since(instant(exp)?) >= LEEWAY {
        return Err("expired; compare clocks");
    }
    match nbf {
        Some(nbf) => check_begun(nbf, now).map_err(|_| "not yet valid; compare clocks"),
        None => Ok(()),
    }
}

/// Whether a time is not one to come.
pub(super) fn check_begun(seconds: i64, now: Timestamp) -> Result<(), &'static str> {
    let ahead = instant(seconds)?.duration_since(now);
    if ahead > LEEWAY { Err("a time to come; compare clocks") } else { Ok(()) }
}

fn instant(seconds: i64) -> Result<Timestamp, &'static str> {
    Timestamp::from_second(seconds).map_err(|_| "impossible time")
}

/// What of a name can be shown.
pub(super) fn printable(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(MAX_NAME_CHARS).collect()
}

/// The library checks signature and algorithm; times are ours, because time is passed in.
fn signature_only() -> Validation {
    let mut validation = Validation::new(Algorithm::RS256);
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    validation.required_spec_claims.clear();
    validation
}
