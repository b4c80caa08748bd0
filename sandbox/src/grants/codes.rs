//! Authorization codes: single-use and short-lived.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::error::Unspecified;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{GrantOwner, TOKEN_LENGTH};
use crate::lock::lock;
use crate::random;

/// The PKCE challenge of a request (RFC 7636).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Challenge {
    /// The verifier itself. The default if the request names no method (documented).
    Plain(String),
    /// Base64url of the verifier's SHA-256.
    S256(String),
}

impl Challenge {
    pub(crate) fn matches(&self, verifier: &str) -> bool {
        match self {
            Self::Plain(challenge) => challenge == verifier,
            Self::S256(challenge) => {
                let hash = digest(&SHA256, verifier.as_bytes());
                *challenge == URL_SAFE_NO_PAD.encode(hash.as_ref())
            }
        }
    }
}

/// The data of an authorization code.
#[derive(Clone, Debug)]
pub(crate) struct Code {
    pub(crate) owner: GrantOwner,
    pub(crate) redirect_uri: String,
    pub(crate) challenge: Option<Challenge>,
    pub(crate) nonce: Option<String>,
}

/// The result of redeeming a code. A code can be redeemed once, whatever the result.
#[derive(Debug)]
pub(crate) enum RedeemResult {
    Valid(Code),
    Unknown,
    Expired,
    /// Redeemed before; the grant that was created then, if any.
    AlreadyUsed(Option<u64>),
}

#[derive(Debug)]
struct IssuedCode {
    code: Code,
    issued_at: Timestamp,
    redeemed: bool,
    grant: Option<u64>,
}

#[derive(Debug, Default)]
pub(crate) struct Codes {
    by_text: Mutex<HashMap<String, IssuedCode>>,
}

impl Codes {
    pub(crate) fn issue(&self, code: Code, now: Timestamp) -> Result<String, Unspecified> {
        let text = random::alphanumeric(TOKEN_LENGTH)?;
        let issued = IssuedCode { code, issued_at: now, redeemed: false, grant: None };
        lock(&self.by_text).insert(text.clone(), issued);
        Ok(text)
    }

    pub(crate) fn owner(&self, text: &str) -> Option<GrantOwner> {
        lock(&self.by_text).get(text).map(|issued| issued.code.owner.clone())
    }

    pub(crate) fn redeem(&self, text: &str, lifetime: Duration, now: Timestamp) -> RedeemResult {
        let mut codes = lock(&self.by_text);
        let Some(issued) = codes.get_mut(text) else {
            return RedeemResult::Unknown;
        };
        if std::mem::replace(&mut issued.redeemed, true) {
            return RedeemResult::AlreadyUsed(issued.grant);
        }
        let age = now.duration_since(issued.issued_at);
        // A clock that was set back makes the age negative: not expired.
        if age.is_positive() && age.unsigned_abs() >= lifetime {
            return RedeemResult::Expired;
        }
        RedeemResult::Valid(issued.code.clone())
    }

    /// Records the grant that a code created.
    pub(crate) fn set_grant(&self, text: &str, grant: u64) {
        if let Some(issued) = lock(&self.by_text).get_mut(text) {
            issued.grant = Some(grant);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_the_challenge_of_rfc_7636_appendix_b() {
        let verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        let challenge = Challenge::S256("E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM".to_owned());
        assert!(challenge.matches(verifier));
        assert!(!challenge.matches("another"));
        assert!(!Challenge::Plain("another".to_owned()).matches(verifier));
    }
}
