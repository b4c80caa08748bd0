//! What the control tells about grants: never a token itself.

use aws_lc_rs::digest::{SHA256, digest as hash};
use jiff::Timestamp;
use serde::Serialize;

use crate::tickets::hex;

/// A person's sign-in to an application, and what became of its refresh tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GrantRecord {
    /// Counted from 1, in the order they began.
    pub number: u64,
    /// The application.
    pub client_id: String,
    /// The tenant.
    pub tenant: String,
    /// The associate that signed in.
    pub associate_id: u32,
    /// When its code was exchanged, by the sandbox's clock.
    pub begun: Timestamp,
    /// Whether it was revoked, by whomever.
    pub revoked: bool,
    /// How often a refresh token came that had been replaced and was not accepted any more.
    pub reuses: u64,
    /// Its refresh tokens in the order they were issued: one, or with rotation many.
    pub refresh_tokens: Vec<RefreshTokenRecord>,
}

impl GrantRecord {
    /// How many refreshes were granted.
    #[must_use]
    pub fn refreshes(&self) -> u64 {
        self.refresh_tokens.iter().map(|token| token.accepted).sum()
    }
}

/// A refresh token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RefreshTokenRecord {
    /// SHA-256 of the token in lower-case hex.
    pub digest: String,
    /// What became of it.
    pub state: RefreshTokenState,
    /// The place among the tokens of its grant of the one it replaced.
    pub replaces: Option<usize>,
    /// How often a refresh with it was granted.
    pub accepted: u64,
    /// How often one was refused.
    pub refused: u64,
}

/// What became of a refresh token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RefreshTokenState {
    /// It is in use.
    Current,
    /// Another was issued in its place.
    Replaced,
    /// Its grant was revoked.
    Revoked,
}

pub(super) fn digest(text: &str) -> String {
    hex(hash(&SHA256, text.as_bytes()).as_ref())
}
