//! The errors of use cases: the message for the caller, and a cause for the log.

mod messages;
mod retry;
mod store;

use std::{sync::Arc, time::Duration};

use self::messages::{consent_message, no_sign_in_message};
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

/// The maximum number of ids in a message: gRPC sends it in a header, and clients accept 8 KiB of headers.
const MAX_IDS_IN_MESSAGE: usize = 10;

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
    /// SuperOffice's answer is invalid. The cause is for the log.
    UpstreamInvalid(Arc<str>),
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
            Self::UpstreamInvalid(_) | Self::OwnerUnknown(..) => Reason::UpstreamInvalidResponse,
            Self::StoreUnavailable(_) | Self::StoreOutcomeUnknown(_) => Reason::StoreUnavailable,
            Self::KeyUnavailable(_) => Reason::KeyUnavailable,
            Self::Internal(_) => Reason::Internal,
        }
    }

    /// Returns the message for people.
    #[must_use]
    pub fn message(&self) -> String {
        match self {
            Self::Invalid { field, problem } => format!("{field}: {problem}"),
            Self::RevealNotAllowed(application) => {
                format!("the application token of {application} may not be revealed")
            }
            Self::ApplicationNotConfigured(application) => {
                format!("application {application} is not configured")
            }
            Self::TenantNotFound(name) | Self::GrantNotFound(name) => {
                format!("{name} does not exist")
            }
            Self::TenantExists(name) => format!("{name} exists already"),
            Self::VersionConflict(name) => format!("{name} changed since its etag was read"),
            Self::TenantHasGrants(name) => format!("people of {name} have given grants"),
            Self::TenantDisabled(name) => {
                format!("{name} is disabled by an administrator of this gateway")
            }
            Self::NotEnrolled(name) => format!("no system user token is stored for {name}"),
            Self::Refused(name, refusal) => format!("{name}: {refusal}"),
            Self::ClientSecretRefused(application) => {
                format!("SuperOffice accepts no configured client secret of {application}")
            }
            Self::ConsentInvalid(_) => {
                "the sign-in is invalid: its state or code is forged, used or expired".to_owned()
            }
            Self::ConsentRefused => "the person did not consent".to_owned(),
            Self::WrongSignIn(SignInMismatch::Person) => {
                "another person signed in, not the requested one".to_owned()
            }
            Self::WrongSignIn(SignInMismatch::Tenant) => {
                "the person signed in to another tenant, not to the requested one".to_owned()
            }
            Self::NoLongerPermitted(_) => {
                "policy does not permit the caller that began the consent to use this tenant"
                    .to_owned()
            }
            Self::TooManyConsents => "too many consents are pending".to_owned(),
            Self::TenantNotRunning(name, state) => format!("{name} is {}", state.as_str()),
            Self::AssociatesNotFound(tenant, ids) => {
                let shown: Vec<_> =
                    ids.iter().take(MAX_IDS_IN_MESSAGE).map(ToString::to_string).collect();
                let more = ids.len().saturating_sub(MAX_IDS_IN_MESSAGE);
                let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                format!("{tenant} has no associates with the ids {}{more}", shown.join(", "))
            }
            Self::AssociateNotMatched(tenant) => {
                format!("{tenant} has no associate that matches")
            }
            Self::AssociateAmbiguous(tenant, count) => {
                format!("{tenant} has {count} associates that match")
            }
            Self::ConsentRequired(tenant, why) => format!("{tenant}: {}", consent_message(*why)),
            Self::SubjectMismatch(tenant) => {
                format!(
                    "SuperOffice returned tokens for another person or tenant, not for this person of {tenant}"
                )
            }
            Self::CannotSignIn(tenant, kind) => {
                format!(
                    "no call can act as this associate of {tenant}: {}",
                    no_sign_in_message(*kind)
                )
            }
            Self::GrantAmbiguous(tenant, count) => {
                format!("{count} people of {tenant} have this user principal name")
            }
            Self::OwnerUnknown(name, obstacles) => {
                let obstacles: Vec<_> = obstacles.iter().map(|one| one.message.as_str()).collect();
                format!("{name} cannot be set as an owner: {}", obstacles.join("; "))
            }
            Self::UpstreamUnavailable { .. } => "SuperOffice is not available now".to_owned(),
            Self::OutcomeUnknown { timed_out: true, .. } => {
                "SuperOffice did not answer in time".to_owned()
            }
            Self::OutcomeUnknown { .. } => {
                "the connection to SuperOffice broke before its answer was complete".to_owned()
            }
            Self::BudgetExhausted { tenant, .. } => {
                format!("the call budget of {tenant} is used up for now")
            }
            Self::UpstreamInvalid(_) => "SuperOffice returned an invalid answer".to_owned(),
            Self::StoreUnavailable(_) => "the gateway's store does not answer".to_owned(),
            Self::StoreOutcomeUnknown(_) => {
                "the gateway's store did not confirm the change".to_owned()
            }
            Self::KeyUnavailable(_) => "the key of a stored secret is not available".to_owned(),
            Self::Internal(_) => "internal error".to_owned(),
        }
    }

    /// Returns the advice for people: how to fix the problem.
    #[must_use]
    pub fn mend(&self) -> &'static str {
        match self {
            Self::Invalid { .. } => "correct the field and send the request again",
            Self::RevealNotAllowed(_) => {
                "set allow_reveal_application_token for the application, if callers may hold its client secret"
            }
            Self::ApplicationNotConfigured(_) => {
                "add it under [[applications]] or correct the name"
            }
            Self::TenantNotFound(_) => "add it with CreateTenant or `tenant-gateway tenant add`",
            Self::TenantExists(_) => "use it as it is, or delete it first",
            Self::VersionConflict(_) => "read the tenant again and repeat the change",
            Self::TenantHasGrants(_) => {
                "revoke its grants, or force the deletion, which revokes them all"
            }
            Self::TenantDisabled(_) => {
                "enable it with EnableTenant or `tenant-gateway tenant enable`"
            }
            Self::NotEnrolled(_) => {
                "store the token with SetSystemUserToken or `tenant-gateway tenant set-token`"
            }
            Self::Refused(_, refusal) => refusal_mend(*refusal),
            Self::ClientSecretRefused(_) => refusal_mend(Refusal::Credential),
            Self::ConsentInvalid(_) => {
                "start again with BeginConsent; only the caller that began a consent can complete it, and only once"
            }
            Self::ConsentRefused => "ask the person, and start again with BeginConsent",
            Self::WrongSignIn(_) => "the requested person must sign in, to the requested tenant",
            Self::NoLongerPermitted(_) => {
                "let the person sign in to another tenant, or ask the gateway administrator for permission"
            }
            Self::TooManyConsents => {
                "complete pending consents, or wait: each expires after seven days"
            }
            Self::TenantNotRunning(_, TenantState::Suspended) => {
                "the customer's subscription is suspended; SuperOffice resumes it"
            }
            Self::TenantNotRunning(..) => {
                "wait until the tenant runs again: GetTenantStatus returns its current state"
            }
            Self::AssociatesNotFound(..) => {
                "find the ids with ListAssociates; it also lists people who have left"
            }
            Self::AssociateNotMatched(_) => {
                "compare the key with ListAssociates; it must match a whole value; case does not matter"
            }
            Self::AssociateAmbiguous(..) => "look up by user_name, or choose from ListAssociates",
            Self::GrantNotFound(_) => "find the existing grants with ListGrants",
            Self::ConsentRequired(..) | Self::SubjectMismatch(_) => {
                "let the person consent (again) with ImpersonationService.BeginConsent"
            }
            Self::CannotSignIn(_, AssociateType::System) => {
                "choose an employee who can consent, or use a ticket of the system user for background work"
            }
            Self::CannotSignIn(..) => "choose an employee who can consent",
            Self::GrantAmbiguous(..) => "name the person by associate_id or by grant",
            Self::OwnerUnknown(..) => {
                "let an administrator of the customer correct the user, or choose another owner"
            }
            Self::UpstreamUnavailable { .. }
            | Self::BudgetExhausted { .. }
            | Self::UpstreamInvalid(_) => "try again after the delay in RetryInfo",
            Self::OutcomeUnknown { .. } => CHECK_SUPEROFFICE_FIRST,
            Self::StoreUnavailable(_) => "try again; the cause is in the gateway's log",
            Self::StoreOutcomeUnknown(_) => READ_BEFORE_RETRY,
            Self::KeyUnavailable(_) => "an operator must add the key to the keyring again",
            Self::Internal(_) => {
                "give the request id to an operator; the cause is in the gateway's log"
            }
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
            | Self::UpstreamInvalid(cause)
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
            other => other,
        }
    }

    /// Returns whether the error is temporary, so that earlier data is better than an error.
    pub(super) fn is_temporary(&self) -> bool {
        matches!(
            self,
            Self::UpstreamUnavailable { .. }
                | Self::BudgetExhausted { .. }
                | Self::UpstreamInvalid(_)
                | Self::StoreUnavailable(_)
                | Self::StoreOutcomeUnknown(_)
        ) || matches!(self, Self::TenantNotRunning(_, state) if state.usability() != Usability::Unusable)
    }

    /// Returns whether SuperOffice does not answer, or its answer is invalid.
    pub(super) fn is_upstream_failure(&self) -> bool {
        matches!(self, Self::UpstreamUnavailable { .. } | Self::UpstreamInvalid(_))
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
            UpstreamError::InvalidResponse(_) => Self::UpstreamInvalid(error.to_string().into()),
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

fn refusal_mend(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::Revoked | Refusal::NeedsReapproval => {
            "an administrator of the customer must sign in and approve the application"
        }
        Refusal::Expired => {
            "the end date of the authorization has passed; extend it in the Developer Portal or approve the application again"
        }
        Refusal::Rejected => {
            "check that the stored token belongs to this tenant and application, and that the client secret belongs to this environment"
        }
        Refusal::Credential => {
            "an operator must correct the application's client secret and private key for this environment"
        }
        Refusal::Clock => "an operator must correct the clock of the gateway",
    }
}
