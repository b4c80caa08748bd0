//! Grants: stored consents with which the gateway acts as a person.

mod fields;
mod name;

use std::{fmt, time::Duration};

use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};

pub use self::{
    fields::{GRANT_FIELDS, ListedGrant},
    name::{GrantId, GrantName, GrantScope, GrantSelector},
};
use super::{
    AssociateId, ContextIdentifier, CredentialId, Obstacle, Reason, SystemUserToken, trimmed,
};

/// Maximum length of a refresh token, in bytes; longer than all known ones.
const MAX_REFRESH_TOKEN_BYTES: usize = 4096;

macro_rules! grant_states {
    ($($(#[$doc:meta])* $variant:ident = $name:literal),+ $(,)?) => {
        /// The state of a grant.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum GrantState { $($(#[$doc])* $variant),+ }

        impl GrantState {
            /// All states.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Returns the name in the API.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }
        }
    };
}

grant_states! {
    /// Access tokens can be issued.
    Active = "ACTIVE",
    /// SuperOffice no longer accepts the refresh token, or answers for another person.
    ConsentRequired = "CONSENT_REQUIRED",
    /// A caller or an operator of the gateway revoked it.
    Revoked = "REVOKED",
}

impl GrantState {
    /// Returns the state with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|state| state.as_str() == name)
    }
}

/// The kind of an event in a watch of grants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GrantEventKind {
    /// A person consented for the first time.
    Created,
    /// A new access token was issued.
    Refreshed,
    /// The grant no longer works and needs a new consent.
    Broken,
    /// A refresh failed and will be retried. Reported at the first, second, fourth, eighth … failure.
    Failed,
    /// The person consented again.
    Reconsented,
    /// The grant was revoked. Reported again when SuperOffice has confirmed the revocation.
    Revoked,
    /// No change: the current state when a watch begins.
    Resync,
}

/// A person's consent for an application and a tenant, without its secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The name. A new consent of the same person keeps it.
    pub name: GrantName,
    /// The associate id of the person; never changes.
    pub associate_id: AssociateId,
    /// The person's user principal name, as SuperOffice last returned it.
    pub user_principal_name: String,
    /// The person's full name, as SuperOffice last returned it.
    pub full_name: String,
    /// The state.
    pub state: GrantState,
    /// The time of the first consent.
    pub create_time: Timestamp,
    /// The time when an access token was last issued.
    pub last_refresh_time: Option<Timestamp>,
    /// The last failure since the last consent, even if a later refresh succeeded.
    pub last_failure: Option<GrantFailure>,
    /// The failed refreshes since the last success or consent. `None` if none failed.
    pub failing: Option<FailureStreak>,
    /// Whether it is revoked here but not yet at SuperOffice.
    pub revocation_pending: bool,
    /// Whether the identity must be confirmed again, because the customer's database was restored from a backup. Until
    /// a refresh confirms the same person, earlier data about the person is not used.
    pub identity_unconfirmed: bool,
    /// The version of the refresh token. The result of an operation with another version is discarded.
    pub token_version: i64,
    /// The number of changes, from which the etag is made.
    pub version: i64,
}

impl Grant {
    /// Returns the etag, which differs after each change (google.aip.dev/154).
    #[must_use]
    pub fn etag(&self) -> String {
        format!("\"{}\"", self.version)
    }
}

/// Consecutive failed refreshes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailureStreak {
    /// The number of failures, at least one.
    pub count: u32,
    /// The time of the first failure.
    pub since: Timestamp,
}

/// A failed refresh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GrantFailure {
    /// The stable reason of the error.
    pub reason: Reason,
    /// The time of the failure.
    pub time: Timestamp,
}

impl GrantFailure {
    /// Returns the failure as an obstacle, for people.
    #[must_use]
    pub fn obstacle(&self) -> Obstacle {
        let (message, mend) = match self.reason {
            Reason::ConsentRequired => (
                "SuperOffice no longer accepts the refresh token",
                "ask the person to consent again: ImpersonationService.BeginConsent",
            ),
            Reason::SubjectMismatch => (
                "SuperOffice answered for another person or tenant",
                "ask the person to consent again: ImpersonationService.BeginConsent",
            ),
            Reason::ApplicationCredentialRefused => (
                "SuperOffice refused the application's own client secret",
                "an operator must correct the application's client secret for this environment",
            ),
            Reason::TenantNotRunning => (
                "SuperOffice refused the refresh while the tenant was not usable",
                "nothing: the gateway retries when the tenant is usable again",
            ),
            _ => (
                "SuperOffice was unreachable, or its response was invalid",
                "nothing: the gateway retries",
            ),
        };
        let (message, mend) = (message.to_owned(), mend.to_owned());
        Obstacle { reason: self.reason, message, mend }
    }
}

/// The signed-in person, from a verified `id_token`.
#[derive(Debug, Clone)]
pub struct VerifiedIdentity {
    /// `ctx`: the customer's tenant.
    pub tenant: ContextIdentifier,
    /// `associateid`.
    pub associate_id: AssociateId,
    /// `sub`, which equals `upn`: the name with which the person signs in.
    pub user_principal_name: String,
    /// The person's name; may be empty.
    pub full_name: String,
    /// The person's e-mail address; may be empty.
    pub email: String,
    /// Whether the person is an administrator of the customer's CRM.
    pub is_administrator: bool,
    /// `system_token`: sent for administrators, if the application has a system user.
    pub system_user_token: Option<SystemUserToken>,
    /// The customer's name; may be empty.
    pub company_name: String,
}

/// A refresh token: opaque. Until it is revoked, its holder can act as the person.
#[derive(Debug, Clone)]
pub struct RefreshToken(SecretString);

impl RefreshToken {
    /// Removes white space around a pasted token and rejects texts that cannot be a refresh token.
    ///
    /// # Errors
    /// Returns the problem, for people, without the text.
    pub fn new(text: &SecretString) -> Result<Self, String> {
        let text = trimmed(text.expose_secret());
        if text.is_empty() {
            Err("must not be empty".to_owned())
        } else if text.len() > MAX_REFRESH_TOKEN_BYTES {
            Err(format!("at most {MAX_REFRESH_TOKEN_BYTES} bytes"))
        } else if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            // The syntax of <https://www.rfc-editor.org/rfc/rfc6749#appendix-A.17>, without spaces inside.
            Err("must be printable ASCII without spaces".to_owned())
        } else {
            Ok(Self(text.into()))
        }
    }

    /// Returns the secret.
    #[must_use]
    pub fn secret(&self) -> &SecretString {
        &self.0
    }
}

/// An access token and its metadata.
#[derive(Debug, Clone)]
pub struct AccessToken {
    /// The token, `8A:…`, which is sent unchanged.
    pub value: SecretString,
    /// The public id of the token.
    pub credential_id: CredentialId,
    /// The time when it was requested.
    pub issue_time: Timestamp,
    /// The time when it expires.
    pub expire_time: Timestamp,
    /// The `Grant::token_version` of the refresh token with which it was issued.
    pub token_version: i64,
}

impl AccessToken {
    /// Returns the remaining lifetime at `now`.
    #[must_use]
    pub fn remaining(&self, now: Timestamp) -> Duration {
        self.expire_time.duration_since(now).try_into().unwrap_or(Duration::ZERO)
    }
}

impl fmt::Display for GrantState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_is_read_back() {
        for state in GrantState::ALL {
            assert_eq!(GrantState::from_name(state.as_str()), Some(*state));
        }
        assert_eq!(GrantState::from_name("active"), None);
    }

    #[test]
    fn removes_only_the_white_space_around_a_refresh_token() {
        let token = RefreshToken::new(&" KNabc-123.~+/=\r\n".into()).unwrap();
        assert_eq!(token.secret().expose_secret(), "KNabc-123.~+/=");
    }

    #[test]
    fn rejects_invalid_refresh_tokens_without_repeating_them() {
        for text in ["", " \n", "a\u{0}b", "two words", "å", &"x".repeat(4097)] {
            let problem = RefreshToken::new(&text.into()).unwrap_err();
            assert!(text.len() < 2 || !problem.contains(text), "{problem}");
        }
    }

    #[test]
    fn no_secret_is_in_what_is_printed_for_debugging() {
        let token = AccessToken {
            value: "8A:Cust1.canary".into(),
            credential_id: CredentialId::from_text("a-g-1"),
            issue_time: Timestamp::UNIX_EPOCH,
            expire_time: Timestamp::UNIX_EPOCH,
            token_version: 1,
        };
        let identity = VerifiedIdentity {
            tenant: "Cust1".parse().unwrap(),
            associate_id: AssociateId::new(5).unwrap(),
            user_principal_name: "tony@example.com".to_owned(),
            full_name: String::new(),
            email: String::new(),
            is_administrator: true,
            system_user_token: Some(SystemUserToken::new(&"App-canary".into()).unwrap()),
            company_name: String::new(),
        };
        let refresh = RefreshToken::new(&"canary".into()).unwrap();
        assert!(!format!("{token:?} {identity:?} {refresh:?}").contains("canary"));
    }
}
