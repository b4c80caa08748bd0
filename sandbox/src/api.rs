//! An API host: the Web API of the tenants on this host.

mod credential;
mod people;
mod principal;
mod root;

use std::sync::Arc;

use axum::body::Body;
use hyper::body::Incoming;
use hyper::header::{ACCEPT, HeaderValue};
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use serde_json::json;

use self::people::{PeopleRequest, Route};
use crate::answer::Answer;
use crate::call::Call;
use crate::endpoint::{ApiHost, Endpoint};
use crate::lock::read;
use crate::net::{Aborted, ConnectionEnd, Host};
use crate::platform::Platform;
use crate::world::Tenant;

#[derive(Clone)]
pub(crate) struct ApiService {
    platform: Arc<Platform>,
    host: ApiHost,
}

impl ApiService {
    pub(crate) fn new(platform: Arc<Platform>, host: ApiHost) -> Self {
        Self { platform, host }
    }

    /// Returns the tenant, if it is known, on this host, and running.
    fn tenant(&self, id: &str) -> Result<Tenant, Answer> {
        let world = read(&self.platform.world);
        let tenant =
            world.tenant(id).ok_or_else(|| Answer::html(StatusCode::NOT_FOUND, "Not found"))?;
        if tenant.host != self.host {
            let text = "Wrong subdomain used to access tenant";
            return Err(Answer::text(StatusCode::MISDIRECTED_REQUEST, text));
        }
        if !tenant.state.is_running() {
            let title = "Service unavailable";
            return Err(Answer::html(StatusCode::SERVICE_UNAVAILABLE, title));
        }
        Ok(tenant.clone())
    }

    /// Counts a call of a known tenant. Returns a response if the call is above the rate limit.
    fn check_rate_limit(&self, id: &str) -> Option<Answer> {
        read(&self.platform.world).tenant(id)?;
        self.platform.traffic.record_call(id, self.platform.clock.now())
    }

    /// Answers a call about people.
    async fn people(
        &self,
        request: Request<Incoming>,
        ending: &ConnectionEnd,
        (id, path): (&str, &str),
        route: &Route,
    ) -> Result<Response<Body>, Aborted> {
        let call = Call::begin(&self.platform, route.endpoint(), ending);
        let headers = request.headers().clone();
        let limited = self.check_rate_limit(id);
        let people_request = PeopleRequest::read(request, path).await;
        call.answer(Some(id), |_| {
            match (limited.map_or_else(|| self.tenant(id), Err), people_request) {
                (Err(answer), _) | (_, Err(answer)) => answer,
                (Ok(tenant), Ok(people_request)) => {
                    match credential::authenticate(&self.platform, &tenant, &headers) {
                        Err(status) => Answer::empty(status),
                        Ok(_) if !accepts_json(&headers) => Answer::html(StatusCode::OK, "People"),
                        Ok(caller) => {
                            let address =
                                format!("{}/{id}", self.platform.addresses.api(tenant.host));
                            people::answer((&tenant, caller), route, &people_request, &address)
                        }
                    }
                }
            }
        })
        .await
    }
}

impl Host for ApiService {
    async fn answer(
        &self,
        request: Request<Incoming>,
        ending: &ConnectionEnd,
    ) -> Result<Response<Body>, Aborted> {
        let path = request.uri().path().trim_start_matches('/').to_owned();
        let (id, rest) = path.split_once('/').unwrap_or((&path, ""));
        let endpoint = match rest {
            "api" => Endpoint::ApiRoot,
            "api/v1/User/currentPrincipal" => Endpoint::CurrentPrincipal,
            _ => {
                if let Some(route) = Route::parse(request.method(), rest) {
                    return self.people(request, ending, (id, rest), &route).await;
                }
                let tenant = self.check_rate_limit(id).map_or_else(|| self.tenant(id), Err);
                let answer = tenant.map_or_else(|answer| answer, |_| not_found(rest));
                return Ok(answer.into_response());
            }
        };
        if request.method() != Method::GET {
            return Ok(Answer::method_not_allowed("GET").into_response());
        }
        let call = Call::begin(&self.platform, endpoint, ending);
        let limited = self.check_rate_limit(id);
        let headers = request.headers();
        call.answer(Some(id), |fault| match limited.map_or_else(|| self.tenant(id), Err) {
            Err(answer) => answer,
            Ok(tenant) if endpoint == Endpoint::ApiRoot => {
                root::root(&self.platform, &tenant, headers)
            }
            Ok(tenant) => principal::current(&self.platform, &tenant, headers, fault),
        })
        .await
    }

    fn date(&self) -> Option<HeaderValue> {
        self.platform.clock.http_date()
    }
}

/// Returns a 404 with the documented error object.
fn not_found(path: &str) -> Answer {
    Answer::json(
        StatusCode::NOT_FOUND,
        &json!({
            "Error": true,
            "ErrorType": "SoNotFoundException",
            "ErrorMessage": format!("No resource at {path}"),
            "ErrorSource": "SuperOffice.WebApi",
        }),
    )
}

/// Returns whether the client accepts JSON. Otherwise SuperOffice returns HTML pages.
fn accepts_json(headers: &HeaderMap) -> bool {
    headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|range| range.split(';').next())
        .any(|range| range.trim().eq_ignore_ascii_case("application/json"))
}
