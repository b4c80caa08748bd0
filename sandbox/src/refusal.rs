//! Reasons for refused exchanges, and their texts.

use std::collections::HashMap;
use std::sync::RwLock;

use serde::{Deserialize, Serialize};

use crate::lock::{read, write};
use crate::world::Authorization;

/// A reason to refuse a system user exchange.
///
/// | refusal | `ErrorMessage` |
/// |---|---|
/// | `Revoked` | `Authorization error: Revoked (1)` |
/// | `Expired` | `Authorization error: Expired (3)` |
/// | `Denied` | `Authorization error: Denied (4)` |
/// | `NeedsReapproval` | `Authorization error: NeedsReapproval (5)` |
/// | `InvalidTimestamp` | `Authorization error: InvalidTimestamp (6)` |
/// | `InvalidSignature` | `Authorization error: InvalidSignature (7)` |
/// | `UnknownApplication` | `The application token is not valid.` |
/// | `TenantUnavailable` | `The tenant is not available.` |
///
/// Names and codes are those that SuperOffice documents. It shows the pattern for one code only,
/// and does not document the last two texts. Tests can set other texts with
/// [`set_refusal_message`](crate::Control::set_refusal_message).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// The tenant or the vendor withdrew the authorization.
    Revoked,
    /// The authorization has passed its end date.
    Expired,
    /// Access is denied. Also: unknown tenant, unknown system user token, token of another tenant.
    Denied,
    /// An administrator must approve again.
    NeedsReapproval,
    /// The timestamp is not `yyyyMMddHHmm`, or too far from the clock.
    InvalidTimestamp,
    /// The signature is absent, malformed, or does not match a registered key.
    InvalidSignature,
    /// No application has this secret.
    UnknownApplication,
    /// The tenant's state does not allow its use.
    TenantUnavailable,
}

impl Refusal {
    /// Every refusal.
    pub const ALL: [Self; 8] = [
        Self::Revoked,
        Self::Expired,
        Self::Denied,
        Self::NeedsReapproval,
        Self::InvalidTimestamp,
        Self::InvalidSignature,
        Self::UnknownApplication,
        Self::TenantUnavailable,
    ];

    /// Returns the default `ErrorMessage`.
    #[must_use]
    pub fn message(self) -> &'static str {
        match self {
            Self::Revoked => "Authorization error: Revoked (1)",
            Self::Expired => "Authorization error: Expired (3)",
            Self::Denied => "Authorization error: Denied (4)",
            Self::NeedsReapproval => "Authorization error: NeedsReapproval (5)",
            Self::InvalidTimestamp => "Authorization error: InvalidTimestamp (6)",
            Self::InvalidSignature => "Authorization error: InvalidSignature (7)",
            Self::UnknownApplication => "The application token is not valid.",
            Self::TenantUnavailable => "The tenant is not available.",
        }
    }
}

/// Returns the refusal for an authorization that is not active.
pub(crate) fn check(authorization: Authorization) -> Result<(), Refusal> {
    match authorization {
        Authorization::Active => Ok(()),
        Authorization::Revoked => Err(Refusal::Revoked),
        Authorization::Expired => Err(Refusal::Expired),
        Authorization::Denied => Err(Refusal::Denied),
        Authorization::NeedsReapproval => Err(Refusal::NeedsReapproval),
    }
}

/// The texts set by tests.
#[derive(Debug, Default)]
pub(crate) struct RefusalTexts {
    overrides: RwLock<HashMap<Refusal, String>>,
}

impl RefusalTexts {
    pub(crate) fn set(&self, refusal: Refusal, message: Option<String>) {
        let mut overrides = write(&self.overrides);
        match message {
            Some(message) => overrides.insert(refusal, message),
            None => overrides.remove(&refusal),
        };
    }

    pub(crate) fn text(&self, refusal: Refusal) -> String {
        let overrides = read(&self.overrides);
        overrides.get(&refusal).cloned().unwrap_or_else(|| refusal.message().to_owned())
    }
}
