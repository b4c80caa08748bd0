//! An application's registration for the sign-in of people.

use regex::Regex;
use serde::{Deserialize, Serialize};

use crate::error::ControlError;

/// The registration of an application for sign-in. By default it has no redirect address, so that
/// nobody can sign in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SignIn {
    /// Allowed redirect addresses. The address of a request must equal one of them; an entry that
    /// begins with `^` is a regular expression, such as `^http://127.0.0.1\:\d{4,10}$`
    /// (documented).
    pub redirect_uris: Vec<String>,
    /// Allowed redirect addresses after a logout, in the same form (documented).
    pub post_logout_uris: Vec<String>,
    /// "Is native or mobile app": PKCE is required, and a code exchange needs no secret
    /// (documented), but a refresh does (observed).
    pub native: bool,
    /// Whether an administrator's id token contains the system user token (documented).
    pub system_token: bool,
}

impl SignIn {
    /// Returns a web application with these redirect addresses, without the system user token.
    #[must_use]
    pub fn web(redirect_uris: &[impl AsRef<str>]) -> Self {
        let redirect_uris = redirect_uris.iter().map(|uri| uri.as_ref().to_owned()).collect();
        Self { redirect_uris, ..Self::default() }
    }
}

/// A parsed [`SignIn`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Registration {
    redirects: Vec<Pattern>,
    post_logouts: Vec<Pattern>,
    pub(crate) native: bool,
    pub(crate) system_token: bool,
}

impl Registration {
    pub(crate) fn new(sign_in: &SignIn) -> Result<Self, ControlError> {
        Ok(Self {
            redirects: patterns(&sign_in.redirect_uris)?,
            post_logouts: patterns(&sign_in.post_logout_uris)?,
            native: sign_in.native,
            system_token: sign_in.system_token,
        })
    }

    pub(crate) fn allows_redirect_to(&self, uri: &str) -> bool {
        is_header_value(uri) && self.redirects.iter().any(|pattern| pattern.matches(uri))
    }

    pub(crate) fn allows_logout_redirect_to(&self, uri: &str) -> bool {
        is_header_value(uri) && self.post_logouts.iter().any(|pattern| pattern.matches(uri))
    }
}

#[derive(Clone, Debug)]
enum Pattern {
    Exact(String),
    Expression(Regex),
}

impl Pattern {
    fn matches(&self, uri: &str) -> bool {
        match self {
            Self::Exact(registered) => registered == uri,
            Self::Expression(expression) => expression.is_match(uri),
        }
    }
}

fn patterns(uris: &[String]) -> Result<Vec<Pattern>, ControlError> {
    uris.iter()
        .map(|uri| {
            if uri.starts_with('^') {
                let expression = Regex::new(uri);
                expression.map(Pattern::Expression).map_err(|_| ControlError::BadUri(uri.clone()))
            } else if uri.contains("://") && is_header_value(uri) && !uri.contains('#') {
                Ok(Pattern::Exact(uri.clone()))
            } else {
                Err(ControlError::BadUri(uri.clone()))
            }
        })
        .collect()
}

/// Returns whether an address is a valid header value.
fn is_header_value(uri: &str) -> bool {
    uri.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registration(uri: &str) -> Registration {
        Registration::new(&SignIn::web(&[uri])).unwrap()
    }

    #[test]
    fn matches_addresses_exactly_or_by_expression() {
        let exact = registration("https://app.example/Callback");
        assert!(exact.allows_redirect_to("https://app.example/Callback"));
        for other in ["/callback", "/Callback/", "/Callback?x=1", "/Callback#", "/Callback\n"] {
            assert!(!exact.allows_redirect_to(&format!("https://app.example{other}")), "{other}");
        }
        let native = registration(r"^http://127.0.0.1\:\d{4,10}$");
        assert!(native.allows_redirect_to("http://127.0.0.1:5005"));
        for other in ["http://127.0.0.1:500", "http://127.0.0.1:5005/x", "http://127.0.0.1:5005\n"]
        {
            assert!(!native.allows_redirect_to(other), "{other}");
        }
    }

    #[test]
    fn rejects_invalid_addresses() {
        for wrong in ["", "app.example", "^(", "https://a.example/#x", "https://a.example/ x"] {
            assert!(Registration::new(&SignIn::web(&[wrong])).is_err(), "{wrong}");
        }
    }
}
