//! Rules of sign-ins, where the documentation is silent or contradicts itself.

use serde::{Deserialize, Serialize};

/// Rules for the sign-in of people. The defaults are as documented.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "each switch is independent")]
pub struct SignInRules {
    /// When the approval page is shown.
    pub approval_page: ApprovalPage,
    /// Ignores the tenant in the request or the path: people choose the tenant themselves.
    pub ignore_tenant_hint: bool,
    /// Lifetime of a code in seconds (documented: ten minutes).
    pub code_seconds: u64,
    /// Lifetime of an access token in seconds (documented: 3600, and elsewhere 1200).
    pub access_token_seconds: u64,
    /// Replaces the refresh token at each refresh. SuperOffice does not (documented).
    pub rotation: bool,
    /// Whether and how long a replaced refresh token is accepted.
    pub previous_token: PreviousToken,
    /// Revokes the grant when a code, or a replaced refresh token, is used again and rejected.
    pub reuse_revokes_grant: bool,
    /// Writes `expires_in` as a string (observed) instead of a number (documented).
    pub expires_in_is_text: bool,
    /// Writes `token_type` as `bearer` (observed) instead of `Bearer` (documented).
    pub lower_case_token_type: bool,
    /// Writes access tokens in base64 without padding (observed).
    pub unpadded_access_tokens: bool,
    /// Writes `iat` of id tokens as a string, as before 2020 (observed).
    pub iat_is_text: bool,
    /// SuperOffice's claims that id tokens lack, without their prefix. Some id tokens lack
    /// `webapi_url` (observed), and both addresses will be removed (documented).
    pub omitted_claims: Vec<String>,
    /// Answers 403 instead of 401 to an expired or revoked access token (both documented).
    pub expired_access_is_403: bool,
    /// Rejects access tokens once the grant or authorization is revoked, or the person can no
    /// longer sign in. Otherwise they are accepted until they expire. Not documented.
    pub revocation_ends_access_tokens: bool,
}

impl Default for SignInRules {
    fn default() -> Self {
        Self {
            approval_page: ApprovalPage::default(),
            ignore_tenant_hint: false,
            code_seconds: 600,
            access_token_seconds: 3600,
            rotation: false,
            previous_token: PreviousToken::default(),
            reuse_revokes_grant: false,
            expires_in_is_text: false,
            lower_case_token_type: false,
            unpadded_access_tokens: false,
            iat_is_text: false,
            omitted_claims: Vec::new(),
            expired_access_is_403: false,
            revocation_ends_access_tokens: false,
        }
    }
}

/// When the approval page is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApprovalPage {
    /// At every sign-in, so that a person can refuse each one.
    #[default]
    Always,
    /// Only to administrators, and only while the application is not approved in the tenant
    /// (documented).
    WhenNeeded,
}

/// Acceptance of a refresh token after its replacement. Not documented, because SuperOffice does
/// not rotate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum PreviousToken {
    /// Always refused.
    #[default]
    Refused,
    /// Always accepted.
    Accepted,
    /// Accepted for a number of refreshes.
    AcceptedTimes {
        /// The number of refreshes.
        times: u32,
    },
    /// Accepted for a time.
    AcceptedFor {
        /// The time in seconds.
        seconds: u64,
    },
    /// Accepted until its replacement is used.
    AcceptedUntilNextIsUsed,
}
