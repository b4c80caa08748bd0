//! Words of messages that depend on a kind.

use super::WhyConsent;
use crate::domain::AssociateType;

pub(super) fn why_consent(why: WhyConsent) -> &'static str {
    match why {
        WhyConsent::NotGiven => "the person has not consented to being acted for",
        WhyConsent::NoLongerWorks => "the consent of the person no longer works",
        WhyConsent::Revoked => "the grant of the person was revoked",
        WhyConsent::NotAccepted => {
            "SuperOffice does not accept the refresh token: it is revoked, expired or another application's"
        }
    }
}

pub(super) fn why_no_sign_in(kind: AssociateType) -> &'static str {
    match kind {
        AssociateType::System => {
            "it is a system user, which works through the API only, cannot sign in and cannot impersonate anybody"
        }
        _ => "its kind cannot sign in to SuperOffice, so it cannot consent",
    }
}
