//! Why a use case did not do what was asked: everything that a caller can be told, and a cause for the log.

mod retry;
mod store;
mod words;

use std::{sync::Arc, time::Duration};

use self::words::{why_consent, why_no_sign_in};
use super::consent::{NoLonger, WhyInvalid};
use crate::{
    domain::{
        ApplicationId, AssociateId, AssociateName, AssociateType, Obstacle, Reason, TenantName,
        TenantState, Usability,
    },
    ports::{Refusal, UpstreamError},
};

/// What a caller should wait before it asks again when our store or SuperOffice does not answer.
pub(crate) const RETRY_SOON: Duration = Duration::from_secs(2);

/// The advice after an unsafe call whose outcome is unknown.
pub(crate) const LOOK_FIRST: &str =
    "whether SuperOffice did what was asked is unknown: look there before you send it again";

/// The advice after a change of our own store whose outcome is unknown.
pub(crate) const READ_FIRST: &str = "whether the gateway kept the change is unknown: read the resource before you send the request again";

/// So many ids stand in a message: it travels in a header, of which clients take 8 KiB in all.
const TOLD_IDS: usize = 10;

/// Why a use case failed. Cheap to clone: everybody who waited for the same answer gets the same error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BrokerError {
    /// A field is wrong in a way that only the use case can see.
    Invalid {
        /// The field of the request.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The client secret was asked for where the configuration does not allow it.
    RevealNotAllowed(ApplicationId),
    /// No such application in the configuration.
    ApplicationNotConfigured(ApplicationId),
    /// No such tenant.
    TenantNotFound(String),
    /// There is such a tenant already.
    TenantExists(TenantName),
    /// The tenant changed since the etag was read.
    VersionConflict(TenantName),
    /// It has grants, and its deletion was not forced.
    TenantHasGrants(TenantName),
    /// The emergency stop is on.
    TenantDisabled(TenantName),
    /// No system user token is stored.
    NotEnrolled(TenantName),
    /// SuperOffice refuses the system user.
    Refused(TenantName, Refusal),
    /// SuperOffice accepts none of the configured client secrets of the application.
    OwnSecretRefused(ApplicationId),
    /// The state or the code of a sign-in is forged, used or expired, or somebody else's.
    ConsentInvalid(WhyInvalid),
    /// The person said no.
    ConsentRefused,
    /// Somebody else signed in, or to another customer, than was asked for.
    AnotherSubject(Mismatch),
    /// The caller that began a consent is not permitted what came of it.
    NoLongerPermitted(NoLonger),
    /// As many consents are open as may be.
    TooManyConsents,
    /// The tenant's state does not allow calls.
    TenantNotRunning(TenantName, TenantState),
    /// The tenant has no associates with these ids, or the credential may not see them.
    AssociatesNotFound(TenantName, Arc<[AssociateId]>),
    /// Nobody has what an associate was looked up by.
    AssociateNotMatched(TenantName),
    /// So many have it.
    AssociateAmbiguous(TenantName, usize),
    /// No such grant.
    GrantNotFound(String),
    /// Without a consent that works nobody acts as the person.
    ConsentRequired(TenantName, WhyConsent),
    /// What SuperOffice gave is for another person or another tenant.
    SubjectMismatch(TenantName),
    /// It is known to be of a kind that cannot sign in, so nobody acts as it.
    CannotSignIn(TenantName, AssociateType),
    /// So many who consented were last known by the name that was asked for.
    GrantAmbiguous(TenantName, usize),
    /// What makes an associate an owner cannot be told.
    NoOwner(AssociateName, Vec<Obstacle>),
    /// SuperOffice cannot be asked.
    UpstreamUnavailable {
        /// When to try again.
        retry_after: Duration,
        /// For the log.
        cause: Arc<str>,
    },
    /// An unsafe call was sent, and nobody knows whether SuperOffice did it.
    OutcomeUnknown {
        /// It took too long; otherwise the connection broke.
        timed_out: bool,
        /// For the log.
        cause: Arc<str>,
    },
    /// The calls that SuperOffice allows to this tenant are used up for longer than the caller can wait.
    BudgetExhausted {
        /// The tenant.
        tenant: TenantName,
        /// When a call can be made.
        retry_after: Duration,
    },
    /// SuperOffice's answer cannot be believed. The cause is for the log.
    UpstreamInvalid(Arc<str>),
    /// Our store does not answer. The cause is for the log.
    StoreUnavailable(Arc<str>),
    /// A change of our store was begun, and it is unknown whether it was kept. The cause is for the log.
    StoreOutcomeUnknown(Arc<str>),
    /// A key is missing. The cause is for the log.
    KeyUnavailable(Arc<str>),
    /// A bug or a corrupt row. The cause is for the log.
    Internal(Arc<str>),
}

/// What is not as it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mismatch {
    /// The person who signed in.
    Person,
    /// The customer to whom they signed in.
    Tenant,
}

/// Why a person must consent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhyConsent {
    /// It has not.
    NotGiven,
    /// SuperOffice no longer accepts it, or it answers for somebody else.
    NoLongerWorks,
    /// It was revoked here.
    Revoked,
    /// The refresh token that was given is not accepted.
    NotAccepted,
}

impl BrokerError {
    /// The stable part.
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
            Self::OwnSecretRefused(_) => Reason::ApplicationCredentialRefused,
            Self::ConsentInvalid(_) => Reason::ConsentInvalid,
            Self::TooManyConsents => Reason::CallerQuotaExceeded,
            Self::TenantNotRunning(..) => Reason::TenantNotRunning,
            Self::AssociateAmbiguous(..) | Self::GrantAmbiguous(..) => Reason::AssociateAmbiguous,
            Self::ConsentRequired(..) | Self::ConsentRefused => Reason::ConsentRequired,
            Self::SubjectMismatch(_) | Self::AnotherSubject(_) => Reason::SubjectMismatch,
            Self::CannotSignIn(..) => Reason::AssociateCannotSignIn,
            Self::OutcomeUnknown { timed_out: true, .. } => Reason::DeadlineExceeded,
            Self::UpstreamUnavailable { .. } | Self::OutcomeUnknown { .. } => {
                Reason::UpstreamUnavailable
            }
            Self::BudgetExhausted { .. } => Reason::UpstreamBudgetExhausted,
            Self::UpstreamInvalid(_) | Self::NoOwner(..) => Reason::UpstreamInvalidResponse,
            Self::StoreUnavailable(_) | Self::StoreOutcomeUnknown(_) => Reason::StoreUnavailable,
            Self::KeyUnavailable(_) => Reason::KeyUnavailable,
            Self::Internal(_) => Reason::Internal,
        }
    }

    /// What is in the way, for people.
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
            Self::OwnSecretRefused(application) => {
                format!("SuperOffice accepts no configured client secret of {application}")
            }
            Self::ConsentInvalid(_) => "the sign-in is forged, used or expired".to_owned(),
            Self::ConsentRefused => "the person did not consent".to_owned(),
            Self::AnotherSubject(Mismatch::Person) => {
                "another person signed in than was asked for".to_owned()
            }
            Self::AnotherSubject(Mismatch::Tenant) => {
                "the person signed in to another tenant than was asked for".to_owned()
            }
            Self::NoLongerPermitted(_) => {
                "policy does not permit the caller that began the consent to have this tenant"
                    .to_owned()
            }
            Self::TooManyConsents => "as many consents are open as may be".to_owned(),
            Self::TenantNotRunning(name, state) => format!("{name} is {}", state.as_str()),
            Self::AssociatesNotFound(tenant, ids) => {
                let told: Vec<_> = ids.iter().take(TOLD_IDS).map(ToString::to_string).collect();
                let more = ids.len().saturating_sub(TOLD_IDS);
                let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                format!("{tenant} has no associates with the ids {}{more}", told.join(", "))
            }
            Self::AssociateNotMatched(tenant) => {
                format!("{tenant} has no associate that matches")
            }
            Self::AssociateAmbiguous(tenant, count) => {
                format!("{tenant} has {count} associates that match")
            }
            Self::ConsentRequired(tenant, why) => format!("{tenant}: {}", why_consent(*why)),
            Self::SubjectMismatch(tenant) => {
                format!(
                    "SuperOffice answers for another person or tenant than this one of {tenant}"
                )
            }
            Self::CannotSignIn(tenant, kind) => {
                format!("nobody acts as this associate of {tenant}: {}", why_no_sign_in(*kind))
            }
            Self::GrantAmbiguous(tenant, count) => {
                format!("{count} people of {tenant} were last known by this name")
            }
            Self::NoOwner(name, obstacles) => {
                let obstacles: Vec<_> = obstacles.iter().map(|one| one.message.as_str()).collect();
                format!("{name} cannot be made an owner: {}", obstacles.join("; "))
            }
            Self::UpstreamUnavailable { .. } => "SuperOffice cannot be asked now".to_owned(),
            Self::OutcomeUnknown { timed_out: true, .. } => {
                "SuperOffice did not answer in time".to_owned()
            }
            Self::OutcomeUnknown { .. } => {
                "the connection to SuperOffice broke before its answer was whole".to_owned()
            }
            Self::BudgetExhausted { tenant, .. } => {
                format!("the calls that SuperOffice allows to {tenant} are used up for now")
            }
            Self::UpstreamInvalid(_) => {
                "SuperOffice gave an answer that cannot be believed".to_owned()
            }
            Self::StoreUnavailable(_) => "the gateway's store does not answer".to_owned(),
            Self::StoreOutcomeUnknown(_) => {
                "the gateway's store did not confirm the change".to_owned()
            }
            Self::KeyUnavailable(_) => "a key that seals a stored secret is not at hand".to_owned(),
            Self::Internal(_) => "internal error".to_owned(),
        }
    }

    /// What to do about it, for people.
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
            Self::VersionConflict(_) => "read it again and decide anew",
            Self::TenantHasGrants(_) => {
                "revoke its grants, or force the deletion, which revokes them all"
            }
            Self::TenantDisabled(_) => {
                "EnableTenant or `tenant-gateway tenant enable` lifts the stop"
            }
            Self::NotEnrolled(_) => {
                "store the token with SetSystemUserToken or `tenant-gateway tenant set-token`"
            }
            Self::Refused(_, refusal) => refusal_mend(*refusal),
            Self::OwnSecretRefused(_) => refusal_mend(Refusal::Credential),
            Self::ConsentInvalid(_) => {
                "begin anew with BeginConsent; only the caller that began a consent completes it, once"
            }
            Self::ConsentRefused => "ask the person, and begin anew with BeginConsent",
            Self::AnotherSubject(_) => {
                "let the person sign in as the one who was asked, to the tenant that was named"
            }
            Self::NoLongerPermitted(_) => {
                "let the person sign in to another tenant, or ask who administers the gateway"
            }
            Self::TooManyConsents => {
                "complete those that are open, or wait: each ends after seven days"
            }
            Self::TenantNotRunning(_, TenantState::Suspended) => {
                "the customer's subscription is suspended; SuperOffice resumes it"
            }
            Self::TenantNotRunning(..) => "GetTenantStatus tells when it can be used again",
            Self::AssociatesNotFound(..) => {
                "ListAssociates shows who is there; who left is still listed"
            }
            Self::AssociateNotMatched(_) => {
                "compare with ListAssociates; texts must be whole, in upper or lower case"
            }
            Self::AssociateAmbiguous(..) => "look up by user_name, or choose one of ListAssociates",
            Self::GrantNotFound(_) => "ListGrants shows those that there are",
            Self::ConsentRequired(..) | Self::SubjectMismatch(_) => {
                "let the person consent (once more): ImpersonationService.BeginConsent"
            }
            Self::CannotSignIn(_, AssociateType::System) => {
                "choose an employee who consents, or use a ticket of the system user for background work"
            }
            Self::CannotSignIn(..) => "choose an employee who consents",
            Self::GrantAmbiguous(..) => "ask by associate_id or by grant",
            Self::NoOwner(..) => {
                "let an administrator of the customer put the user in order, or choose another owner"
            }
            Self::UpstreamUnavailable { .. }
            | Self::BudgetExhausted { .. }
            | Self::UpstreamInvalid(_) => "try again after the time in RetryInfo",
            Self::OutcomeUnknown { .. } => LOOK_FIRST,
            Self::StoreUnavailable(_) => "try again; an operator finds the cause in the log",
            Self::StoreOutcomeUnknown(_) => READ_FIRST,
            Self::KeyUnavailable(_) => "an operator must bring the key back into the keyring",
            Self::Internal(_) => {
                "give the request id to an operator, who finds the cause in the log"
            }
        }
    }

    /// The same for an answer that lists what is in the way.
    #[must_use]
    pub fn obstacle(&self) -> Obstacle {
        Obstacle { reason: self.reason(), message: self.message(), mend: self.mend().to_owned() }
    }

    /// The cause, for the log only.
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

    /// The same, to be told later: when it is worth trying again.
    pub(super) fn after(self, wait: Duration) -> Self {
        match self {
            Self::UpstreamUnavailable { cause, .. } => {
                Self::UpstreamUnavailable { retry_after: wait, cause }
            }
            other => other,
        }
    }

    /// Whether it is for now only: what was known before is still better than nothing.
    pub(super) fn is_passing(&self) -> bool {
        matches!(
            self,
            Self::UpstreamUnavailable { .. }
                | Self::BudgetExhausted { .. }
                | Self::UpstreamInvalid(_)
                | Self::StoreUnavailable(_)
                | Self::StoreOutcomeUnknown(_)
        ) || matches!(self, Self::TenantNotRunning(_, state) if state.usability() != Usability::Stopped)
    }

    /// Whether SuperOffice is down, or answers what cannot be believed.
    pub(super) fn is_upstreams(&self) -> bool {
        matches!(self, Self::UpstreamUnavailable { .. } | Self::UpstreamInvalid(_))
    }

    /// What SuperOffice's answer about a tenant means for whoever asked.
    pub(crate) fn from_upstream(name: &TenantName, error: &UpstreamError) -> Self {
        match error {
            // A wrong clock mends itself or is mended; nobody's authorization is in doubt.
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
            "the authorization's end date has passed; prolong it in the Developer Portal or approve again"
        }
        Refusal::Rejected => {
            "check that the stored token belongs to this tenant and application, and that the client secret is the one of this environment"
        }
        Refusal::Credential => {
            "an operator must correct the application's client secret and private key for this environment"
        }
        Refusal::Clock => "an operator must correct the clock of the gateway",
    }
}
