//! The state of a sign-in. The pages carry it in signed form, so the server stores nothing.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::form::Form;
use crate::grants::Challenge;
use crate::platform::Platform;

/// The response mode of the request (documented).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum ResponseMode {
    #[default]
    Query,
    Fragment,
    FormPost,
}

/// An authorize request, and the choices made so far.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Flow {
    pub(super) client_id: String,
    pub(super) redirect_uri: String,
    pub(super) response_mode: ResponseMode,
    pub(super) state: Option<String>,
    pub(super) nonce: Option<String>,
    pub(super) challenge: Option<Challenge>,
    pub(super) login_hint: Option<String>,
    pub(super) tenant: Option<String>,
    pub(super) user: Option<String>,
}

/// The code and description of an error sent to the redirect address (RFC 6749 section 4.1.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AuthorizeError<'a>(pub(super) &'a str, pub(super) &'a str);

impl Flow {
    /// Creates the state from the parameters that need no check.
    pub(super) fn new(client_id: &str, redirect_uri: &str, form: &Form) -> Self {
        let text = |name: &str| form.get(name).map(ToOwned::to_owned);
        Self {
            client_id: client_id.to_owned(),
            redirect_uri: redirect_uri.to_owned(),
            response_mode: ResponseMode::default(),
            state: text("state"),
            nonce: text("nonce"),
            challenge: None,
            login_hint: text("login_hint"),
            tenant: None,
            user: None,
        }
    }

    /// Checks and stores the other parameters. Only the code flow is simulated.
    pub(super) fn read_parameters(
        &mut self,
        form: &Form,
        native: bool,
    ) -> Result<(), AuthorizeError<'static>> {
        self.response_mode = match form.get("response_mode") {
            None | Some("query") => ResponseMode::Query,
            Some("fragment") => ResponseMode::Fragment,
            Some("form_post") => ResponseMode::FormPost,
            Some(_) => {
                return Err(AuthorizeError(
                    "invalid_request",
                    "The response_mode is not supported.",
                ));
            }
        };
        if form.get("response_type") != Some("code") {
            return Err(AuthorizeError(
                "unsupported_response_type",
                "The response_type must be code.",
            ));
        }
        let scopes = form.get("scope").unwrap_or_default();
        if !scopes.split(' ').any(|scope| scope == "openid") {
            return Err(AuthorizeError("invalid_scope", "The scope must contain openid."));
        }
        self.challenge = challenge(form)?;
        if native && self.challenge.is_none() {
            return Err(AuthorizeError("invalid_request", "A native application must use PKCE."));
        }
        Ok(())
    }

    pub(super) fn seal(&self, platform: &Platform) -> String {
        // Serialization of strings and options cannot fail.
        let text = serde_json::to_vec(self).unwrap_or_default();
        let tag = hmac::sign(&platform.page_key, &text);
        format!("{}.{}", URL_SAFE_NO_PAD.encode(text), URL_SAFE_NO_PAD.encode(tag))
    }
}

/// Returns the state that a page carries, if its signature is valid.
pub(super) fn unseal(platform: &Platform, sealed: &str) -> Option<Flow> {
    let (text, tag) = sealed.split_once('.')?;
    let (text, tag) = (URL_SAFE_NO_PAD.decode(text).ok()?, URL_SAFE_NO_PAD.decode(tag).ok()?);
    hmac::verify(&platform.page_key, &text, &tag).ok()?;
    serde_json::from_slice(&text).ok()
}

/// Returns the tenant of `acr_values=tenant:Cust12345` (documented).
pub(super) fn tenant_hint(form: &Form) -> Option<&str> {
    form.get("acr_values")?.split(' ').find_map(|value| value.strip_prefix("tenant:"))
}

fn challenge(form: &Form) -> Result<Option<Challenge>, AuthorizeError<'static>> {
    let method = form.get("code_challenge_method");
    let Some(challenge) = form.get("code_challenge") else {
        return match method {
            None => Ok(None),
            Some(_) => Err(AuthorizeError("invalid_request", "The code_challenge is missing.")),
        };
    };
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    if !(43..=128).contains(&challenge.len()) || !challenge.bytes().all(fits) {
        return Err(AuthorizeError("invalid_request", "The code_challenge is malformed."));
    }
    match method {
        None | Some("plain") => Ok(Some(Challenge::Plain(challenge.to_owned()))),
        Some("S256") => Ok(Some(Challenge::S256(challenge.to_owned()))),
        Some(_) => {
            Err(AuthorizeError("invalid_request", "The code_challenge_method is not supported."))
        }
    }
}
