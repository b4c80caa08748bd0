//! Authorization codes: each is good once, and not for long.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::error::Unspecified;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{LETTERS, SignedIn};
use crate::lock::hold;
use crate::random;

/// The PKCE challenge of a request (RFC 7636).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Challenge {
    /// The verifier itself. The default where no method is named (SUPEROFFICE.md 4.1,
    /// documented).
    Plain(String),
    /// Base64url of its SHA-256.
    S256(String),
}

impl Challenge {
    pub(crate) fn is_met_by(&self, verifier: &str) -> bool {
        match self {
            Self::Plain(challenge) => challenge == verifier,
            Self::S256(challenge) => {
                let hash = digest(&SHA256, verifier.as_bytes());
                *challenge == URL_SAFE_NO_PAD.encode(hash.as_ref())
            }
        }
    }
}

/// What a code stands for.
#[derive(Clone, Debug)]
pub(crate) struct Code {
    pub(crate) who: SignedIn,
    pub(crate) redirect_uri: String,
    pub(crate) challenge: Option<Challenge>,
    pub(crate) nonce: Option<String>,
}

/// What became of a code that was presented. It is worth nothing from then on.
#[derive(Debug)]
pub(crate) enum Taken {
    Good(Code),
    Unknown,
    Expired,
    /// It was presented before, and this grant came of it.
    Again(Option<u64>),
}

#[derive(Debug)]
struct Issued {
    code: Code,
    at: Timestamp,
    taken: bool,
    grant: Option<u64>,
}

#[derive(Debug, Default)]
pub(crate) struct Codes {
    by_text: Mutex<HashMap<String, Issued>>,
}

impl Codes {
    pub(crate) fn issue(&self, code: Code, now: Timestamp) -> Result<String, Unspecified> {
        let text = random::letters(LETTERS)?;
        let issued = Issued { code, at: now, taken: false, grant: None };
        hold(&self.by_text).insert(text.clone(), issued);
        Ok(text)
    }

    pub(crate) fn holder(&self, text: &str) -> Option<SignedIn> {
        hold(&self.by_text).get(text).map(|issued| issued.code.who.clone())
    }

    pub(crate) fn take(&self, text: &str, lifetime: Duration, now: Timestamp) -> Taken {
        let mut codes = hold(&self.by_text);
        let Some(issued) = codes.get_mut(text) else {
            return Taken::Unknown;
        };
        if std::mem::replace(&mut issued.taken, true) {
            return Taken::Again(issued.grant);
        }
        let age = now.duration_since(issued.at);
        // A clock that was set back makes the age negative: not expired.
        if age.is_positive() && age.unsigned_abs() >= lifetime {
            return Taken::Expired;
        }
        Taken::Good(issued.code.clone())
    }

    /// Notes which grant came of a code.
    pub(crate) fn became(&self, text: &str, grant: u64) {
        if let Some(issued) = hold(&self.by_text).get_mut(text) {
            issued.grant = Some(grant);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_challenge_of_rfc_7636_appendix_b_is_met() {
        let verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        let challenge = Challenge::S256("E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM".to_owned());
        assert!(challenge.is_met_by(verifier));
        assert!(!challenge.is_met_by("another"));
        assert!(!Challenge::Plain("another".to_owned()).is_met_by(verifier));
    }
}
