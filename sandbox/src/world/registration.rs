//! What an application registers for the sign-in of people.

use regex::Regex;
use serde::{Deserialize, Serialize};

use crate::control::ControlError;

/// How people sign in to an application. At first an application has no redirect address: nobody
/// can.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SignIn {
    /// Where people may be sent back to. The address of a request must be one of these to the
    /// letter; one that begins with `^` is a regular expression, such as
    /// `^http://127.0.0.1\:\d{4,10}$` (SUPEROFFICE.md 4.1, documented).
    pub redirect_uris: Vec<String>,
    /// Where people may be sent to after a logout, written likewise (4.2, documented).
    pub post_logout_uris: Vec<String>,
    /// "Is native or mobile app": PKCE is required, and a code is exchanged without the secret
    /// (4.1, documented); a refresh token is not (4.2, seen).
    pub native: bool,
    /// Whether an administrator's id token has the system user token (2.2, documented).
    pub system_token: bool,
}

impl SignIn {
    /// A web application with these redirect addresses, without the system user token.
    #[must_use]
    pub fn web(redirect_uris: &[impl AsRef<str>]) -> Self {
        let redirect_uris = redirect_uris.iter().map(|uri| uri.as_ref().to_owned()).collect();
        Self { redirect_uris, ..Self::default() }
    }
}

/// The same, ready for use.
#[derive(Clone, Debug, Default)]
pub(crate) struct Registration {
    redirects: Vec<Pattern>,
    post_logouts: Vec<Pattern>,
    pub(crate) native: bool,
    pub(crate) system_token: bool,
}

impl Registration {
    pub(crate) fn new(about: &SignIn) -> Result<Self, ControlError> {
        Ok(Self {
            redirects: patterns(&about.redirect_uris)?,
            post_logouts: patterns(&about.post_logout_uris)?,
            native: about.native,
            system_token: about.system_token,
        })
    }

    pub(crate) fn sends_back_to(&self, uri: &str) -> bool {
        is_header(uri) && self.redirects.iter().any(|pattern| pattern.matches(uri))
    }

    pub(crate) fn logs_out_to(&self, uri: &str) -> bool {
        is_header(uri) && self.post_logouts.iter().any(|pattern| pattern.matches(uri))
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
            } else if uri.contains("://") && is_header(uri) && !uri.contains('#') {
                Ok(Pattern::Exact(uri.clone()))
            } else {
                Err(ControlError::BadUri(uri.clone()))
            }
        })
        .collect()
}

/// Whether an address can stand in a header as it is.
fn is_header(uri: &str) -> bool {
    uri.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registration(uri: &str) -> Registration {
        Registration::new(&SignIn::web(&[uri])).unwrap()
    }

    #[test]
    fn an_address_matches_to_the_letter_or_by_its_expression() {
        let exact = registration("https://app.example/Callback");
        assert!(exact.sends_back_to("https://app.example/Callback"));
        for other in ["/callback", "/Callback/", "/Callback?x=1", "/Callback#", "/Callback\n"] {
            assert!(!exact.sends_back_to(&format!("https://app.example{other}")), "{other}");
        }
        let native = registration(r"^http://127.0.0.1\:\d{4,10}$");
        assert!(native.sends_back_to("http://127.0.0.1:5005"));
        for other in ["http://127.0.0.1:500", "http://127.0.0.1:5005/x", "http://127.0.0.1:5005\n"]
        {
            assert!(!native.sends_back_to(other), "{other}");
        }
    }

    #[test]
    fn what_is_no_address_is_not_registered() {
        for wrong in ["", "app.example", "^(", "https://a.example/#x", "https://a.example/ x"] {
            assert!(Registration::new(&SignIn::web(&[wrong])).is_err(), "{wrong}");
        }
    }
}
