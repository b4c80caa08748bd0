//! A state that a caller presents, before it is redeemed.

use crate::domain::{ApplicationId, Consent, ContextIdentifier};

/// A state that its owner has presented. It is redeemed later, after all other checks.
#[derive(Debug)]
pub struct PresentedState {
    pub(super) digest: [u8; 32],
    pub(super) consent: Consent,
}

impl PresentedState {
    /// Returns the application of the consent.
    #[must_use]
    pub fn application(&self) -> &ApplicationId {
        &self.consent.application
    }

    /// Returns the tenant of the consent, if one was named.
    #[must_use]
    pub fn tenant(&self) -> Option<ContextIdentifier> {
        self.consent.tenant
    }

    /// Returns whether the consent enrols a system user, which its caller must be permitted to do.
    #[must_use]
    pub fn enrols(&self) -> bool {
        self.consent.enroll_system_user
    }

    /// Returns the caller's reason.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.consent.reason
    }
}
