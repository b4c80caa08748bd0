//! Parts of error messages that depend on a variant.

use super::ConsentReason;
use crate::domain::AssociateType;

pub(super) fn consent_message(why: ConsentReason) -> &'static str {
    match why {
        ConsentReason::NotGiven => "the person has not consented",
        ConsentReason::NoLongerWorks => "the person's consent is no longer valid",
        ConsentReason::Revoked => "the person's grant was revoked",
        ConsentReason::NotAccepted => {
            "SuperOffice does not accept the refresh token: it is revoked or expired, or belongs to another application"
        }
    }
}

pub(super) fn no_sign_in_message(kind: AssociateType) -> &'static str {
    match kind {
        AssociateType::System => {
            "it is a system user, which can use only the API and cannot sign in or impersonate people"
        }
        _ => "associates of its type cannot sign in to SuperOffice, so it cannot consent",
    }
}
