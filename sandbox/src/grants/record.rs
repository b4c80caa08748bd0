//! Grants as the control reports them, without tokens.

use aws_lc_rs::digest::{SHA256, digest as hash};
use jiff::Timestamp;
use serde::Serialize;

use crate::tickets::hex;

/// A grant, and the history of its refresh tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GrantRecord {
    /// The number, counted from 1 in the order of creation.
    pub number: u64,
    /// The application.
    pub client_id: String,
    /// The tenant.
    pub tenant: String,
    /// The associate.
    pub associate_id: u32,
    /// The creation time by the sandbox's clock.
    pub begun: Timestamp,
    /// Whether it is revoked.
    pub revoked: bool,
    /// The number of uses of replaced refresh tokens that were rejected.
    pub reuses: u64,
    /// Its refresh tokens in the order of issue; without rotation exactly one.
    pub refresh_tokens: Vec<RefreshTokenRecord>,
}

impl GrantRecord {
    /// Returns the number of refreshes granted.
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
    /// The state.
    pub state: RefreshTokenState,
    /// The index, within the grant, of the token it replaced.
    pub replaces: Option<usize>,
    /// The number of refreshes granted with it.
    pub accepted: u64,
    /// The number of refreshes refused with it.
    pub refused: u64,
}

/// The state of a refresh token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RefreshTokenState {
    /// The token in use.
    Current,
    /// Replaced by a newer token.
    Replaced,
    /// The grant is revoked.
    Revoked,
}

pub(super) fn digest(text: &str) -> String {
    hex(hash(&SHA256, text.as_bytes()).as_ref())
}
