//! Why an exchange is refused, and the texts that say so.

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
/// Names and codes are those the service enumerates; it shows the pattern for one code only, and
/// its text for the last two is not known. Tests can set other texts with
/// [`set_refusal_message`](crate::Control::set_refusal_message).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// The tenant or the vendor withdrew the authorization.
    Revoked,
    /// The authorization's end date passed.
    Expired,
    /// Access is denied; also: unknown tenant, unknown system user token, token of another tenant.
    Denied,
    /// An administrator must approve again.
    NeedsReapproval,
    /// The timestamp is not `yyyyMMddHHmm`, or too far from the clock.
    InvalidTimestamp,
    /// The signature is absent, malformed, or does not match a registered key.
    InvalidSignature,
    /// No application has this secret.
    UnknownApplication,
    /// The tenant is in a state in which it cannot be used.
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

    /// The text it carries unless a test sets another.
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

/// Lets an active authorization pass.
pub(super) fn check(authorization: Authorization) -> Result<(), Refusal> {
    match authorization {
        Authorization::Active => Ok(()),
        Authorization::Revoked => Err(Refusal::Revoked),
        Authorization::Expired => Err(Refusal::Expired),
        Authorization::Denied => Err(Refusal::Denied),
        Authorization::NeedsReapproval => Err(Refusal::NeedsReapproval),
    }
}

/// The texts that tests set.
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

    pub(super) fn text(&self, refusal: Refusal) -> String {
        let overrides = read(&self.overrides);
        overrides.get(&refusal).cloned().unwrap_or_else(|| refusal.message().to_owned())
    }
}
