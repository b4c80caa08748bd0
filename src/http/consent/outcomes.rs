//! A page for every outcome, in plain words, that says what to do next and tells nobody else's secrets.

use axum::http::StatusCode;

use crate::{
    broker::{BrokerError, ConsentTaken, Link, Mismatch},
    domain::{Consent, ConsentOutcome, Reason},
    http::{pages::Page, problem::status_of},
};

/// How an outcome is called on the way back.
pub(super) fn name(error: &BrokerError) -> String {
    match error {
        BrokerError::ConsentRefused => "refused".to_owned(),
        other => other.reason().as_str().to_ascii_lowercase(),
    }
}

/// What a link leads to.
pub(super) fn of_link(link: &Link) -> Page {
    match link {
        Link::Open(consent) => asking(consent),
        Link::Ended(ConsentOutcome::Granted { .. }) => {
            Page::new(StatusCode::GONE, "This link was used already").text(
                "Access was given by it, and nothing more is needed. You can close this page.",
            )
        }
        Link::Ended(ConsentOutcome::Refused) => {
            Page::new(StatusCode::GONE, "This link was used already")
                .text("The answer was no, and no access was given.")
                .text("If that was a mistake, ask whoever sent you the link for a new one.")
        }
        Link::Ended(ConsentOutcome::Failed(_)) => {
            Page::new(StatusCode::GONE, "This link was used already")
                .text("No access was given by it.")
                .text("Ask whoever sent you the link for a new one.")
        }
        Link::Expired => Page::new(StatusCode::GONE, "This link is too old")
            .text("It worked for seven days, and nothing was changed.")
            .text("Ask whoever sent you the link for a new one."),
        Link::Unknown => Page::new(StatusCode::NOT_FOUND, "There is nothing here")
            .text("This address belongs to no request for access, or to one from long ago.")
            .text("Look whether the link is whole: mail programs sometimes break long lines."),
    }
}

fn asking(consent: &Consent) -> Page {
    let tenant = consent.tenant.map(|tenant| tenant.to_string());
    let person = consent.expected_user_principal_name.as_deref();
    let facts = [
        Some(("Application", consent.application.as_str())),
        Some(("SuperOffice customer", tenant.as_deref().unwrap_or("the one you sign in to"))),
        Some(("Who is asked", person.unwrap_or("whoever signs in"))),
        Some(("Why", consent.reason.as_str())).filter(|(_, why)| !why.is_empty()),
    ];
    let page = Page::new(StatusCode::OK, "An application asks for access to SuperOffice")
        .facts(facts.into_iter().flatten())
        .text(
            "If you agree, the application can read and change in SuperOffice what you can, also when you are not \
             there. Your password stays with SuperOffice.",
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

/// How a sign-in ended.
pub(super) fn of_result(result: &Result<ConsentTaken, BrokerError>, request_id: &str) -> Page {
    let taken = match result {
        Ok(taken) => taken,
        Err(error) => return of_error(error, request_id),
    };
    let grant = &taken.grant;
    let tenant = grant.name.tenant.tenant.to_string();
    let page = Page::new(StatusCode::OK, "Access was given").facts([
        ("Application", grant.name.tenant.application.as_str()),
        ("SuperOffice customer", tenant.as_str()),
        ("Signed in as", grant.user_principal_name.as_str()),
    ]);
    let page = if taken.system_user_enrolled {
        page.text("The application can now act as you, and work for your whole company.")
    } else {
        page.text("The application can now act as you.")
    };
    page.text("You can close this page.")
}

/// Why no access was given.
pub(super) fn of_error(error: &BrokerError, request_id: &str) -> Page {
    let (title, text, next) = words(error);
    let page = Page::new(status_of(error.reason()), title).text(text).text(next);
    of_request(page, request_id)
}

fn words(error: &BrokerError) -> (&'static str, &'static str, &'static str) {
    match error {
        BrokerError::ConsentInvalid => (
            "This sign-in was used already, or took too long",
            "Nothing was stored now. If you gave access just before, that stands, and there is nothing to do.",
            "If not, open the link that you were sent again, in this browser, or begin again where you came from.",
        ),
        BrokerError::ConsentRefused => (
            "You gave no access",
            "Nothing was stored.",
            "If that was a mistake, ask whoever sent you here for a new link.",
        ),
        BrokerError::AnotherSubject(Mismatch::Person) => (
            "You signed in as somebody else",
            "Another person was asked, so nothing was stored.",
            "Sign out of SuperOffice. Then open the link again, and sign in as the person that it names.",
        ),
        BrokerError::AnotherSubject(Mismatch::Tenant) => (
            "You signed in to another customer",
            "Access to another SuperOffice customer was asked for, so nothing was stored.",
            "Open the link again, and choose the customer that it names.",
        ),
        BrokerError::TenantNotFound(_) => (
            "This customer is not set up here",
            "You signed in to a SuperOffice customer that this service does not know, so nothing was stored.",
            "Ask whoever sent you here to set it up, or choose another customer.",
        ),
        BrokerError::TenantDisabled(_) => (
            "This customer is stopped here",
            "Access to this customer was stopped on our side, so nothing was stored.",
            "Ask whoever sent you here.",
        ),
        BrokerError::NoLongerPermitted(_) => (
            "Access to this customer is not permitted",
            "Whoever sent you here may not be given access to the SuperOffice customer that you signed in to, so \
             nothing was stored.",
            "If you have another customer, open the link again and choose that one. If not, ask whoever sent you here.",
        ),
        BrokerError::UpstreamUnavailable { .. } => (
            "SuperOffice cannot be reached now",
            "Nothing was stored.",
            "Reload this page in a minute, or open the link again. If it goes on, ask whoever sent you here.",
        ),
        BrokerError::OwnSecretRefused(_) | BrokerError::UpstreamInvalid(_) => (
            "SuperOffice could not complete the sign-in",
            "Nothing was stored.",
            "Open the link again in a few minutes. If it goes on, ask whoever sent you here.",
        ),
        BrokerError::StoreUnavailable(_) | BrokerError::KeyUnavailable(_) => (
            "Your answer could not be confirmed",
            "Something on our side does not work, and we cannot say whether your answer was stored.",
            "Open the link again in a few minutes: it says whether access was given.",
        ),
        _ => (
            "Something went wrong on our side",
            "No access can be promised.",
            "Ask whoever sent you here.",
        ),
    }
}

/// What came back is nothing that SuperOffice sends.
pub(super) fn of_nonsense() -> Page {
    Page::new(StatusCode::BAD_REQUEST, "This address is not for visiting")
        .text(
            "SuperOffice leads here after a sign-in. What came with this visit is not from there.",
        )
        .text("If you were sent a link, open it again.")
}

/// The click was not on our page, or the browser does not say.
pub(super) fn of_foreign_page() -> Page {
    Page::new(StatusCode::FORBIDDEN, "Please open the link itself")
        .text("The request came from another page, or your browser is too old to say from which.")
        .text("Open the link that you were sent in an up-to-date browser, and press the button there.")
}

/// It goes on, but nobody can say yet how it ends.
pub(super) fn of_late(request_id: &str) -> Page {
    let page = Page::new(status_of(Reason::DeadlineExceeded), "This takes longer than usual")
        .text("SuperOffice has not answered yet, and your answer may still be stored.")
        .text("Open the link again in a few minutes: if it says that it was used, all is well.");
    of_request(page, request_id)
}

/// So that somebody who is asked can find it in the log.
fn of_request(page: Page, request_id: &str) -> Page {
    page.facts([("Number of this request", request_id)])
}
