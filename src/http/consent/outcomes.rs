//! A page for every outcome, in plain words, that says what to do next and tells nobody else's secrets.

use axum::http::StatusCode;

use crate::{
    broker::{BrokerError, ConsentTaken, Link, Mismatch, Way},
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
pub(super) fn of_result(
    result: &Result<ConsentTaken, BrokerError>,
    way: Way,
    request_id: &str,
) -> Page {
    let taken = match result {
        Ok(taken) => taken,
        Err(error) => return of_error(error, way, request_id),
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
pub(super) fn of_error(error: &BrokerError, way: Way, request_id: &str) -> Page {
    let (title, text, next) = words(error);
    let page = Page::new(status_of(error.reason()), title).text(text).text(next.by(way));
    of_request(page, request_id)
}

/// The next step of a person. Loading the page again is none: its state is spent, unless the code surely was not sent.
#[derive(Debug, Clone, Copy)]
struct Next {
    /// With the link in hand, which still works.
    with_link: &'static str,
    /// Without a link: what the person came by is spent.
    without: &'static str,
    /// Where it is not known whether there is a link.
    either: &'static str,
}

impl Next {
    /// Does not depend on how the person came.
    const fn always(text: &'static str) -> Self {
        Self { with_link: text, without: text, either: text }
    }

    fn by(self, way: Way) -> &'static str {
        match way {
            Way::Link => self.with_link,
            Way::Address => self.without,
            Way::Unknown => self.either,
        }
    }
}

fn words(error: &BrokerError) -> (&'static str, &'static str, Next) {
    match error {
        BrokerError::ConsentInvalid(_) => (
            "This sign-in was used already, or took too long",
            "Nothing was stored now. If you gave access just before, that stands, and there is nothing to do.",
            Next {
                with_link: "If not, open the link that you were sent again, in this browser.",
                without: "If not, begin again where you came from, or ask whoever sent you here for a new link.",
                either: "If not, open the link that you were sent again, in this browser, or begin again where you \
                         came from.",
            },
        ),
        BrokerError::ConsentRefused => (
            "You gave no access",
            "Nothing was stored.",
            Next::always("If that was a mistake, ask whoever sent you here for a new link."),
        ),
        BrokerError::AnotherSubject(Mismatch::Person) => (
            "You signed in as somebody else",
            "Another person was asked, so nothing was stored.",
            Next {
                with_link: "Sign out of SuperOffice. Then open the link again, and sign in as the person that it names.",
                without: "Sign out of SuperOffice. Then begin again where you came from, and sign in as the person who \
                          was asked.",
                either: "Sign out of SuperOffice. Then open the link again, or begin again where you came from.",
            },
        ),
        BrokerError::AnotherSubject(Mismatch::Tenant) => (
            "You signed in to another customer",
            "Access to another SuperOffice customer was asked for, so nothing was stored.",
            Next {
                with_link: "Open the link again, and choose the customer that it names.",
                without: "Begin again where you came from, and choose the customer that was asked for.",
                either: "Open the link again, or begin again where you came from, and choose the customer that was \
                         asked for.",
            },
        ),
        BrokerError::TenantNotFound(_) => (
            "This customer is not set up here",
            "You signed in to a SuperOffice customer that this service does not know, so nothing was stored.",
            Next::always("Ask whoever sent you here to set it up, or choose another customer."),
        ),
        BrokerError::TenantDisabled(_) => (
            "This customer is stopped here",
            "Access to this customer was stopped on our side, so nothing was stored.",
            Next::always("Ask whoever sent you here."),
        ),
        BrokerError::NoLongerPermitted(_) => (
            "Access to this customer is not permitted",
            "Whoever sent you here may not be given access to the SuperOffice customer that you signed in to, so \
             nothing was stored.",
            Next {
                with_link: "If you have another customer, open the link again and choose that one. If not, ask \
                            whoever sent you here.",
                without: "If you have another customer, begin again where you came from and choose that one. If not, \
                          ask whoever sent you here.",
                either: "If you have another customer, begin again and choose that one. If not, ask whoever sent you \
                         here.",
            },
        ),
        BrokerError::UpstreamUnavailable { .. } => {
            ("SuperOffice cannot be reached now", "Nothing was stored.", LATER)
        }
        BrokerError::OwnSecretRefused(_) | BrokerError::UpstreamInvalid(_) => {
            ("SuperOffice could not complete the sign-in", "Nothing was stored.", LATER)
        }
        BrokerError::StoreUnavailable(_)
        | BrokerError::StoreOutcomeUnknown(_)
        | BrokerError::KeyUnavailable(_) => (
            "Your answer could not be confirmed",
            "Something on our side does not work, and we cannot say whether your answer was stored.",
            Next {
                with_link: "Open the link again in a few minutes: it says whether access was given.",
                without: "Begin again where you came from in a few minutes, or ask whoever sent you here whether \
                          access was given.",
                either: "Open the link again in a few minutes, or ask whoever sent you here whether access was given.",
            },
        ),
        _ => (
            "Something went wrong on our side",
            "No access can be promised.",
            Next::always("Ask whoever sent you here."),
        ),
    }
}

/// After what passes by itself.
const LATER: Next = Next {
    with_link: "Open the link that you were sent again in a few minutes. If this page comes again, ask whoever sent you \
                the link.",
    without: "Begin again where you came from in a few minutes, or ask whoever sent you here for a new link.",
    either: "In a few minutes, open the link that you were sent again, or begin again where you came from. If this page \
             comes again, ask whoever sent you here.",
};

/// What came back is nothing that SuperOffice sends.
pub(super) fn of_nonsense(request_id: &str) -> Page {
    let page = Page::new(StatusCode::BAD_REQUEST, "This address is not for visiting")
        .text(
            "SuperOffice leads here after a sign-in. What came with this visit is not from there.",
        )
        .text("If you were sent a link, open it again.");
    of_request(page, request_id)
}

/// The click was not on our page, or the browser does not say.
pub(super) fn of_foreign_page(request_id: &str) -> Page {
    let page = Page::new(StatusCode::FORBIDDEN, "Please open the link itself")
        .text("The request came from another page, or your browser is too old to say from which.")
        .text("Open the link that you were sent in an up-to-date browser, and press the button there.");
    of_request(page, request_id)
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
