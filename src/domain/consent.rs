//! Consents: a person is asked to let the gateway act as them.

use std::{fmt, str::FromStr, sync::Arc, time::Duration};

use jiff::Timestamp;
use secrecy::SecretString;

use super::{ApplicationId, CallerOnRecord, ContextIdentifier, GrantName, Reason};

/// How long a consent can be answered at most, from its beginning.
pub const CONSENT_LIFE: Duration = Duration::from_hours(7 * 24);

/// How long one way to SuperOffice and back may take, with a password that has to be looked up.
pub const ATTEMPT_LIFE: Duration = Duration::from_mins(15);

/// How many characters an id has: 16 bytes in hexadecimal.
const ID_CHARACTERS: usize = 32;

/// The id of a consent, as it stands in the link that is sent to the person.
///
/// Whoever has the link can sign in by it as themselves, and nothing else: not a secret, but random, so that nobody
/// looks at other people's links.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ConsentId(Arc<str>);

impl ConsentId {
    /// A new id, made of 16 random bytes.
    #[must_use]
    pub fn new(random: [u8; 16]) -> Self {
        Self(format!("{:032x}", u128::from_be_bytes(random)).into())
    }

    /// The id as it stands in links.
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

/// What a caller asks a person for. Every text in it was checked when it began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consent {
    /// Its id.
    pub id: ConsentId,
    /// For which application.
    pub application: ApplicationId,
    /// For which customer; `None`: the one that the person chooses.
    pub tenant: Option<ContextIdentifier>,
    /// Who asked: only this caller completes it, and what it may do is looked at again then.
    pub caller: CallerOnRecord,
    /// Where the person is sent at the end.
    pub return_uri: Option<String>,
    /// Where the caller itself receives the code; `None`: the gateway does.
    pub redirect_uri: Option<String>,
    /// Whom SuperOffice's sign-in page suggests.
    pub login_hint: Option<String>,
    /// Whether an administrator's consent also enrols the system user.
    pub enroll_system_user: bool,
    /// Nobody else may consent.
    pub expected_user_principal_name: Option<String>,
    /// Why the caller asks, for the page and the audit trail; may be empty.
    pub reason: String,
    /// When it began.
    pub create_time: Timestamp,
    /// From then on its link is dead.
    pub expire_time: Timestamp,
    /// How it ended, once it has.
    pub outcome: Option<ConsentOutcome>,
}

impl Consent {
    /// Whether it can still be answered.
    #[must_use]
    pub fn is_open(&self, now: Timestamp) -> bool {
        self.outcome.is_none() && is_current(self.expire_time, CONSENT_LIFE, now)
    }
}

/// Whether something that lives for at most `life` still does. One that seems to live for longer was stored while a clock
/// was ahead: when it ends nobody can tell.
#[must_use]
pub fn is_current(expire_time: Timestamp, life: Duration, now: Timestamp) -> bool {
    now < expire_time && now.saturating_add(life).is_ok_and(|latest| expire_time <= latest)
}

/// How a consent ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConsentOutcome {
    /// The person consented.
    Granted {
        /// To this.
        grant: GrantName,
        /// Whether the system user was enrolled too.
        system_user_enrolled: bool,
    },
    /// The person said no.
    Refused,
    /// It could not be taken, for this reason.
    Failed(Reason),
}

/// One way to SuperOffice and back, begun by a caller or by a click on the page. It is found by the digest of its
/// `state`, and works once.
#[derive(Debug, Clone)]
pub struct ConsentAttempt {
    /// Of this consent.
    pub consent: ConsentId,
    /// What the `id_token` must hold.
    pub nonce: String,
    /// PKCE: proves that whoever brings the code began the attempt (RFC 7636).
    pub verifier: SecretString,
    /// Where SuperOffice sends the code; sent again with it.
    pub redirect_uri: String,
    /// SHA-256 of the cookie that the browser must show again; `None` where a caller began it, whose state suffices.
    pub cookie_digest: Option<[u8; 32]>,
    /// From then on it is dead.
    pub expire_time: Timestamp,
}

impl ConsentAttempt {
    /// Whether its state still works.
    #[must_use]
    pub fn is_current(&self, now: Timestamp) -> bool {
        is_current(self.expire_time, ATTEMPT_LIFE, now)
    }
}

/// Who may show the state of an attempt, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptBinding {
    /// Where SuperOffice was asked to send the code.
    pub redirect_uri: String,
    /// SHA-256 of the cookie of the browser that it belongs to; `None` where its caller brings it.
    pub cookie_digest: Option<[u8; 32]>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_not_exactly_an_id_is_refused() {
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
    fn what_seems_to_live_for_longer_than_it_can_is_over() {
        let (now, life) = (Timestamp::UNIX_EPOCH, ATTEMPT_LIFE);
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
