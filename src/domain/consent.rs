//! Consents: a caller asks a person to let the gateway act as that person.

use std::{fmt, str::FromStr, sync::Arc, time::Duration};

use jiff::Timestamp;
use secrecy::SecretString;

use super::{ApplicationId, CallerRecord, ContextIdentifier, GrantName, Reason};

/// Maximum time to answer a consent, from its creation.
pub const CONSENT_LIFETIME: Duration = Duration::from_hours(7 * 24);

/// Maximum duration of one redirect to SuperOffice and back. The person may have to look up a password.
pub const ATTEMPT_LIFETIME: Duration = Duration::from_mins(15);

/// Number of characters of an id: 16 bytes in hexadecimal.
const ID_CHARACTERS: usize = 32;

/// The id of a consent, which is part of the link that the person receives.
///
/// The link only lets its reader sign in with their own account. It is not a secret, but it is random, so that people
/// cannot guess other people's links.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ConsentId(Arc<str>);

impl ConsentId {
    /// Creates an id from 16 random bytes.
    #[must_use]
    pub fn new(random: [u8; 16]) -> Self {
        Self(format!("{:032x}", u128::from_be_bytes(random)).into())
    }

    /// Returns the id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The text is not the id of a consent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the id of a consent")]
pub struct ConsentIdError;

impl FromStr for ConsentId {
    type Err = ConsentIdError;

    fn from_str(text: &str) -> Result<Self, ConsentIdError> {
        let legal = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() == ID_CHARACTERS && text.bytes().all(legal) {
            Ok(Self(text.into()))
        } else {
            Err(ConsentIdError)
        }
    }
}

impl fmt::Display for ConsentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ConsentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A request of a caller for a person's consent. All texts were validated when it was created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consent {
    /// The id.
    pub id: ConsentId,
    /// The application.
    pub application: ApplicationId,
    /// The customer; `None` if the person chooses it.
    pub tenant: Option<ContextIdentifier>,
    /// The requesting caller. Only this caller can complete the consent, and its permissions are checked again then.
    pub caller: CallerRecord,
    /// The URI to which the browser is redirected at the end.
    pub return_uri: Option<String>,
    /// The URI at which the caller receives the code; `None` if the gateway receives it.
    pub redirect_uri: Option<String>,
    /// The user name that SuperOffice's sign-in page suggests.
    pub login_hint: Option<String>,
    /// Whether an administrator's consent also enrolls the system user.
    pub enroll_system_user: bool,
    /// The user principal name of the only person who may consent.
    pub expected_user_principal_name: Option<String>,
    /// The caller's reason, for the page and the audit trail; may be empty.
    pub reason: String,
    /// The time of its creation.
    pub create_time: Timestamp,
    /// The time from which the link no longer works.
    pub expire_time: Timestamp,
    /// The outcome, once the consent has ended.
    pub outcome: Option<ConsentOutcome>,
}

impl Consent {
    /// Returns whether the consent can still be answered.
    #[must_use]
    pub fn is_open(&self, now: Timestamp) -> bool {
        self.outcome.is_none() && is_current(self.expire_time, CONSENT_LIFETIME, now)
    }
}

/// Returns whether an object that lives for at most `life` has not expired. An expiry time too far in the future was
/// stored while the clock was wrong; the object counts as expired, because its real end is unknown.
#[must_use]
pub fn is_current(expire_time: Timestamp, life: Duration, now: Timestamp) -> bool {
    now < expire_time && now.saturating_add(life).is_ok_and(|latest| expire_time <= latest)
}

/// The outcome of a consent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConsentOutcome {
    /// The person consented.
    Granted {
        /// The grant.
        grant: GrantName,
        /// Whether the system user was enrolled as well.
        system_user_enrolled: bool,
    },
    /// The person declined.
    Refused,
    /// The consent failed for this reason.
    Failed(Reason),
}

/// One redirect to SuperOffice and back, started by a caller or by a click on the page. It is looked up by the digest
/// of its `state`, and works once.
#[derive(Debug, Clone)]
pub struct ConsentAttempt {
    /// The consent.
    pub consent: ConsentId,
    /// The expected nonce of the `id_token`.
    pub nonce: String,
    /// The PKCE code verifier: proves that the party that presents the code started the attempt (RFC 7636).
    pub verifier: SecretString,
    /// The URI to which SuperOffice sends the code. It is sent again with the code.
    pub redirect_uri: String,
    /// SHA-256 of the cookie that the browser must present; `None` if a caller started the attempt.
    pub cookie_digest: Option<[u8; 32]>,
    /// The time from which the attempt no longer works.
    pub expire_time: Timestamp,
}

impl ConsentAttempt {
    /// Returns whether the attempt has not expired.
    #[must_use]
    pub fn is_current(&self, now: Timestamp) -> bool {
        is_current(self.expire_time, ATTEMPT_LIFETIME, now)
    }
}

/// The browser or caller, and the URI, that an attempt is bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptBinding {
    /// The URI to which SuperOffice was asked to send the code.
    pub redirect_uri: String,
    /// SHA-256 of the browser's cookie; `None` if the caller presents the code.
    pub cookie_digest: Option<[u8; 32]>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rejects_malformed_ids() {
        let id = ConsentId::new([0xab; 16]);
        let text = id.as_str();
        assert_eq!(text.parse(), Ok(id.clone()));
        for wrong in
            ["", &text[1..], &format!("{text}a"), &text.to_uppercase(), &format!("/{}", &text[1..])]
        {
            assert_eq!(wrong.parse::<ConsentId>(), Err(ConsentIdError), "{wrong}");
        }
    }

    #[test]
    fn no_secret_is_in_what_is_printed_for_debugging() {
        let attempt = ConsentAttempt {
            consent: ConsentId::new([1; 16]),
            nonce: "n".to_owned(),
            verifier: "canary".into(),
            redirect_uri: "https://gateway.example.com/consent/callback".to_owned(),
            cookie_digest: None,
            expire_time: Timestamp::UNIX_EPOCH,
        };
        assert!(!format!("{attempt:?}").contains("canary"));
    }

    #[test]
    fn an_expiry_time_beyond_the_lifetime_counts_as_expired() {
        let (now, life) = (Timestamp::UNIX_EPOCH, ATTEMPT_LIFETIME);
        let second = Duration::from_secs(1);
        assert!(is_current(now + life, life, now));
        for expire_time in [now, now - second, now + life + second, Timestamp::MAX] {
            assert!(!is_current(expire_time, life, now), "{expire_time}");
        }
    }

    proptest! {
        #[test]
        fn every_new_id_is_a_legal_one(random: [u8; 16]) {
            let id = ConsentId::new(random);
            prop_assert_eq!(id.as_str().parse(), Ok(id.clone()));
        }
    }
}
