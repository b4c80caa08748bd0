//! Which application is calling.

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

/// An application that is who it says it is: by its secret, or, where that is not needed, because
/// it says so.
pub(super) struct Client {
    pub(super) application: Arc<Application>,
    /// Whether it showed its secret.
    pub(super) proved: bool,
    pub(super) basic: bool,
}

/// `client_secret_basic` or `client_secret_post` (SUPEROFFICE.md 1.2, seen), or for a native
/// application no secret at all (4.1, documented).
pub(super) fn authenticate(
    platform: &Platform,
    headers: &HeaderMap,
    form: &Form,
) -> Result<Client, OAuthError> {
    let basic = headers.contains_key(AUTHORIZATION);
    let wrong = OAuthError::InvalidClient { basic };
    let (id, secret) = if basic {
        if form.get("client_secret").is_some() {
            return Err(OAuthError::InvalidRequest("The client authenticates twice."));
        }
        let (id, secret) = read_basic(headers).ok_or(wrong)?;
        if form.get("client_id").is_some_and(|other| other != id) {
            return Err(OAuthError::InvalidRequest("There are two clients."));
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
    Ok(Client { application, proved, basic })
}

/// Id and secret are encoded each by itself before they are joined (RFC 6749 section 2.3.1).
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
