//! The errors of use cases: the message for the caller, and a cause for the log.

mod mend;
mod message;
mod retry;
mod store;

use std::{sync::Arc, time::Duration};

use super::consent::{InvalidConsentCause, PermissionLost};
use crate::{
    domain::{
        ApplicationId, AssociateId, AssociateName, AssociateType, Obstacle, Reason, TenantName,
        TenantState, Usability,
    },
    ports::{Refusal, UpstreamError},
};

/// The retry delay for callers when the store or SuperOffice does not answer.
pub(crate) const RETRY_SOON: Duration = Duration::from_secs(2);

/// The advice after an unsafe call whose outcome is unknown.
pub(crate) const CHECK_SUPEROFFICE_FIRST: &str = "it is unknown whether SuperOffice made the change: check in SuperOffice before you send the request again";

/// The advice after a change of our own store whose outcome is unknown.
pub(crate) const READ_BEFORE_RETRY: &str = "it is unknown whether the gateway stored the change: read the resource before you send the request again";

/// The error of a use case. Cheap to clone, because all callers that waited for the same result get the same error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BrokerError {
    /// A field is invalid in a way that only the use case can detect.
    Invalid {
        /// The field of the request.
        field: &'static str,
        /// The problem with the field.
        problem: String,
    },
    /// The configuration does not allow revealing the client secret, but the caller requested it.
    RevealNotAllowed(ApplicationId),
    /// The application is not configured.
    ApplicationNotConfigured(ApplicationId),
    /// The tenant does not exist.
    TenantNotFound(String),
    /// The tenant already exists.
    TenantExists(TenantName),
    /// The tenant changed since the etag was read.
    VersionConflict(TenantName),
    /// The tenant has grants, and its deletion was not forced.
    TenantHasGrants(TenantName),
    /// An administrator has disabled the tenant.
    TenantDisabled(TenantName),
    /// No system user token is stored for the tenant.
    NotEnrolled(TenantName),
    /// SuperOffice refuses the system user or the application.
    Refused(TenantName, Refusal),
    /// SuperOffice accepts none of the configured client secrets of the application.
    ClientSecretRefused(ApplicationId),
    /// The `state` or the code of a sign-in is forged, used, expired or issued to another caller.
    ConsentInvalid(InvalidConsentCause),
    /// The person refused consent.
    ConsentRefused,
    /// The person or the tenant of a sign-in is not the requested one.
    WrongSignIn(SignInMismatch),
    /// Policy no longer permits the result to the caller that began the consent.
    NoLongerPermitted(PermissionLost),
    /// Too many consents are pending.
    TooManyConsents,
    /// The tenant's state does not allow calls.
    TenantNotRunning(TenantName, TenantState),
    /// The tenant has no associates with these ids, or the credential may not see them.
    AssociatesNotFound(TenantName, Arc<[AssociateId]>),
    /// No associate matches the lookup key.
    AssociateNotMatched(TenantName),
    /// This number of associates match the lookup key.
    AssociateAmbiguous(TenantName, usize),
    /// The grant does not exist.
    GrantNotFound(String),
    /// The person has given no valid consent, so no call can act as the person.
    ConsentRequired(TenantName, ConsentReason),
    /// SuperOffice's tokens are for another person or another tenant.
    SubjectMismatch(TenantName),
    /// The associate's type cannot sign in, so no call can act as this associate.
    CannotSignIn(TenantName, AssociateType),
    /// This number of people with a grant have the requested user principal name.
    GrantAmbiguous(TenantName, usize),
    /// The data about an associate is not sufficient to set it as an owner.
    OwnerUnknown(AssociateName, Vec<Obstacle>),
    /// SuperOffice does not answer.
    UpstreamUnavailable {
        /// The time after which to retry.
        retry_after: Duration,
        /// For the log.
        cause: Arc<str>,
    },
    /// An unsafe call was sent, and it is unknown whether SuperOffice ran it.
    OutcomeUnknown {
        /// Whether the call timed out; otherwise the connection broke.
        timed_out: bool,
        /// For the log.
        cause: Arc<str>,
    },
    /// The call budget of the tenant is used up for longer than the caller can wait.
    BudgetExhausted {
        /// The tenant.
        tenant: TenantName,
        /// The time until a call can be made.
        retry_after: Duration,
    },
    /// SuperOffice's answer is invalid.
    UpstreamInvalid {
        /// The time after which to retry.
        retry_after: Duration,
        /// For the log.
        cause: Arc<str>,
    },
    /// The store does not answer. The cause is for the log.
    StoreUnavailable(Arc<str>),
    /// The store did not confirm a change, so it is unknown whether it was stored. The cause is for the log.
    StoreOutcomeUnknown(Arc<str>),
    /// A key is missing. The cause is for the log.
    KeyUnavailable(Arc<str>),
    /// A bug or a corrupt row. The cause is for the log.
    Internal(Arc<str>),
}

/// The property of a sign-in that differs from the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignInMismatch {
    /// The person who signed in.
    Person,
    /// The tenant to which they signed in.
    Tenant,
}

/// The reason why a person must consent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConsentReason {
    /// The person has not consented.
    NotGiven,
    /// SuperOffice no longer accepts the refresh token, or returns tokens for another person.
    NoLongerWorks,
    /// The grant was revoked in this gateway.
    Revoked,
    /// SuperOffice does not accept the imported refresh token.
    NotAccepted,
}

impl BrokerError {
    /// Returns the stable reason code.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Invalid { .. } => Reason::InvalidArgument,
            Self::RevealNotAllowed(_) | Self::NoLongerPermitted(_) => Reason::PolicyDenied,
            Self::ApplicationNotConfigured(_) => Reason::ApplicationNotConfigured,
            Self::TenantNotFound(_)
            | Self::AssociatesNotFound(..)
            | Self::AssociateNotMatched(_)
            | Self::GrantNotFound(_) => Reason::ResourceNotFound,
            Self::TenantExists(_) => Reason::AlreadyExists,
            Self::VersionConflict(_) => Reason::VersionConflict,
            Self::TenantHasGrants(_) => Reason::TenantHasGrants,
            Self::TenantDisabled(_) => Reason::TenantDisabled,
            Self::NotEnrolled(_) => Reason::SystemUserNotEnrolled,
            Self::Refused(_, refusal) => refusal_reason(*refusal),
            Self::ClientSecretRefused(_) => Reason::ApplicationCredentialRefused,
            Self::ConsentInvalid(_) => Reason::ConsentInvalid,
            Self::TooManyConsents => Reason::CallerQuotaExceeded,
            Self::TenantNotRunning(..) => Reason::TenantNotRunning,
            Self::AssociateAmbiguous(..) | Self::GrantAmbiguous(..) => Reason::AssociateAmbiguous,
            Self::ConsentRequired(..) | Self::ConsentRefused => Reason::ConsentRequired,
            Self::SubjectMismatch(_) | Self::WrongSignIn(_) => Reason::SubjectMismatch,
            Self::CannotSignIn(..) => Reason::AssociateCannotSignIn,
            Self::OutcomeUnknown { timed_out: true, .. } => Reason::DeadlineExceeded,
            Self::UpstreamUnavailable { .. } | Self::OutcomeUnknown { .. } => {
                Reason::UpstreamUnavailable
            }
            Self::BudgetExhausted { .. } => Reason::UpstreamBudgetExhausted,
            Self::UpstreamInvalid { .. } | Self::OwnerUnknown(..) => {
                Reason::UpstreamInvalidResponse
            }
            Self::StoreUnavailable(_) | Self::StoreOutcomeUnknown(_) => Reason::StoreUnavailable,
            Self::KeyUnavailable(_) => Reason::KeyUnavailable,
            Self::Internal(_) => Reason::Internal,
        }
    }

    /// Returns the error as an [`Obstacle`], for answers that list obstacles.
    #[must_use]
    pub fn obstacle(&self) -> Obstacle {
        Obstacle { reason: self.reason(), message: self.message(), mend: self.mend().to_owned() }
    }

    /// Returns the cause, for the log only.
    #[must_use]
    pub fn cause(&self) -> Option<&str> {
        match self {
            Self::UpstreamUnavailable { cause, .. }
            | Self::OutcomeUnknown { cause, .. }
            | Self::UpstreamInvalid { cause, .. }
            | Self::StoreUnavailable(cause)
            | Self::StoreOutcomeUnknown(cause)
            | Self::KeyUnavailable(cause)
            | Self::Internal(cause) => Some(cause),
            Self::ConsentInvalid(why) => Some(why.as_str()),
            _ => None,
        }
    }

    /// Returns the same error with another retry delay.
    pub(super) fn with_retry_after(self, wait: Duration) -> Self {
        match self {
            Self::UpstreamUnavailable { cause, .. } => {
                Self::UpstreamUnavailable { retry_after: wait, cause }
            }
            Self::UpstreamInvalid { cause, .. } => {
                Self::UpstreamInvalid { retry_after: wait, cause }
            }
            other => other,
        }
    }

    /// Returns whether the error is temporary, so that earlier data is better than an error.
    pub(super) fn is_temporary(&self) -> bool {
        matches!(
            self,
            Self::UpstreamUnavailable { .. }
                | Self::BudgetExhausted { .. }
                | Self::UpstreamInvalid { .. }
                | Self::StoreUnavailable(_)
                | Self::StoreOutcomeUnknown(_)
        ) || matches!(self, Self::TenantNotRunning(_, state) if state.usability() != Usability::Unusable)
    }

    /// Returns whether SuperOffice does not answer, or its answer is invalid.
    pub(super) fn is_upstream_failure(&self) -> bool {
        matches!(self, Self::UpstreamUnavailable { .. } | Self::UpstreamInvalid { .. })
    }

    /// Converts an error of a request to SuperOffice about a tenant.
    pub(crate) fn from_upstream(name: &TenantName, error: &UpstreamError) -> Self {
        match error {
            // A wrong clock is temporary and says nothing about the authorization of the tenant.
            UpstreamError::Refused(Refusal::Clock)
            | UpstreamError::Unavailable(_)
            | UpstreamError::HostUnavailable(_)
            | UpstreamError::Misdirected => Self::UpstreamUnavailable {
                retry_after: RETRY_SOON,
                cause: error.to_string().into(),
            },
            UpstreamError::CircuitOpen(retry_after) => Self::UpstreamUnavailable {
                retry_after: *retry_after,
                cause: error.to_string().into(),
            },
            UpstreamError::InvalidResponse(_) => Self::upstream_invalid(error.to_string()),
            UpstreamError::Refused(refusal) => Self::Refused(name.clone(), *refusal),
        }
    }
}

fn refusal_reason(refusal: Refusal) -> Reason {
    match refusal {
        Refusal::Revoked => Reason::ApplicationRevoked,
        Refusal::Expired => Reason::ApplicationExpired,
        Refusal::NeedsReapproval => Reason::ApplicationNeedsReapproval,
        Refusal::Rejected => Reason::SystemUserRejected,
        Refusal::Credential => Reason::ApplicationCredentialRefused,
        Refusal::Clock => Reason::UpstreamUnavailable,
    }
}
