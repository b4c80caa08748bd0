//! The advice of errors: how to fix the problem.

use super::{BrokerError, CHECK_SUPEROFFICE_FIRST, READ_BEFORE_RETRY};
use crate::{
    domain::{AssociateType, TenantState},
    ports::Refusal,
};

const ALLOW_REVEAL: &str =
    "set allow_reveal_application_token for the application, if callers may hold its client secret";
const REVOKE_GRANTS: &str = "revoke its grants, or force the deletion, which revokes them all";
const STORE_TOKEN: &str =
    "store the token with SetSystemUserToken or `tenant-gateway tenant set-token`";
const BEGIN_AGAIN: &str = "start again with BeginConsent; only the caller that began a consent can complete it, and only once";
const OTHER_TENANT: &str =
    "let the person sign in to another tenant, or ask the gateway administrator for permission";
const COMPARE_KEY: &str =
    "compare the key with ListAssociates; it must match a whole value; case does not matter";
const CORRECT_USER: &str =
    "let an administrator of the customer correct the user, or choose another owner";

impl BrokerError {
    /// Returns the advice for people: how to fix the problem.
    #[must_use]
    pub fn mend(&self) -> &'static str {
        match self {
            Self::Invalid { .. } => "correct the field and send the request again",
            Self::RevealNotAllowed(_) => ALLOW_REVEAL,
            Self::ApplicationNotConfigured(_) => {
                "add it under [[applications]] or correct the name"
            }
            Self::TenantNotFound(_) => "add it with CreateTenant or `tenant-gateway tenant add`",
            Self::TenantExists(_) => "use it as it is, or delete it first",
            Self::VersionConflict(_) => "read the tenant again and repeat the change",
            Self::TenantHasGrants(_) => REVOKE_GRANTS,
            Self::TenantDisabled(_) => {
                "enable it with EnableTenant or `tenant-gateway tenant enable`"
            }
            Self::NotEnrolled(_) => STORE_TOKEN,
            Self::Refused(_, refusal) => refusal_mend(*refusal),
            Self::ClientSecretRefused(_) => refusal_mend(Refusal::Credential),
            Self::ConsentInvalid(_) => BEGIN_AGAIN,
            Self::ConsentRefused => "ask the person, and start again with BeginConsent",
            Self::WrongSignIn(_) => "the requested person must sign in, to the requested tenant",
            Self::NoLongerPermitted(_) => OTHER_TENANT,
            Self::TooManyConsents => {
                "complete pending consents, or wait: each expires after seven days"
            }
            Self::TenantNotRunning(_, state) => state_mend(*state),
            Self::AssociatesNotFound(..) => {
                "find the ids with ListAssociates; it also lists people who have left"
            }
            Self::AssociateNotMatched(_) => COMPARE_KEY,
            Self::AssociateAmbiguous(..) => "look up by user_name, or choose from ListAssociates",
            Self::GrantNotFound(_) => "find the existing grants with ListGrants",
            Self::ConsentRequired(..) | Self::SubjectMismatch(_) => {
                "let the person consent (again) with ImpersonationService.BeginConsent"
            }
            Self::CannotSignIn(_, kind) => sign_in_mend(*kind),
            Self::GrantAmbiguous(..) => "name the person by associate_id or by grant",
            Self::OwnerUnknown(..) => CORRECT_USER,
            Self::UpstreamUnavailable { .. }
            | Self::BudgetExhausted { .. }
            | Self::UpstreamInvalid { .. } => "try again after the delay in RetryInfo",
            Self::OutcomeUnknown { .. } => CHECK_SUPEROFFICE_FIRST,
            Self::StoreUnavailable(_) => "try again; the cause is in the gateway's log",
            Self::StoreOutcomeUnknown(_) => READ_BEFORE_RETRY,
            Self::KeyUnavailable(_) => "an operator must add the key to the keyring again",
            Self::Internal(_) => {
                "give the request id to an operator; the cause is in the gateway's log"
            }
        }
    }
}

fn state_mend(state: TenantState) -> &'static str {
    match state {
        TenantState::Suspended => {
            "the customer's subscription is suspended; SuperOffice resumes it"
        }
        _ => "wait until the tenant runs again: GetTenantStatus returns its current state",
    }
}

fn sign_in_mend(kind: AssociateType) -> &'static str {
    match kind {
        AssociateType::System => {
            "choose an employee who can consent, or use a ticket of the system user for background work"
        }
        _ => "choose an employee who can consent",
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
