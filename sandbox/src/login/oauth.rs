//! The sign-in of people: authorize, tokens, revoke, logout.

mod authorize;
mod authorize_response;
mod client;
mod error;
mod flow;
mod id_token;
mod logout;
mod page;
mod revoke;
mod tokens;

use axum::body::Body;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::{HeaderMap, Method, Request, Response, StatusCode};

use crate::answer::Answer;
use crate::call::Call;
use crate::endpoint::Endpoint;
use crate::form::Form;
use crate::net::{Aborted, ConnectionEnd};
use crate::platform::Platform;

/// The maximum body size of sign-in requests.
const MAX_BODY_BYTES: usize = 64 * 1024;

/// The routes below `login`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// The tenant in the path, if any.
    Authorize(Option<String>),
    Tokens,
    Revoke,
    Logout,
}

impl Route {
    /// Returns the route of a path. Case is ignored, because samples write `Revoke` (observed).
    pub(super) fn parse(path: &str) -> Option<Self> {
        let lower = path.to_lowercase();
        Some(match lower.as_str() {
            "/login/common/oauth/authorize" => Self::Authorize(None),
            "/login/common/oauth/tokens" => Self::Tokens,
            "/login/common/oauth/revoke" => Self::Revoke,
            "/login/logout" => Self::Logout,
            _ => {
                let parts: Vec<&str> = path.split('/').collect();
                let lower: Vec<&str> = lower.split('/').collect();
                match (lower.as_slice(), parts.as_slice()) {
                    (["", "login", _, "oauth", "authorize"], [_, _, tenant, ..]) => {
                        Self::Authorize(Some((*tenant).to_owned()))
                    }
                    _ => return None,
                }
            }
        })
    }

    fn endpoint(&self) -> Endpoint {
        match self {
            Self::Authorize(_) => Endpoint::Authorize,
            Self::Tokens => Endpoint::Tokens,
            Self::Revoke => Endpoint::Revoke,
            Self::Logout => Endpoint::Logout,
        }
    }

    /// Returns the value of `Allow` if this method is not allowed.
    fn allowed_methods_unless(&self, method: &Method) -> Option<&'static str> {
        let (taken, allow): (&[Method], _) = match self {
            Self::Authorize(_) => (&[Method::GET, Method::POST], "GET, POST"),
            Self::Tokens | Self::Revoke => (&[Method::POST], "POST"),
            Self::Logout => (&[Method::GET], "GET"),
        };
        (!taken.contains(method)).then_some(allow)
    }
}

/// A request with its whole body.
struct OAuthRequest {
    method: Method,
    path: String,
    headers: HeaderMap,
    query: String,
    body: String,
}

impl OAuthRequest {
    async fn read(request: Request<Incoming>) -> Result<Self, Answer> {
        let (head, body) = request.into_parts();
        let body = Limited::new(body, MAX_BODY_BYTES)
            .collect()
            .await
            .map_err(|_| Answer::empty(StatusCode::PAYLOAD_TOO_LARGE))?
            .to_bytes();
        Ok(Self {
            method: head.method,
            path: head.uri.path().to_owned(),
            query: head.uri.query().unwrap_or_default().to_owned(),
            headers: head.headers,
            body: String::from_utf8_lossy(&body).into_owned(),
        })
    }

    /// Returns the parameters of the body, or of the query if the body is empty (documented).
    /// Returns `None` if they cannot be parsed.
    fn form(&self) -> Option<Form> {
        if self.body.is_empty() {
            return Form::read(&self.query);
        }
        let value = self.headers.get(CONTENT_TYPE)?.to_str().ok()?;
        let essence = value.split(';').next().unwrap_or_default().trim();
        let is_form = essence.eq_ignore_ascii_case("application/x-www-form-urlencoded");
        if is_form { Form::read(&self.body) } else { None }
    }
}

pub(super) async fn answer(
    platform: &Platform,
    request: Request<Incoming>,
    ending: &ConnectionEnd,
    route: Route,
) -> Result<Response<Body>, Aborted> {
    if let Some(allow) = route.allowed_methods_unless(request.method()) {
        return Ok(Answer::method_not_allowed(allow).into_response());
    }
    let call = Call::begin(platform, route.endpoint(), ending);
    let oauth_request = match OAuthRequest::read(request).await {
        Ok(request) => request,
        Err(answer) => return call.answer(None, |_| answer).await,
    };
    let form = oauth_request.form();
    let tenant = request_tenant(platform, &route, &oauth_request, form.as_ref());
    call.answer(tenant.as_deref(), |fault| match &route {
        Route::Authorize(tenant) if oauth_request.method == Method::GET => {
            authorize::begin_sign_in(
                platform,
                &oauth_request,
                form.as_ref(),
                tenant.as_deref(),
                fault,
            )
        }
        Route::Authorize(_) => {
            authorize::continue_sign_in(platform, &oauth_request, form.as_ref(), fault)
        }
        Route::Tokens => tokens::answer(platform, &oauth_request.headers, form.as_ref(), fault),
        Route::Revoke => revoke::answer(platform, form.as_ref()),
        Route::Logout => logout::answer(platform, form.as_ref()),
    })
    .await
}

/// Returns the tenant of a call, as far as the request shows it.
fn request_tenant(
    platform: &Platform,
    route: &Route,
    request: &OAuthRequest,
    form: Option<&Form>,
) -> Option<String> {
    match route {
        Route::Authorize(Some(tenant)) => Some(tenant.clone()),
        Route::Authorize(None) if request.method == Method::GET => {
            flow::tenant_hint(form?).map(ToOwned::to_owned)
        }
        Route::Authorize(None) => {
            let form = form?;
            let chosen = form.get("tenant").map(ToOwned::to_owned);
            flow::unseal(platform, form.get("request")?)?.tenant.or(chosen)
        }
        Route::Tokens | Route::Revoke => tokens::request_tenant(platform, form?),
        Route::Logout => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignores_the_case_of_paths_but_keeps_that_of_tenants() {
        let authorize = Route::parse("/login/Cust7/oauth/authorize");
        assert_eq!(authorize, Some(Route::Authorize(Some("Cust7".to_owned()))));
        assert_eq!(Route::parse("/Login/Common/OAuth/Revoke"), Some(Route::Revoke));
        assert_eq!(Route::parse("/login/common/oauth/authorize"), Some(Route::Authorize(None)));
        for path in ["/login/Cust7/oauth/tokens", "/login/common/oauth/token", "/login", "/"] {
            assert_eq!(Route::parse(path), None, "{path}");
        }
    }
}
