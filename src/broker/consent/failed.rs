//! Why a consent came to nothing, for the log, and how its person got here, for the page.

use crate::{
    broker::BrokerError,
    domain::{Consent, TenantName},
};

/// The cause of [`BrokerError::ConsentInvalid`]. Callers are not told: each would help somebody who guesses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhyInvalid {
    /// The state cannot be one of ours.
    Malformed,
    /// The store has no such state.
    UnknownState,
    /// `CompleteConsent` by another caller.
    OtherCaller,
    /// `CompleteConsent` for a sign-in that began on the consent page.
    NeedsBrowser,
    /// The callback came without the cookie of the click, or with another.
    OtherBrowser,
    /// The callback is not where SuperOffice was asked to send the browser.
    OtherAddress,
    /// `invalid_grant`.
    CodeRefused,
    /// Another browser is about to complete the same consent.
    Overtaken,
    /// The consent was completed or refused in the meantime.
    Ended,
    /// The link was used already, has expired, or never was.
    LinkEnded,
    /// The application has lost its callback since the link was sent.
    NoCallback,
}

impl WhyInvalid {
    /// The cause as a text.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "the state does not have the form of a state of this gateway",
            Self::UnknownState => {
                "no sign-in under way has this state: it is made up, was used already, or has expired"
            }
            Self::OtherCaller => "another caller began the sign-in",
            Self::NeedsBrowser => {
                "the sign-in began on the consent page, so only the browser that clicked there completes it"
            }
            Self::OtherBrowser => {
                "the browser is not the one that clicked on the consent page: its cookie is missing or another's"
            }
            Self::OtherAddress => {
                "the browser came to another redirect URI than the one that the sign-in was sent to"
            }
            Self::CodeRefused => {
                "SuperOffice does not accept the code (invalid_grant): it is too old, was used already, or belongs to \
                 another sign-in"
            }
            Self::Overtaken => "another browser completes the same consent at this moment",
            Self::Ended => "the consent was completed or refused after this sign-in began",
            Self::LinkEnded => "the link was used already, has expired, or belongs to no consent",
            Self::NoCallback => "the application has no redirect_uri of its own any more",
        }
    }
}

/// The way by which a person got to the sign-in. It decides the next step after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Way {
    /// By `consent_uri`, which still works.
    Link,
    /// By `authorization_uri`, whose state is spent.
    Address,
    /// Unknown, or a secret.
    #[default]
    Unknown,
}

/// Logs a consent that came to nothing. `request_id` is the number on the page.
pub(super) fn log(
    request_id: &str,
    consent: Option<&Consent>,
    tenant: Option<&TenantName>,
    error: &BrokerError,
) {
    let asked = consent.and_then(|consent| {
        let tenant = consent.tenant?;
        Some(TenantName { application: consent.application.clone(), tenant })
    });
    let message = error.message();
    tracing::info!(
        application = consent.map(|consent| consent.application.as_str()),
        tenant = tenant.or(asked.as_ref()).map(tracing::field::display),
        consent = consent.map(|consent| tracing::field::display(&consent.id)),
        reason = error.reason().as_str(),
        cause = error.cause().unwrap_or(&message),
        request_id,
        "a consent was not given"
    );
}
