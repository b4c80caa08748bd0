//! A page for every outcome of a consent, with the next step and without secrets.

use axum::http::StatusCode;

use crate::{
    broker::{BrokerError, CompletedConsent, ConsentEntry, ConsentLinkState, SignInMismatch},
    domain::{Consent, ConsentOutcome, Reason},
    http::{pages::Page, problem::status_of},
};

/// Returns the value of `result` in the return URI for a failure.
pub(super) fn result_name(error: &BrokerError) -> String {
    match error {
        BrokerError::ConsentRefused => "refused".to_owned(),
        other => other.reason().as_str().to_ascii_lowercase(),
    }
}

/// Returns the page of a link.
pub(super) fn link_page(link: &ConsentLinkState) -> Page {
    match link {
        ConsentLinkState::Open(consent) => consent_page(consent),
        ConsentLinkState::Ended(ConsentOutcome::Granted { .. }) => {
            Page::new(StatusCode::GONE, "This link was used already").text(
                "Access was given with it, and nothing more is needed. You can close this page.",
            )
        }
        ConsentLinkState::Ended(ConsentOutcome::Refused) => {
            Page::new(StatusCode::GONE, "This link was used already")
                .text("The answer was no, and no access was given.")
                .text("If that was a mistake, ask whoever sent you the link for a new one.")
        }
        ConsentLinkState::Ended(ConsentOutcome::Failed(_)) => {
            Page::new(StatusCode::GONE, "This link was used already")
                .text("No access was given with it.")
                .text("Ask whoever sent you the link for a new one.")
        }
        ConsentLinkState::Expired => Page::new(StatusCode::GONE, "This link is too old")
            .text("It was valid for seven days, and nothing was changed.")
            .text("Ask whoever sent you the link for a new one."),
        ConsentLinkState::Unknown => Page::new(StatusCode::NOT_FOUND, "There is nothing here")
            .text("This address belongs to no request for access, or to a very old one.")
            .text("Check that the link is complete: mail programs sometimes break long lines."),
    }
}

fn consent_page(consent: &Consent) -> Page {
    let tenant = consent.tenant.map(|tenant| tenant.to_string());
    let person = consent.expected_user_principal_name.as_deref();
    let facts = [
        Some(("Application", consent.application.as_str())),
        Some(("SuperOffice customer", tenant.as_deref().unwrap_or("the one you sign in to"))),
        Some(("Who is asked", person.unwrap_or("whoever signs in"))),
        Some(("Reason", consent.reason.as_str())).filter(|(_, why)| !why.is_empty()),
    ];
    let page = Page::new(StatusCode::OK, "An application asks for access to SuperOffice")
        .facts(facts.into_iter().flatten())
        .text(
            "If you agree, the application can read and change the same data in SuperOffice as you, also while you are \
             not signed in. Your password stays with SuperOffice.",
        );
    let page = if consent.enroll_system_user {
        page.text(
            "If you administer SuperOffice, the application can then also work for your whole company, with access to \
             all its data.",
        )
    } else {
        page
    };
    page.text("On the next page SuperOffice asks you to sign in. You can still say no there.")
        .button("Continue to SuperOffice")
}

/// Returns the page of the result of a sign-in.
pub(super) fn result_page(
    result: &Result<CompletedConsent, BrokerError>,
    entry: ConsentEntry,
    request_id: &str,
) -> Page {
    let completed = match result {
        Ok(completed) => completed,
        Err(error) => return error_page(error, entry, request_id),
    };
    let grant = &completed.grant;
    let tenant = grant.name.tenant.tenant.to_string();
    let page = Page::new(StatusCode::OK, "Access was given").facts([
        ("Application", grant.name.tenant.application.as_str()),
        ("SuperOffice customer", tenant.as_str()),
        ("Signed in as", grant.user_principal_name.as_str()),
    ]);
    let page = if completed.system_user_enrolled {
        page.text("The application can now act as you, and work for your whole company.")
    } else {
        page.text("The application can now act as you.")
    };
    page.text("You can close this page.")
}

/// Returns the page of a failed sign-in.
pub(super) fn error_page(error: &BrokerError, entry: ConsentEntry, request_id: &str) -> Page {
    let (title, text, next) = explain(error);
    let page = Page::new(status_of(error.reason()), title).text(text).text(next.for_entry(entry));
    with_request_id(page, request_id)
}

/// The next step of a person. Reloading the page does not help, because its state is usually used up.
#[derive(Debug, Clone, Copy)]
struct NextStep {
    /// For a person with a link, which still works.
    with_link: &'static str,
    /// For a person without a link, whose authorization URI is used up.
    without: &'static str,
    /// For a person who may or may not have a link.
    either: &'static str,
}

impl NextStep {
    /// Returns a step that does not depend on a link.
    const fn always(text: &'static str) -> Self {
        Self { with_link: text, without: text, either: text }
    }

    fn for_entry(self, entry: ConsentEntry) -> &'static str {
        match entry {
            ConsentEntry::Link => self.with_link,
            ConsentEntry::Address => self.without,
            ConsentEntry::Unknown => self.either,
        }
    }
}

/// The next step after a sign-in whose state is used up or expired.
const CHECK_GRANT: NextStep = NextStep {
    with_link: "If not, open the link that you were sent again, in this browser.",
    without: "If not, begin again where you came from, or ask whoever sent you here for a new link.",
    either: "If not, open the link that you were sent again, in this browser, or begin again where you \
             came from.",
};

/// The next step after another person signed in.
const SIGN_IN_AS_EXPECTED: NextStep = NextStep {
    with_link: "Sign out of SuperOffice. Then open the link again, and sign in as the person that it names.",
    without: "Sign out of SuperOffice. Then begin again where you came from, and sign in as the person who \
              was asked.",
    either: "Sign out of SuperOffice. Then open the link again, or begin again where you came from.",
};

/// The next step after a sign-in to another customer.
const CHOOSE_EXPECTED_CUSTOMER: NextStep = NextStep {
    with_link: "Open the link again, and choose the customer that it names.",
    without: "Begin again where you came from, and choose the customer that was asked for.",
    either: "Open the link again, or begin again where you came from, and choose the customer that was \
             asked for.",
};

/// The next step after a sign-in to a customer for which no access is permitted.
const CHOOSE_OTHER_CUSTOMER: NextStep = NextStep {
    with_link: "If you have another customer, open the link again and choose that one. If not, ask \
                whoever sent you here.",
    without: "If you have another customer, begin again where you came from and choose that one. If not, \
              ask whoever sent you here.",
    either: "If you have another customer, begin again and choose that one. If not, ask whoever sent you \
             here.",
};

/// The next step if the result is unknown.
const CHECK_RESULT: NextStep = NextStep {
    with_link: "Open the link again in a few minutes: it says whether access was given.",
    without: "Begin again where you came from in a few minutes, or ask whoever sent you here whether \
              access was given.",
    either: "Open the link again in a few minutes, or ask whoever sent you here whether access was given.",
};

/// The next step after a temporary failure.
const RETRY_LATER: NextStep = NextStep {
    with_link: "Open the link that you were sent again in a few minutes. If this page comes again, ask whoever sent you \
                the link.",
    without: "Begin again where you came from in a few minutes, or ask whoever sent you here for a new link.",
    either: "In a few minutes, open the link that you were sent again, or begin again where you came from. If this page \
             comes again, ask whoever sent you here.",
};

/// Returns a title, an explanation and the next step.
fn explain(error: &BrokerError) -> (&'static str, &'static str, NextStep) {
    match error {
        BrokerError::ConsentInvalid(_) => (
            "This sign-in was used already, or took too long",
            "Nothing was stored now. If you gave access just before, it is still valid, and there is nothing to do.",
            CHECK_GRANT,
        ),
        BrokerError::ConsentRefused => (
            "You gave no access",
            "Nothing was stored.",
            NextStep::always("If that was a mistake, ask whoever sent you here for a new link."),
        ),
        BrokerError::WrongSignIn(SignInMismatch::Person) => (
            "You signed in as somebody else",
            "Another person was asked, so nothing was stored.",
            SIGN_IN_AS_EXPECTED,
        ),
        BrokerError::WrongSignIn(SignInMismatch::Tenant) => (
            "You signed in to another customer",
            "Access to another SuperOffice customer was asked for, so nothing was stored.",
            CHOOSE_EXPECTED_CUSTOMER,
        ),
        BrokerError::TenantNotFound(_) => (
            "This customer is not set up here",
            "You signed in to a SuperOffice customer that this service does not know, so nothing was stored.",
            NextStep::always("Ask whoever sent you here to set it up, or choose another customer."),
        ),
        BrokerError::TenantDisabled(_) => (
            "This customer is stopped here",
            "Access to this customer was stopped on our side, so nothing was stored.",
            NextStep::always("Ask whoever sent you here."),
        ),
        BrokerError::NoLongerPermitted(_) => (
            "Access to this customer is not permitted",
            "Whoever sent you here may not be given access to the SuperOffice customer that you signed in to, so \
             nothing was stored.",
            CHOOSE_OTHER_CUSTOMER,
        ),
        BrokerError::UpstreamUnavailable { .. } => {
            ("SuperOffice cannot be reached now", "Nothing was stored.", RETRY_LATER)
        }
        BrokerError::ClientSecretRefused(_) | BrokerError::UpstreamInvalid { .. } => {
            ("SuperOffice could not complete the sign-in", "Nothing was stored.", RETRY_LATER)
        }
        BrokerError::StoreUnavailable(_)
        | BrokerError::StoreOutcomeUnknown(_)
        | BrokerError::KeyUnavailable(_) => (
            "Your answer could not be confirmed",
            "There is a failure on our side, and we do not know whether your answer was stored.",
            CHECK_RESULT,
        ),
        _ => (
            "Something went wrong on our side",
            "We do not know whether access was given.",
            NextStep::always("Ask whoever sent you here."),
        ),
    }
}

/// Returns the page for a callback with invalid parameters.
pub(super) fn invalid_callback_page(request_id: &str) -> Page {
    let page = Page::new(StatusCode::BAD_REQUEST, "This address is not for visiting")
        .text(
            "SuperOffice sends browsers here after a sign-in. This visit did not come from SuperOffice.",
        )
        .text("If you were sent a link, open it again.");
    with_request_id(page, request_id)
}

/// Returns the page for a click that was not on our page, or whose origin the browser does not send.
pub(super) fn foreign_click_page(request_id: &str) -> Page {
    let page = Page::new(StatusCode::FORBIDDEN, "Please open the link itself")
        .text("The request came from another page, or your browser is too old to say from which.")
        .text("Open the link that you were sent in an up-to-date browser, and press the button there.");
    with_request_id(page, request_id)
}

/// Returns the page for a sign-in that is still running after the time limit.
pub(super) fn timeout_page(request_id: &str) -> Page {
    let page = Page::new(status_of(Reason::DeadlineExceeded), "This takes longer than usual")
        .text("SuperOffice has not answered yet, and your answer may still be stored.")
        .text("Open the link again in a few minutes: if it says that it was used, all is well.");
    with_request_id(page, request_id)
}

/// Adds the request id, with which support can find the request in the log.
fn with_request_id(page: Page, request_id: &str) -> Page {
    page.facts([("Number of this request", request_id)])
}
