//! `/consent/{id}` and `/oauth/callback`: the pages on which people consent.
//!
//! Opening a page changes nothing, because mail scanners open links too. The click is a POST request that must come
//! from the page itself, which the browser states in `Sec-Fetch-Site`. Browsers without that header send `Origin`,
//! which is checked instead. (Browsers with both send `Origin: null`, because the page sends no referrer.)
//!
//! The cookie is `Secure` also on plain HTTP, which is only used on this machine (`dev`): browsers accept it from
//! `localhost` and 127.0.0.1. Codes must arrive in the query: a browser sends a `SameSite=Lax` cookie with a link to
//! this host, but not with a form that another site posts.

mod outcomes;

use std::{sync::Arc, time::Duration};

use axum::{
    Form,
    extract::{Extension, FromRequest as _, Path, Query, Request, State, rejection::PathRejection},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use url::Url;

use super::{
    middleware::{ClientAddress, RequestId},
    pages::Page,
    problem::Problem,
};
use crate::{
    audit::UnauthenticatedAttempts,
    broker::{
        AuthorizationResponse, BrokerError, CallbackOutcome, CallbackRequest, ConsentEntry,
        ConsentLinkState, Consents, ReturnTo,
    },
    domain::ConsentId,
};

/// The path of the page that is mailed.
pub(super) const CONSENT: &str = "/consent/{id}";

/// The path to which SuperOffice redirects browsers.
pub(super) const CALLBACK: &str = "/oauth/callback";

/// The name of the cookie. With this prefix, browsers accept it only from this host, over HTTPS or on localhost.
const COOKIE: &str = "__Host-consent";

/// The time limit of a callback, which is less than that of a request. Then a page says that the work continues.
const CALLBACK_TIMEOUT: Duration = Duration::from_secs(9);

/// The part of it that a sign-in may wait in the queue for SuperOffice. Then a page says to try again.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(8);

/// The dependencies of the consent pages.
pub struct ConsentPages {
    /// The use cases of consent.
    pub consents: Arc<Consents>,
    /// Counts forged requests by client address.
    pub attempts: Arc<UnauthenticatedAttempts>,
    /// The public base URI of the pages, without a slash at the end.
    pub public_uri: Option<String>,
}

/// The parameters of the callback (RFC 6749 section 4.1.2). Other parameters are ignored.
#[derive(Deserialize)]
pub(super) struct CallbackParameters {
    state: Option<SecretString>,
    code: Option<SecretString>,
    error: Option<String>,
}

/// Shows the consent page, which names the application and the requested access.
pub(super) async fn show(
    State(pages): State<Arc<ConsentPages>>,
    id: Result<Path<String>, PathRejection>,
    Extension(client): Extension<ClientAddress>,
    Extension(RequestId(request_id)): Extension<RequestId>,
) -> Page {
    let link = match consent_id(id) {
        Some(id) => pages.consents.find_by_link(&id).await,
        None => Ok(ConsentLinkState::Unknown),
    };
    match link {
        Ok(link) => {
            if link == ConsentLinkState::Unknown {
                pages.attempts.count_address(client.0);
            }
            outcomes::link_page(&link)
        }
        Err(error) => {
            let cause = error.cause();
            tracing::info!(
                reason = error.reason().as_str(),
                cause,
                request_id = &*request_id,
                "a consent page was not shown"
            );
            outcomes::error_page(&error, ConsentEntry::Link, &request_id)
        }
    }
}

/// Handles the click on the page: redirects to SuperOffice.
pub(super) async fn proceed(
    State(pages): State<Arc<ConsentPages>>,
    id: Result<Path<String>, PathRejection>,
    Extension(RequestId(request_id)): Extension<RequestId>,
    headers: HeaderMap,
) -> Response {
    if !is_click_on_our_page(&headers, pages.public_uri.as_deref()) {
        let cause =
            "the click was not on the consent page, or the browser does not send Sec-Fetch-Site";
        tracing::info!(cause, request_id = &*request_id, "a consent was not given");
        return outcomes::foreign_click_page(&request_id).into_response();
    }
    let Some(id) = consent_id(id) else {
        return outcomes::link_page(&ConsentLinkState::Unknown).into_response();
    };
    match pages.consents.redirect_to_sign_in(&id, consent_cookie(&headers), &request_id).await {
        Ok(redirect) => {
            let cookie = format!(
                "{COOKIE}={}; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age={}",
                redirect.cookie.expose_secret(),
                redirect.cookie_life.as_secs(),
            );
            let mut response = see_other(redirect.authorization_uri.expose_secret());
            if let Ok(mut cookie) = HeaderValue::from_str(&cookie) {
                cookie.set_sensitive(true);
                response.headers_mut().insert(header::SET_COOKIE, cookie);
            }
            response
        }
        // The page of the link explains best why the link cannot be used.
        Err(error @ BrokerError::ConsentInvalid(_)) => match pages.consents.find_by_link(&id).await
        {
            Ok(link) if !matches!(link, ConsentLinkState::Open(_)) => {
                outcomes::link_page(&link).into_response()
            }
            _ => outcomes::error_page(&error, ConsentEntry::Link, &request_id).into_response(),
        },
        Err(error) => outcomes::error_page(&error, ConsentEntry::Link, &request_id).into_response(),
    }
}

/// Handles the browser's return from SuperOffice.
pub(super) async fn callback(
    State(pages): State<Arc<ConsentPages>>,
    Extension(client): Extension<ClientAddress>,
    Extension(RequestId(request_id)): Extension<RequestId>,
    request: Request,
) -> Response {
    // A HEAD request must not use up the state.
    if request.method() == Method::HEAD {
        let mut response = Problem::method_not_allowed().into_response();
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET,POST"));
        return response;
    }
    let cookie = consent_cookie(request.headers());
    let Some((state, answer)) = read_callback(request).await else {
        pages.attempts.count_address(client.0);
        let cause = "the callback needs one state, and either one code or one error";
        tracing::info!(cause, request_id = &*request_id, "a consent was not given");
        return outcomes::invalid_callback_page(&request_id).into_response();
    };
    let callback_request = CallbackRequest {
        state,
        response: answer,
        cookie,
        request_id: Arc::clone(&request_id),
        client_address: client.0.to_string().into(),
        max_wait: QUEUE_TIMEOUT,
    };
    let completion = pages.consents.callback(callback_request);
    let Ok(outcome) = tokio::time::timeout(CALLBACK_TIMEOUT, completion).await else {
        return outcomes::timeout_page(&request_id).into_response();
    };
    let CallbackOutcome { return_to, entry, result } = outcome;
    match (&result, return_to) {
        (Ok(_), Some(to)) => match return_uri(&to, "granted") {
            Some(uri) => see_other(&uri),
            None => outcomes::result_page(&result, entry, &request_id).into_response(),
        },
        (result, to) => {
            if matches!(result, Err(BrokerError::ConsentInvalid(_))) {
                pages.attempts.count_address(client.0);
            }
            let page = outcomes::result_page(result, entry, &request_id);
            let name = result.as_ref().err().map(outcomes::result_name).unwrap_or_default();
            let back = to.and_then(|to| return_uri(&to, &name));
            match back {
                Some(uri) => page.link(&uri, "Go back to where you came from"),
                None => page,
            }
            .into_response()
        }
    }
}

fn consent_id(id: Result<Path<String>, PathRejection>) -> Option<ConsentId> {
    let Path(id) = id.ok()?;
    id.parse().ok()
}

/// Reads the callback parameters from the query or a form. `None` unless there are one state and one code or error.
async fn read_callback(request: Request) -> Option<(SecretString, AuthorizationResponse)> {
    let returned = if request.method() == Method::POST {
        let Form(returned) = Form::<CallbackParameters>::from_request(request, &()).await.ok()?;
        returned
    } else {
        let Query(returned) = Query::<CallbackParameters>::try_from_uri(request.uri()).ok()?;
        returned
    };
    match returned {
        CallbackParameters { state: Some(state), code: Some(code), error: None } => {
            Some((state, AuthorizationResponse::Code(code)))
        }
        CallbackParameters { state: Some(state), code: None, error: Some(error) } => {
            Some((state, AuthorizationResponse::Error(error)))
        }
        _ => None,
    }
}

/// Returns whether the click was on our own page.
fn is_click_on_our_page(headers: &HeaderMap, public_uri: Option<&str>) -> bool {
    let value = |name: &str| headers.get(name).map(HeaderValue::as_bytes);
    match value("sec-fetch-site") {
        Some(site) => site == b"same-origin",
        None => public_uri.is_some_and(|own| value("origin") == Some(own.as_bytes())),
    }
}

/// Returns the cookie if there is exactly one with its name.
fn consent_cookie(headers: &HeaderMap) -> Option<SecretString> {
    let lines = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes);
    let pairs = lines.flat_map(|line| line.split(|byte| *byte == b';')).map(<[u8]>::trim_ascii);
    // Parsed as bytes, because a cookie of another application on this host may contain non-ASCII bytes.
    let values = pairs.filter_map(|pair| pair.strip_prefix(COOKIE.as_bytes())?.strip_prefix(b"="));
    let mut values = values.map(str::from_utf8);
    match (values.next(), values.next()) {
        (Some(Ok(value)), None) => Some(value.into()),
        _ => None,
    }
}

/// Returns the return URI with two added parameters: the state and the result.
fn return_uri(to: &ReturnTo, result: &str) -> Option<String> {
    let mut uri = Url::parse(&to.uri).ok()?;
    uri.query_pairs_mut().append_pair("state", &to.state).append_pair("result", result);
    Some(uri.into())
}

fn see_other(uri: &str) -> Response {
    let mut response = StatusCode::SEE_OTHER.into_response();
    if let Ok(mut location) = HeaderValue::from_str(uri) {
        location.set_sensitive(true);
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

#[cfg(test)]
mod tests;
