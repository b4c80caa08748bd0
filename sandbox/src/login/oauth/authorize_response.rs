//! Redirects and forms that return to the application.

use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, HeaderValue, LOCATION, REFERRER_POLICY};

use super::flow::{AuthorizeError, Flow, ResponseMode};
use super::page;
use crate::answer::Answer;
use crate::form::encode;
use crate::platform::Platform;

pub(super) fn code(platform: &Platform, flow: &Flow, code: &str) -> Answer {
    send(platform, flow, &[("code", code)])
}

pub(super) fn error(
    platform: &Platform,
    flow: &Flow,
    AuthorizeError(error, description): AuthorizeError<'_>,
) -> Answer {
    send(platform, flow, &[("error", error), ("error_description", description)])
}

/// Sends parameters to the application. `state` comes first, as in the documented callback.
fn send(platform: &Platform, flow: &Flow, values: &[(&str, &str)]) -> Answer {
    let state = flow.state.as_deref().map(|state| ("state", state));
    let values: Vec<(&str, &str)> = state.into_iter().chain(values.iter().copied()).collect();
    let target = &flow.redirect_uri;
    match flow.response_mode {
        ResponseMode::FormPost => page::form_post(platform, target, &values),
        ResponseMode::Fragment => redirect(&format!("{target}#{}", join(&values))),
        ResponseMode::Query => {
            let mark = if target.contains('?') { '&' } else { '?' };
            redirect(&format!("{target}{mark}{}", join(&values)))
        }
    }
}

fn join(values: &[(&str, &str)]) -> String {
    let parts: Vec<String> =
        values.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
    parts.join("&")
}

pub(super) fn redirect(location: &str) -> Answer {
    match HeaderValue::from_str(location) {
        Ok(location) => Answer::empty(StatusCode::FOUND)
            .with(LOCATION, location)
            .with(CACHE_CONTROL, HeaderValue::from_static("no-store"))
            .with(REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        Err(_) => Answer::empty(StatusCode::INTERNAL_SERVER_ERROR),
    }
}
