//! Conversion of errors of the store and the audit trail.

use super::BrokerError;
use crate::{
    audit::AuditUnavailable,
    ports::{SealError, StoreError},
};

impl From<AuditUnavailable> for BrokerError {
    fn from(error: AuditUnavailable) -> Self {
        Self::StoreUnavailable(error.to_string().into())
    }
}

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
