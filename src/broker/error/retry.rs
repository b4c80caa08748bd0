//! When it is worth asking again.

use std::time::Duration;

use super::{BrokerError, RETRY_SOON};
use crate::{domain::Usability, ports::SendError};

/// After an answer that could not be believed.
const AFTER_DISBELIEF: Duration = Duration::from_secs(5);

/// What has stopped does not come back by itself; somebody may bring it back.
const AFTER_A_STOP: Duration = Duration::from_hours(1);

impl BrokerError {
    /// An answer of the Web API broke off before it was whole.
    pub(crate) fn broken_off(error: &SendError) -> Self {
        Self::UpstreamUnavailable { retry_after: RETRY_SOON, cause: error.to_string().into() }
    }

    /// Whether it is unknown whether a change was done, by SuperOffice or by our store.
    #[must_use]
    pub fn outcome_is_unknown(&self) -> bool {
        matches!(self, Self::OutcomeUnknown { .. } | Self::StoreOutcomeUnknown(_))
    }

    /// The same failure in a call that asks for no change of the store, and so can be sent again.
    #[must_use]
    pub fn without_change(self) -> Self {
        match self {
            Self::StoreOutcomeUnknown(cause) => Self::StoreUnavailable(cause),
            other => other,
        }
    }

    /// When the same call may succeed without anything being changed by its caller; `None` if it will not.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::UpstreamUnavailable { retry_after, .. }
            | Self::BudgetExhausted { retry_after, .. } => Some(*retry_after),
            Self::TenantNotRunning(_, state) => Some(match state.usability() {
                Usability::ComesBack(after) => after,
                Usability::Stopped | Usability::Usable => AFTER_A_STOP,
            }),
            Self::UpstreamInvalid(_) | Self::NoOwner(..) => Some(AFTER_DISBELIEF),
            Self::StoreUnavailable(_) | Self::KeyUnavailable(_) => Some(RETRY_SOON),
            Self::TooManyConsents => Some(AFTER_A_STOP),
            _ => None,
        }
    }
}
