//! The login host: discovery, keys, system user exchange, sign-in of people, tenant status.

mod authenticate;
mod discovery;
mod oauth;
mod signed_token;
mod status;
mod token;

use std::sync::Arc;

use axum::body::Body;
use hyper::body::Incoming;
use hyper::header::HeaderValue;
use hyper::{Method, Request, Response, StatusCode};

use crate::answer::Answer;
use crate::call::Call;
use crate::endpoint::Endpoint;
use crate::net::{Aborted, ConnectionEnd, Host};
use crate::platform::Platform;

/// The documented path; its case is ignored.
const AUTHENTICATE: &str = "/Login/api/PartnerSystemUser/Authenticate";

#[derive(Clone)]
pub(crate) struct LoginService {
    platform: Arc<Platform>,
}

impl LoginService {
    pub(crate) fn new(platform: Arc<Platform>) -> Self {
        Self { platform }
    }
}

impl Host for LoginService {
    async fn answer(
        &self,
        request: Request<Incoming>,
        ending: &ConnectionEnd,
    ) -> Result<Response<Body>, Aborted> {
        let platform = &*self.platform;
        if let Some(route) = oauth::Route::parse(request.uri().path()) {
            return oauth::answer(platform, request, ending, route).await;
        }
        let (endpoint, tenant) = match request.uri().path() {
            "/login/.well-known/openid-configuration" => (Endpoint::Discovery, None),
            "/login/.well-known/jwks" => (Endpoint::Jwks, None),
            path if path.eq_ignore_ascii_case(AUTHENTICATE) => {
                return authenticate::answer(platform, request, ending).await;
            }
            path => match path.strip_prefix("/api/state/") {
                Some(tenant) if !tenant.is_empty() && !tenant.contains('/') => {
                    (Endpoint::TenantStatus, Some(tenant.to_owned()))
                }
                _ => return Ok(Answer::html(StatusCode::NOT_FOUND, "Not found").into_response()),
            },
        };
        if request.method() != Method::GET {
            return Ok(Answer::method_not_allowed("GET").into_response());
        }
        let call = Call::begin(platform, endpoint, ending);
        let name = tenant.as_deref();
        call.answer(name, |fault| match (endpoint, name) {
            (Endpoint::Discovery, _) => discovery::document(platform),
            (Endpoint::Jwks, _) => discovery::jwks(platform),
            (_, tenant) => status::status(platform, tenant.unwrap_or_default(), fault),
        })
        .await
    }

    fn date(&self) -> Option<HeaderValue> {
        self.platform.clock.http_date()
    }
}
