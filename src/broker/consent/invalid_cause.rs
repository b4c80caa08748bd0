//! The causes of invalid consents, for the log.

/// The cause of [`BrokerError::ConsentInvalid`](crate::broker::BrokerError::ConsentInvalid). It is logged but not returned, because it would help an attacker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvalidConsentCause {
    /// The state does not have the right form.
    Malformed,
    /// The store has no such state.
    UnknownState,
    /// `CompleteConsent` by another caller.
    OtherCaller,
    /// `CompleteConsent` for a sign-in that began on the consent page.
    NeedsBrowser,
    /// The callback came without the cookie of the click, or with a different one.
    OtherBrowser,
    /// The callback is not the redirect URI of the attempt.
    OtherAddress,
    /// `invalid_grant`.
    CodeRefused,
    /// Another browser is about to complete the same consent.
    CompletionInProgress,
    /// The consent was completed or refused in the meantime.
    Ended,
    /// The link was already used, has expired, or never existed.
    LinkNotPending,
    /// The application's redirect URI was removed since the link was sent.
    NoCallback,
}

impl InvalidConsentCause {
    /// The cause as a text.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "the state does not have the form of a state of this gateway",
            Self::UnknownState => {
                "no pending sign-in has this state: it is made up, was already used, or has expired"
            }
            Self::OtherCaller => "another caller began the sign-in",
            Self::NeedsBrowser => {
                "the sign-in began on the consent page, so only the browser that clicked there completes it"
            }
            Self::OtherBrowser => {
                "the browser is not the one that clicked on the consent page: its cookie is missing or different"
            }
            Self::OtherAddress => {
                "the browser came to a redirect URI other than that of the sign-in"
            }
            Self::CodeRefused => {
                "SuperOffice does not accept the code (invalid_grant): it is too old, was already used, or belongs to \
                 another sign-in"
            }
            Self::CompletionInProgress => "another browser is completing the same consent",
            Self::Ended => "the consent was completed or refused after this sign-in began",
            Self::LinkNotPending => {
                "the link was already used, has expired, or belongs to no consent"
            }
            Self::NoCallback => "the application no longer has a redirect_uri",
        }
    }
}
