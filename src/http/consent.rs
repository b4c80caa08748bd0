//! `/consent/{id}` and `/oauth/callback`: where people consent (DESIGN section 7, "Consent").
//!
//! A page changes nothing when it is opened: programs that look at links in mails open them too. The click is a POST,
//! and only from the page itself: the browser says so in `Sec-Fetch-Site`. (`Origin` is `null` from a page that
//! sends no referrer, so it serves only browsers that know neither.)
//!
//! The cookie is `Secure` on plain HTTP too, which is on this machine only (`dev`): browsers take such a cookie from
//! `localhost` and 127.0.0.1. Codes come in the query, never posted by SuperOffice's page unless somebody asks it to:
//! a browser sends a cookie that is `SameSite=Lax` with a link that leads here, not with a form.

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
    around::{Client, RequestId},
    pages::Page,
    problem::Problem,
};
use crate::{
    broker::{Answer, Arrival, Arrived, Attempts, BrokerError, Consents, Link, ReturnTo, Way},
    domain::ConsentId,
};

/// The page that is mailed.
pub(super) const CONSENT: &str = "/consent/{id}";

/// Where SuperOffice sends browsers back.
pub(super) const CALLBACK: &str = "/oauth/callback";

/// Browsers take a cookie of such a name from this host only, by HTTPS or on this machine.
const COOKIE: &str = "__Host-consent";

/// A little less than a request may take: what was begun goes on, and the person hears so.
const PATIENCE: Duration = Duration::from_secs(9);

/// So much of it a sign-in may wait for its turn at SuperOffice: then the person is told to try again.
const IN_LINE: Duration = Duration::from_secs(8);

/// What the consent pages need.
pub struct ConsentPages {
    /// The use cases.
    pub consents: Arc<Consents>,
    /// Counts those who bring what is forged.
    pub attempts: Arc<Attempts>,
    /// Where browsers reach the pages, without a slash at the end.
    pub public_uri: Option<String>,
}

/// What SuperOffice sends back (RFC 6749 section 4.1.2). The rest of it is its own business.
#[derive(Deserialize)]
pub(super) struct Returned {
    state: Option<SecretString>,
    code: Option<SecretString>,
    error: Option<String>,
}

/// Shows who asks for what.
pub(super) async fn show(
    State(pages): State<Arc<ConsentPages>>,
    id: Result<Path<String>, PathRejection>,
    Extension(client): Extension<Client>,
    Extension(RequestId(request_id)): Extension<RequestId>,
) -> Page {
    let link = match consent_id(id) {
        Some(id) => pages.consents.open(&id).await,
        None => Ok(Link::Unknown),
    };
    match link {
        Ok(link) => {
            if link == Link::Unknown {
                pages.attempts.count_address(client.0);
            }
            outcomes::of_link(&link)
        }
        Err(error) => {
            let cause = error.cause();
            tracing::info!(
                reason = error.reason().as_str(),
                cause,
                request_id = &*request_id,
                "a consent page was not shown"
            );
            outcomes::of_error(&error, Way::Link, &request_id)
        }
    }
}

/// The click: leads on to SuperOffice.
pub(super) async fn proceed(
    State(pages): State<Arc<ConsentPages>>,
    id: Result<Path<String>, PathRejection>,
    Extension(RequestId(request_id)): Extension<RequestId>,
    headers: HeaderMap,
) -> Response {
    if !is_from_our_page(&headers, pages.public_uri.as_deref()) {
        let cause =
            "the click was not on the consent page, or the browser does not say where it was";
        tracing::info!(cause, request_id = &*request_id, "a consent was not given");
        return outcomes::of_foreign_page(&request_id).into_response();
    }
    let Some(id) = consent_id(id) else {
        return outcomes::of_link(&Link::Unknown).into_response();
    };
    match pages.consents.proceed(&id, cookie(&headers), &request_id).await {
        Ok(departure) => {
            let cookie = format!(
                "{COOKIE}={}; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age={}",
                departure.cookie.expose_secret(),
                departure.cookie_life.as_secs(),
            );
            let mut response = see_other(departure.authorization_uri.expose_secret());
            if let Ok(mut cookie) = HeaderValue::from_str(&cookie) {
                cookie.set_sensitive(true);
                response.headers_mut().insert(header::SET_COOKIE, cookie);
            }
            response
        }
        // The page itself says best why its link leads nowhere.
        Err(error @ BrokerError::ConsentInvalid(_)) => match pages.consents.open(&id).await {
            Ok(link) if !matches!(link, Link::Open(_)) => outcomes::of_link(&link).into_response(),
            _ => outcomes::of_error(&error, Way::Link, &request_id).into_response(),
        },
        Err(error) => outcomes::of_error(&error, Way::Link, &request_id).into_response(),
    }
}

/// The browser comes back.
pub(super) async fn callback(
    State(pages): State<Arc<ConsentPages>>,
    Extension(client): Extension<Client>,
    Extension(RequestId(request_id)): Extension<RequestId>,
    request: Request,
) -> Response {
    // Who only looks must not use up the state.
    if request.method() == Method::HEAD {
        let mut response = Problem::wrong_method().into_response();
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET,POST"));
        return response;
    }
    let cookie = cookie(request.headers());
    let Some((state, answer)) = returned(request).await else {
        pages.attempts.count_address(client.0);
        let cause = "the callback needs one state, and either one code or one error";
        tracing::info!(cause, request_id = &*request_id, "a consent was not given");
        return outcomes::of_nonsense(&request_id).into_response();
    };
    let arrival = Arrival {
        state,
        answer,
        cookie,
        request_id: Arc::clone(&request_id),
        client_address: client.0.to_string().into(),
        patience: IN_LINE,
    };
    let arriving = pages.consents.callback(arrival);
    let Ok(arrived) = tokio::time::timeout(PATIENCE, arriving).await else {
        return outcomes::of_late(&request_id).into_response();
    };
    let Arrived { return_to, way, result } = arrived;
    match (&result, return_to) {
        (Ok(_), Some(to)) => match return_uri(&to, "granted") {
            Some(uri) => see_other(&uri),
            None => outcomes::of_result(&result, way, &request_id).into_response(),
        },
        (result, to) => {
            if matches!(result, Err(BrokerError::ConsentInvalid(_))) {
                pages.attempts.count_address(client.0);
            }
            let page = outcomes::of_result(result, way, &request_id);
            let name = result.as_ref().err().map(outcomes::name).unwrap_or_default();
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

/// What a request brings, in its query or in a form; none if it is not one thing.
async fn returned(request: Request) -> Option<(SecretString, Answer)> {
    let returned = if request.method() == Method::POST {
        let Form(returned) = Form::<Returned>::from_request(request, &()).await.ok()?;
        returned
    } else {
        let Query(returned) = Query::<Returned>::try_from_uri(request.uri()).ok()?;
        returned
    };
    match returned {
        Returned { state: Some(state), code: Some(code), error: None } => {
            Some((state, Answer::Code(code)))
        }
        Returned { state: Some(state), code: None, error: Some(error) } => {
            Some((state, Answer::Error(error)))
        }
        _ => None,
    }
}

/// Whether the click was on our own page.
fn is_from_our_page(headers: &HeaderMap, public_uri: Option<&str>) -> bool {
    let value = |name: &str| headers.get(name).map(HeaderValue::as_bytes);
    match value("sec-fetch-site") {
        Some(site) => site == b"same-origin",
        None => public_uri.is_some_and(|own| value("origin") == Some(own.as_bytes())),
    }
}

/// The cookie, if there is exactly one of the name.
fn cookie(headers: &HeaderMap) -> Option<SecretString> {
    let lines = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes);
    let pairs = lines.flat_map(|line| line.split(|byte| *byte == b';')).map(<[u8]>::trim_ascii);
    // Another cookie of the host may hold bytes beyond ASCII; it must not hide ours, nor a second one of ours.
    let values = pairs.filter_map(|pair| pair.strip_prefix(COOKIE.as_bytes())?.strip_prefix(b"="));
    let mut values = values.map(str::from_utf8);
    match (values.next(), values.next()) {
        (Some(Ok(value)), None) => Some(value.into()),
        _ => None,
    }
}

/// The way back, which says nothing but which one and how it ended.
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
