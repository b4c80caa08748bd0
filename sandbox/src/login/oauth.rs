//! The sign-in of people: authorize, tokens, revoke, logout (SUPEROFFICE.md section 4).

mod authorize;
mod back;
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
use crate::endpoint::Endpoint;
use crate::faults::{Aborted, Call, Ending};
use crate::form::Form;
use crate::platform::Platform;

/// No request of the sign-in is longer.
const MAX_BODY_BYTES: usize = 64 * 1024;

/// What is asked for below `login`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// The tenant if it is in the path.
    Authorize(Option<String>),
    Tokens,
    Revoke,
    Logout,
}

impl Route {
    /// The route of a path, which is read in any case: samples write `Revoke` (SUPEROFFICE.md 1.2,
    /// seen).
    pub(super) fn of(path: &str) -> Option<Self> {
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

    /// The methods it takes, as `Allow` names them, if this is not one of them.
    fn refuses(&self, method: &Method) -> Option<&'static str> {
        let (taken, allow): (&[Method], _) = match self {
            Self::Authorize(_) => (&[Method::GET, Method::POST], "GET, POST"),
            Self::Tokens | Self::Revoke => (&[Method::POST], "POST"),
            Self::Logout => (&[Method::GET], "GET"),
        };
        (!taken.contains(method)).then_some(allow)
    }
}

/// A request, read to its end.
struct Asked {
    method: Method,
    path: String,
    headers: HeaderMap,
    query: String,
    body: String,
}

impl Asked {
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

    /// The parameters: of the body, or of the query if the body is empty (SUPEROFFICE.md 4.2,
    /// documented). `None` if they cannot be read.
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
    ending: &Ending,
    route: Route,
) -> Result<Response<Body>, Aborted> {
    if let Some(allow) = route.refuses(request.method()) {
        return Ok(Answer::method_not_allowed(allow).into_response());
    }
    let call = Call::begin(platform, route.endpoint(), ending);
    let asked = match Asked::read(request).await {
        Ok(asked) => asked,
        Err(answer) => return call.answer(None, |_| answer).await,
    };
    let form = asked.form();
    let tenant = about(platform, &route, &asked, form.as_ref());
    call.answer(tenant.as_deref(), |fault| match &route {
        Route::Authorize(tenant) if asked.method == Method::GET => {
            authorize::begin(platform, &asked, form.as_ref(), tenant.as_deref(), fault)
        }
        Route::Authorize(_) => authorize::go_on(platform, &asked, form.as_ref(), fault),
        Route::Tokens => tokens::answer(platform, &asked.headers, form.as_ref(), fault),
        Route::Revoke => revoke::answer(platform, form.as_ref()),
        Route::Logout => logout::answer(platform, form.as_ref()),
    })
    .await
}

/// The tenant that a call is about, as far as can be told before it is answered.
fn about(platform: &Platform, route: &Route, asked: &Asked, form: Option<&Form>) -> Option<String> {
    match route {
        Route::Authorize(Some(tenant)) => Some(tenant.clone()),
        Route::Authorize(None) if asked.method == Method::GET => {
            flow::tenant_hint(form?).map(ToOwned::to_owned)
        }
        Route::Authorize(None) => {
            let form = form?;
            let chosen = form.get("tenant").map(ToOwned::to_owned);
            flow::open(platform, form.get("request")?)?.tenant.or(chosen)
        }
        Route::Tokens | Route::Revoke => tokens::tenant(platform, form?),
        Route::Logout => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_in_any_case_and_a_tenant_keeps_its_own() {
        let authorize = Route::of("/login/Cust7/oauth/authorize");
        assert_eq!(authorize, Some(Route::Authorize(Some("Cust7".to_owned()))));
        assert_eq!(Route::of("/Login/Common/OAuth/Revoke"), Some(Route::Revoke));
        assert_eq!(Route::of("/login/common/oauth/authorize"), Some(Route::Authorize(None)));
        for path in ["/login/Cust7/oauth/tokens", "/login/common/oauth/token", "/login", "/"] {
            assert_eq!(Route::of(path), None, "{path}");
        }
    }
}
