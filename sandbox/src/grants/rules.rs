//! How the sign-in behaves, where the documentation is silent or contradicts itself.

use serde::{Deserialize, Serialize};

/// Switches for the sign-in of people. The default is what is documented.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub struct SignInRules {
    /// When a person is asked to approve.
    pub approval_page: ApprovalPage,
    /// A tenant in the request or in the path is not honoured: people are asked, and may choose
    /// another.
    pub ignore_tenant_hint: bool,
    /// How long a code lives, in seconds (SUPEROFFICE.md 4.1, documented: ten minutes).
    pub code_seconds: u64,
    /// How long an access token lives, in seconds (4.2, documented: 3600, and elsewhere 1200).
    pub access_token_seconds: u64,
    /// Each refresh replaces the refresh token. SuperOffice does not (4.2, documented).
    pub rotation: bool,
    /// What a refresh token is worth that was replaced.
    pub previous_token: PreviousToken,
    /// A replaced refresh token that is no longer accepted, and a code that comes again, revoke
    /// the grant.
    pub reuse_revokes_grant: bool,
    /// `expires_in` is a text (4.2, seen) instead of a number (documented).
    pub expires_in_is_text: bool,
    /// `token_type` is `bearer` (4.2, seen) instead of `Bearer` (documented).
    pub lower_case_token_type: bool,
    /// The base64 of access tokens has no padding (4.2, seen).
    pub unpadded_access_tokens: bool,
    /// `iat` of id tokens is a text, as before 2020 (4.3, seen).
    pub iat_is_text: bool,
    /// SuperOffice's claims that id tokens lack, without their prefix: `webapi_url` is absent in
    /// places (4.3, seen), and both addresses are to go (documented).
    pub omitted_claims: Vec<String>,
    /// An access token that expired or was revoked is answered 403 instead of 401 (7.3, both
    /// documented).
    pub expired_access_is_403: bool,
    /// Access tokens die with what they rest on: the grant, the authorization, the person's right
    /// to sign in. Else they live until they expire. Not documented.
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

/// When a person is asked to approve or refuse.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApprovalPage {
    /// At every sign-in, so that every sign-in can be refused.
    #[default]
    Always,
    /// Only an administrator, and only while the application is not approved in the tenant: as is
    /// documented (SUPEROFFICE.md 8).
    WhenNeeded,
}

/// What a refresh token is worth after another was issued in its place. Nothing is documented:
/// SuperOffice does not rotate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum PreviousToken {
    /// Nothing.
    #[default]
    Refused,
    /// As much as before.
    Accepted,
    /// So many more refreshes.
    AcceptedTimes {
        /// How many.
        times: u32,
    },
    /// Refreshes for so long.
    AcceptedFor {
        /// How long.
        seconds: u64,
    },
    /// Refreshes until one that replaced it is used.
    AcceptedUntilNextIsUsed,
}
