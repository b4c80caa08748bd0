//! Grants: what lets the gateway act as a person.

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

/// Longer than any refresh token seen; more than this is not one.
const MAX_REFRESH_TOKEN_BYTES: usize = 4096;

macro_rules! grant_states {
    ($($(#[$doc:meta])* $variant:ident = $name:literal),+ $(,)?) => {
        /// The state of a grant (CONTRACT section 2).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum GrantState { $($(#[$doc])* $variant),+ }

        impl GrantState {
            /// Every state there is.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The contract's name for it.
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
    /// SuperOffice no longer accepts it, or it answers for someone else.
    ConsentRequired = "CONSENT_REQUIRED",
    /// Revoked by a caller or an operator of the gateway.
    Revoked = "REVOKED",
}

impl GrantState {
    /// The state of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|state| state.as_str() == name)
    }
}

/// What a watch tells of a grant (CONTRACT section 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GrantEventKind {
    /// A person consented for the first time.
    Created,
    /// There is a new access token.
    Refreshed,
    /// Only a new consent helps.
    Broken,
    /// A refresh failed, and may work later: told at the first failure, the second, the fourth and so on.
    Failed,
    /// The person consented again.
    Reconsented,
    /// Nobody acts as the person any more; also when that has reached SuperOffice.
    Revoked,
    /// Nothing happened: how it stands when a watch begins.
    Resync,
}

/// One person's consent for one application and tenant, without its secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Its name, which a new consent keeps.
    pub name: GrantName,
    /// As whom it acts; never changes.
    pub associate_id: AssociateId,
    /// The person's name at sign-in, as SuperOffice last said it.
    pub user_principal_name: String,
    /// The person's name, likewise.
    pub full_name: String,
    /// Whether it works.
    pub state: GrantState,
    /// When the person first consented.
    pub create_time: Timestamp,
    /// When it last gave an access token.
    pub last_refresh_time: Option<Timestamp>,
    /// How it last failed since the last consent, also if it has worked again after that.
    pub last_failure: Option<GrantFailure>,
    /// The refreshes that failed since it last gave an access token, or since the last consent. `None` if none did.
    pub failing: Option<Failing>,
    /// Revoked here, and SuperOffice is still to be told.
    pub revocation_pending: bool,
    /// Its customer's database went back to a backup: nothing that was learnt before counts until a refresh shows
    /// that it still is the same person (DESIGN rule 6.4).
    pub unproven: bool,
    /// Counts the refresh tokens that it was given. What was done with another one than the present one is too late.
    pub token_version: i64,
    /// Counts every change: the source of the etag.
    pub version: i64,
}

impl Grant {
    /// Changes with every change (google.aip.dev/154).
    #[must_use]
    pub fn etag(&self) -> String {
        format!("\"{}\"", self.version)
    }
}

/// Refreshes that failed, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failing {
    /// Their number, at least one.
    pub count: u32,
    /// When the first of them failed.
    pub since: Timestamp,
}

/// How a refresh failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GrantFailure {
    /// The stable part of the error.
    pub reason: Reason,
    /// When.
    pub time: Timestamp,
}

impl GrantFailure {
    /// The same for people.
    #[must_use]
    pub fn obstacle(&self) -> Obstacle {
        let (message, mend) = match self.reason {
            Reason::ConsentRequired => (
                "SuperOffice no longer accepts the refresh token",
                "let the person consent once more: ImpersonationService.BeginConsent",
            ),
            Reason::SubjectMismatch => (
                "SuperOffice answered for another person or tenant",
                "let the person consent once more: ImpersonationService.BeginConsent",
            ),
            Reason::ApplicationCredentialRefused => (
                "SuperOffice refused the application's own client secret",
                "an operator must correct the application's client secret for this environment",
            ),
            Reason::TenantNotRunning => (
                "SuperOffice refused while the tenant could not be used",
                "nothing: it is tried again when the tenant can be used",
            ),
            _ => (
                "SuperOffice could not be asked, or its answer could not be believed",
                "nothing: it is tried again",
            ),
        };
        let (message, mend) = (message.to_owned(), mend.to_owned());
        Obstacle { reason: self.reason, message, mend }
    }
}

/// Whose access token is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Subject {
    /// The associate's.
    Associate(AssociateId),
    /// The person's who signs in by this name.
    UserPrincipalName(String),
    /// The person's of this grant.
    Grant(GrantName),
}

/// Who signed in, as a verified `id_token` says (SUPEROFFICE.md 4.3).
#[derive(Debug, Clone)]
pub struct Identity {
    /// `ctx`: the customer.
    pub tenant: ContextIdentifier,
    /// `associateid`.
    pub associate_id: AssociateId,
    /// `sub`, which is also `upn`: the name the person signs in by.
    pub user_principal_name: String,
    /// The person's name; may be empty.
    pub full_name: String,
    /// The person's e-mail address; may be empty.
    pub email: String,
    /// Whether the person administers the customer's CRM.
    pub is_administrator: bool,
    /// `system_token`: told to administrators, of applications that have a system user.
    pub system_user_token: Option<SystemUserToken>,
    /// The customer's name; may be empty.
    pub company_name: String,
}

/// A refresh token: opaque, and as good as the person until it is revoked (SUPEROFFICE.md 4.2).
#[derive(Debug, Clone)]
pub struct RefreshToken(SecretString);

impl RefreshToken {
    /// Takes off the white space that pasting adds, and refuses what cannot be one.
    ///
    /// # Errors
    /// With what is wrong, for people; never with the text.
    pub fn new(text: &SecretString) -> Result<Self, String> {
        let text = trimmed(text.expose_secret());
        if text.is_empty() {
            Err("must not be empty".to_owned())
        } else if text.len() > MAX_REFRESH_TOKEN_BYTES {
            Err(format!("at most {MAX_REFRESH_TOKEN_BYTES} bytes"))
        } else if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            // <https://www.rfc-editor.org/rfc/rfc6749#appendix-A.17>, less the space inside.
            Err("must be printable ASCII without spaces".to_owned())
        } else {
            Ok(Self(text.into()))
        }
    }

    /// The secret itself.
    #[must_use]
    pub fn secret(&self) -> &SecretString {
        &self.0
    }
}

/// An access token and what we know of it.
#[derive(Debug, Clone)]
pub struct AccessToken {
    /// `8A:…`, sent as it is.
    pub value: SecretString,
    /// Its public name.
    pub credential_id: CredentialId,
    /// When we asked for it.
    pub issue_time: Timestamp,
    /// Until when it works.
    pub expire_time: Timestamp,
    /// `Grant::token_version` of the refresh token that it was issued for.
    pub token_version: i64,
}

impl AccessToken {
    /// How long it works from `now`.
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
    fn a_pasted_refresh_token_loses_the_white_space_around_it_only() {
        let token = RefreshToken::new(&" KNabc-123.~+/=\r\n".into()).unwrap();
        assert_eq!(token.secret().expose_secret(), "KNabc-123.~+/=");
    }

    #[test]
    fn what_cannot_be_a_refresh_token_is_refused_without_repeating_it() {
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
        let identity = Identity {
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
