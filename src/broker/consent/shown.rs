//! A state that a caller shows, before it is used.

use crate::domain::{ApplicationId, Consent, ContextIdentifier};

/// A state that its owner has shown. It still works: it is taken out when all that can be checked before was checked.
#[derive(Debug)]
pub struct ShownState {
    pub(super) digest: [u8; 32],
    pub(super) consent: Consent,
}

impl ShownState {
    /// For which application.
    #[must_use]
    pub fn application(&self) -> &ApplicationId {
        &self.consent.application
    }

    /// For which tenant, if one was named.
    #[must_use]
    pub fn tenant(&self) -> Option<ContextIdentifier> {
        self.consent.tenant
    }

    /// Whether it may enrol a system user, so that its caller must be permitted to.
    #[must_use]
    pub fn enrols(&self) -> bool {
        self.consent.enroll_system_user
    }

    /// Why the caller asked.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.consent.reason
    }
}
