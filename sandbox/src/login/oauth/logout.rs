//! Logout. The sandbox keeps no sessions, so it only redirects or shows a page.

use hyper::StatusCode;

use super::{authorize_response, page};
use crate::answer::Answer;
use crate::form::Form;
use crate::lock::read;
use crate::platform::Platform;

/// Redirects to a registered address (documented), or shows a page.
pub(super) fn answer(platform: &Platform, form: Option<&Form>) -> Answer {
    let names = ["redirect_uri", "post_logout_redirect_uri"];
    let target = form.and_then(|form| names.into_iter().find_map(|name| form.get(name)));
    let Some(target) = target else {
        return page::page(platform, StatusCode::OK, "Signed out", "<p>You are signed out.</p>");
    };
    let world = read(&platform.world);
    if world
        .applications()
        .any(|application| application.registration.allows_logout_redirect_to(target))
    {
        return authorize_response::redirect(target);
    }
    let text = "Authorization error: InvalidRedirectUrl (2)";
    page::error(platform, StatusCode::BAD_REQUEST, text)
}
