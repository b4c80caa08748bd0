//! Conversion of store errors.

use super::BrokerError;
use crate::ports::{SealError, StoreError};

impl From<StoreError> for BrokerError {
    fn from(error: StoreError) -> Self {
        let cause = error.to_string().into();
        match error {
            StoreError::Unavailable(_) | StoreError::Lost(_) => Self::StoreUnavailable(cause),
            StoreError::OutcomeUnknown(_) => Self::StoreOutcomeUnknown(cause),
            StoreError::Seal(SealError::KeyUnavailable(_)) => Self::KeyUnavailable(cause),
            StoreError::Seal(_)
            | StoreError::Corrupt(_)
            | StoreError::AlreadyExists
            | StoreError::Conflict => Self::Internal(cause),
        }
    }
}
