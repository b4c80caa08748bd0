//! The messages of errors.

use super::{BrokerError, ConsentReason, SignInMismatch};
use crate::domain::{AssociateId, AssociateName, AssociateType, Obstacle, TenantName};

/// The maximum number of ids in a message: gRPC sends it in a header, and clients accept 8 KiB of headers.
const MAX_IDS_IN_MESSAGE: usize = 10;

const CONSENT_INVALID: &str =
    "the sign-in is invalid: its state or code is forged, used or expired";
const NO_LONGER_PERMITTED: &str =
    "policy does not permit the caller that began the consent to use this tenant";
const TIMED_OUT: &str = "SuperOffice did not answer in time";
const INTERRUPTED: &str = "the connection to SuperOffice broke before its answer was complete";
const STORE_OUTCOME_UNKNOWN: &str = "the gateway's store did not confirm the change";
const KEY_UNAVAILABLE: &str = "the key of a stored secret is not available";

impl BrokerError {
    /// Returns the message for people.
    #[must_use]
    pub fn message(&self) -> String {
        match self {
            Self::Invalid { field, problem } => format!("{field}: {problem}"),
            Self::RevealNotAllowed(id) => {
                format!("the application token of {id} may not be revealed")
            }
            Self::ApplicationNotConfigured(id) => format!("application {id} is not configured"),
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
            Self::ClientSecretRefused(id) => {
                format!("SuperOffice accepts no configured client secret of {id}")
            }
            Self::ConsentInvalid(_) => CONSENT_INVALID.to_owned(),
            Self::ConsentRefused => "the person did not consent".to_owned(),
            Self::WrongSignIn(mismatch) => mismatch.message().to_owned(),
            Self::NoLongerPermitted(_) => NO_LONGER_PERMITTED.to_owned(),
            Self::TooManyConsents => "too many consents are pending".to_owned(),
            Self::TenantNotRunning(name, state) => format!("{name} is {}", state.as_str()),
            Self::AssociatesNotFound(tenant, ids) => associates_not_found(tenant, ids),
            Self::AssociateNotMatched(name) => format!("{name} has no associate that matches"),
            Self::AssociateAmbiguous(name, n) => format!("{name} has {n} associates that match"),
            Self::ConsentRequired(name, reason) => format!("{name}: {}", reason.message()),
            Self::SubjectMismatch(name) => format!(
                "SuperOffice returned tokens for another person or tenant, not for this person of {name}"
            ),
            Self::CannotSignIn(tenant, kind) => cannot_sign_in(tenant, *kind),
            Self::GrantAmbiguous(tenant, count) => {
                format!("{count} people of {tenant} have this user principal name")
            }
            Self::OwnerUnknown(name, obstacles) => owner_unknown(name, obstacles),
            Self::UpstreamUnavailable { .. } => "SuperOffice is not available now".to_owned(),
            Self::OutcomeUnknown { timed_out: true, .. } => TIMED_OUT.to_owned(),
            Self::OutcomeUnknown { .. } => INTERRUPTED.to_owned(),
            Self::BudgetExhausted { tenant, .. } => {
                format!("the call budget of {tenant} is used up for now")
            }
            Self::UpstreamInvalid { .. } => "SuperOffice returned an invalid answer".to_owned(),
            Self::StoreUnavailable(_) => "the gateway's store does not answer".to_owned(),
            Self::StoreOutcomeUnknown(_) => STORE_OUTCOME_UNKNOWN.to_owned(),
            Self::KeyUnavailable(_) => KEY_UNAVAILABLE.to_owned(),
            Self::Internal(_) => "internal error".to_owned(),
        }
    }
}

impl SignInMismatch {
    fn message(self) -> &'static str {
        match self {
            Self::Person => "another person signed in, not the requested one",
            Self::Tenant => "the person signed in to another tenant, not to the requested one",
        }
    }
}

impl ConsentReason {
    fn message(self) -> &'static str {
        match self {
            Self::NotGiven => "the person has not consented",
            Self::NoLongerWorks => "the person's consent is no longer valid",
            Self::Revoked => "the person's grant was revoked",
            Self::NotAccepted => {
                "SuperOffice does not accept the refresh token: it is revoked or expired, or belongs to another application"
            }
        }
    }
}

fn associates_not_found(tenant: &TenantName, ids: &[AssociateId]) -> String {
    let shown: Vec<_> = ids.iter().take(MAX_IDS_IN_MESSAGE).map(ToString::to_string).collect();
    let more = ids.len().saturating_sub(MAX_IDS_IN_MESSAGE);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{tenant} has no associates with the ids {}{more}", shown.join(", "))
}

fn cannot_sign_in(tenant: &TenantName, kind: AssociateType) -> String {
    let cause = match kind {
        AssociateType::System => {
            "it is a system user, which can use only the API and cannot sign in or impersonate people"
        }
        _ => "associates of its type cannot sign in to SuperOffice, so it cannot consent",
    };
    format!("no call can act as this associate of {tenant}: {cause}")
}

fn owner_unknown(name: &AssociateName, obstacles: &[Obstacle]) -> String {
    let obstacles: Vec<_> = obstacles.iter().map(|one| one.message.as_str()).collect();
    format!("{name} cannot be set as an owner: {}", obstacles.join("; "))
}
