//! Client authentication.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;

use super::error::OAuthError;
use crate::form::{Form, decode};
use crate::lock::read;
use crate::platform::Platform;
use crate::world::Application;

/// An identified application. A native application may omit its secret.
pub(super) struct Client {
    pub(super) application: Arc<Application>,
    /// Whether a correct secret was sent.
    pub(super) secret_verified: bool,
    pub(super) used_basic: bool,
}

/// Accepts `client_secret_basic` and `client_secret_post` (observed), and for a native application
/// no secret (documented).
pub(super) fn authenticate(
    platform: &Platform,
    headers: &HeaderMap,
    form: &Form,
) -> Result<Client, OAuthError> {
    let basic = headers.contains_key(AUTHORIZATION);
    let wrong = OAuthError::InvalidClient { basic };
    let (id, secret) = if basic {
        if form.get("client_secret").is_some() {
            return Err(OAuthError::InvalidRequest("The client uses two authentication methods."));
        }
        let (id, secret) = read_basic(headers).ok_or(wrong)?;
        if form.get("client_id").is_some_and(|other| other != id) {
            return Err(OAuthError::InvalidRequest("The request names two clients."));
        }
        (id, Some(secret))
    } else {
        let id = form.get("client_id").ok_or(wrong)?;
        (id.to_owned(), form.get("client_secret").map(ToOwned::to_owned))
    };
    let application = read(&platform.world).application(&id).cloned().ok_or(wrong)?;
    let proved = secret.is_some();
    if secret.is_some_and(|secret| !application.secrets.contains(&secret)) {
        return Err(wrong);
    }
    if !proved && !application.registration.native {
        return Err(wrong);
    }
    Ok(Client { application, secret_verified: proved, used_basic: basic })
}

/// Parses the Basic header. Id and secret are each form-encoded before they are joined (RFC 6749
/// section 2.3.1).
fn read_basic(headers: &HeaderMap) -> Option<(String, String)> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("Basic") {
        return None;
    }
    let text = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (id, secret) = text.split_once(':')?;
    Some((decode(id)?, decode(secret)?))
}
