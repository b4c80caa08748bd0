//! Retry delays, and whether the outcome of a failed call is unknown.

use std::{sync::Arc, time::Duration};

use super::{BrokerError, RETRY_SOON};
use crate::{domain::Usability, ports::SendError};

/// The delay after an invalid answer.
const AFTER_INVALID_ANSWER: Duration = Duration::from_secs(5);

/// The delay for a state that does not end soon: an administrator must act, or consents must expire.
const LONG_RETRY_DELAY: Duration = Duration::from_hours(1);

impl BrokerError {
    /// Returns the error for a Web API answer that ended before it was complete.
    pub(crate) fn truncated_answer(error: &SendError) -> Self {
        Self::UpstreamUnavailable { retry_after: RETRY_SOON, cause: error.to_string().into() }
    }

    /// Returns the error for an invalid answer, with the usual retry delay. `cause` is for the log.
    pub(crate) fn upstream_invalid(cause: impl Into<Arc<str>>) -> Self {
        Self::UpstreamInvalid { retry_after: AFTER_INVALID_ANSWER, cause: cause.into() }
    }

    /// Returns whether it is unknown if a change was made, by SuperOffice or by the store.
    #[must_use]
    pub fn outcome_is_unknown(&self) -> bool {
        matches!(self, Self::OutcomeUnknown { .. } | Self::StoreOutcomeUnknown(_))
    }

    /// Returns the same failure for a call that changes nothing in the store, so that it can be sent again.
    #[must_use]
    pub fn without_change(self) -> Self {
        match self {
            Self::StoreOutcomeUnknown(cause) => Self::StoreUnavailable(cause),
            other => other,
        }
    }

    /// Returns the delay after which the unchanged call may succeed; `None` if it will not.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::UpstreamUnavailable { retry_after, .. }
            | Self::UpstreamInvalid { retry_after, .. }
            | Self::BudgetExhausted { retry_after, .. } => Some(*retry_after),
            Self::TenantNotRunning(_, state) => Some(match state.usability() {
                Usability::RetryAfter(after) => after,
                Usability::Unusable | Usability::Usable => LONG_RETRY_DELAY,
            }),
            Self::OwnerUnknown(..) => Some(AFTER_INVALID_ANSWER),
            Self::StoreUnavailable(_) | Self::KeyUnavailable(_) => Some(RETRY_SOON),
            Self::TooManyConsents => Some(LONG_RETRY_DELAY),
            _ => None,
        }
    }
}
