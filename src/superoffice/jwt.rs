//! Shared parts of the tokens that SuperOffice signs (RFC 7519).

use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation, decode, decode_header};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, de::DeserializeOwned};

use crate::ports::UpstreamError;

/// The allowed clock difference. Tokens are valid for five minutes and read at once, so a minute is enough.
pub(super) const LEEWAY: SignedDuration = SignedDuration::from_secs(60);

/// The maximum length; real tokens are far shorter.
pub(super) const MAX_JWT_BYTES: usize = 64 * 1024;

/// The maximum length of a name. Names come from the customer and are displayed, also on terminals.
const MAX_NAME_CHARS: usize = 256;

/// The kind of a token, as error messages name it.
#[derive(Clone, Copy)]
pub(super) struct TokenKind(pub(super) &'static str);

/// The audience of a token (RFC 7519 section 4.1.3).
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Audience {
    One(String),
    Many(Vec<String>),
}

impl TokenKind {
    /// Reads the header, which names the key. The header is not verified yet.
    pub(super) fn header(self, jwt: &SecretString) -> Result<Header, UpstreamError> {
        let text = jwt.expose_secret();
        if text.len() > MAX_JWT_BYTES {
            return Err(self.invalid("too long"));
        }
        let header = decode_header(text).map_err(|_| self.invalid("no JWT header"))?;
        if header.alg != Algorithm::RS256 {
            return Err(self.invalid("not signed with RS256"));
        }
        // RFC 7515 section 4.1.11.
        if header.crit.is_some() {
            return Err(self.invalid("has critical header parameters that are not supported"));
        }
        Ok(header)
    }

    /// Verifies the signature with the key and returns the claims.
    pub(super) fn claims<C: DeserializeOwned>(
        self,
        key: &DecodingKey,
        jwt: &SecretString,
    ) -> Result<C, UpstreamError> {
        let decoded = decode::<C>(jwt.expose_secret(), key, &signature_only());
        let decoded = decoded.map_err(|error| match error.kind() {
            jsonwebtoken::errors::ErrorKind::InvalidSignature => self.invalid("wrong signature"),
            _ => self.invalid("claims missing or of other types than documented"),
        })?;
        Ok(decoded.claims)
    }

    pub(super) fn invalid(self, why: &str) -> UpstreamError {
        UpstreamError::InvalidResponse(format!("{}: {why}", self.0))
    }
}

/// Checks that a token is valid now.
pub(super) fn check_times(exp: i64, nbf: Option<i64>, now: Timestamp) -> Result<(), &'static str> {
    if now.duration_since(instant(exp)?) >= LEEWAY {
        return Err("expired; compare clocks");
    }
    match nbf {
        Some(nbf) => check_not_future(nbf, now).map_err(|_| "not yet valid; compare clocks"),
        None => Ok(()),
    }
}

/// Checks that a time is not in the future.
pub(super) fn check_not_future(seconds: i64, now: Timestamp) -> Result<(), &'static str> {
    let ahead = instant(seconds)?.duration_since(now);
    if ahead > LEEWAY { Err("a time in the future; compare clocks") } else { Ok(()) }
}

fn instant(seconds: i64) -> Result<Timestamp, &'static str> {
    Timestamp::from_second(seconds).map_err(|_| "impossible time")
}

/// Removes control characters and limits the length.
pub(super) fn printable(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(MAX_NAME_CHARS).collect()
}

/// Lets the library check only signature and algorithm. Times are checked here, with the clock of the application.
fn signature_only() -> Validation {
    let mut validation = Validation::new(Algorithm::RS256);
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    validation.required_spec_claims.clear();
    validation
}
