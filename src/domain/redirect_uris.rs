//! URIs to which browsers may be redirected during a consent.

use url::Url;

use super::api_path::is_unambiguous_segment;

/// Maximum length of a URI, in bytes. Browsers accept little more.
const MAX_BYTES: usize = 2048;

/// Query parameters that the gateway adds to the return URI.
const ADDED_PARAMETERS: [&str; 2] = ["state", "result"];

/// The redirect URIs of one application.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RedirectUris {
    /// The callback of the gateway.
    pub own: Option<String>,
    /// The callbacks of front ends.
    pub others: Vec<String>,
    /// The prefixes of URIs to which a finished consent may redirect the browser.
    pub return_prefixes: Vec<ReturnPrefix>,
}

/// A prefix of return URIs. It matches whole scheme, host and path segments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReturnPrefix(String);

/// The reason why a return URI is rejected. The message does not contain the URI.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReturnUriError {
    /// A browser could read it differently from the gateway.
    #[error(
        "must be an absolute URI of at most 2048 bytes as a browser would write it: host in lower case, no /../, no \
         white space, no fragment"
    )]
    NotNormalized,
    /// A server could read its path differently from the gateway.
    #[error(
        "its path must not hold an encoded slash or backslash, dot segments in any encoding, `;`, control characters \
         nor a % that is encoded twice: a server could read it as another path than the allowed one"
    )]
    Ambiguous,
    /// No prefix matches it.
    #[error("must begin with one of the application's return_uri_prefixes")]
    NotAllowed,
    /// It has a query parameter that the gateway adds.
    #[error("must have neither state nor result in its query: the gateway adds these parameters")]
    ReservedParameter,
}

impl RedirectUris {
    /// Returns whether SuperOffice may send codes to a URI. URIs are compared exactly (RFC 9700 section 2.1).
    #[must_use]
    pub fn is_registered(&self, uri: &str) -> bool {
        self.own.iter().chain(&self.others).any(|registered| registered == uri)
    }

    /// Checks whether a finished consent may redirect the browser to a URI.
    ///
    /// # Errors
    /// Returns the reason why it may not.
    pub fn check_return_uri(&self, uri: &str) -> Result<(), ReturnUriError> {
        let url = parse_normalized(uri).ok_or(ReturnUriError::NotNormalized)?;
        if !is_unambiguous(&url) {
            return Err(ReturnUriError::Ambiguous);
        }
        if !self.return_prefixes.iter().any(|prefix| prefix.matches(uri)) {
            return Err(ReturnUriError::NotAllowed);
        }
        if url.query_pairs().any(|(name, _)| ADDED_PARAMETERS.contains(&name.as_ref())) {
            return Err(ReturnUriError::ReservedParameter);
        }
        Ok(())
    }
}

impl ReturnPrefix {
    /// Checks only the form of the prefix. The administrator chooses schemes and hosts.
    ///
    /// # Errors
    /// Returns the broken rule, for people.
    pub fn new(text: &str) -> Result<Self, &'static str> {
        // Rejects forms that a browser would complete or repair, above all a missing slash: `https://portal.example` is
        // also the beginning of `https://portal.example.evil.example`.
        let url =
            parse_normalized(text).filter(|url| url.query().is_none() && !url.cannot_be_a_base());
        // Rejects user information, because `https://good.example@evil.example/` misleads people about the host.
        let url = url.filter(|url| url.username().is_empty() && url.password().is_none());
        url.filter(is_unambiguous).map(|_| Self(text.to_owned())).ok_or(
            "must have a slash after the host, which must be in lower case, and neither a user name, :443, /../, an \
             encoded slash nor a query",
        )
    }

    fn matches(&self, uri: &str) -> bool {
        let whole =
            |rest: &str| self.0.ends_with('/') || rest.is_empty() || rest.starts_with(['/', '?']);
        uri.strip_prefix(&self.0).is_some_and(whole)
    }
}

/// Parses a URI. Returns `None` unless it formats back to itself, so that nobody reads it differently.
fn parse_normalized(text: &str) -> Option<Url> {
    let bytes = text.bytes().all(|b| b.is_ascii_graphic() && b != b'\\' && b != b'#');
    let url = Url::parse(text).ok()?;
    (bytes && text.len() <= MAX_BYTES && url.as_str() == text).then_some(url)
}

/// Returns whether every server reads the same path. Empty segments are harmless.
fn is_unambiguous(url: &Url) -> bool {
    url.path().split('/').all(|segment| segment.is_empty() || is_unambiguous_segment(segment))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn redirects(prefixes: &[&str]) -> RedirectUris {
        let return_prefixes =
            prefixes.iter().map(|text| ReturnPrefix::new(text).unwrap()).collect();
        RedirectUris {
            own: Some("https://gateway.example/oauth/callback".to_owned()),
            others: vec!["http://127.0.0.1:8000/".to_owned()],
            return_prefixes,
        }
    }

    #[test]
    fn compares_registered_uris_exactly() {
        let redirects = redirects(&[]);
        for (uri, registered) in [
            ("https://gateway.example/oauth/callback", true),
            ("http://127.0.0.1:8000/", true),
            ("https://gateway.example/oauth/callback/", false),
            ("https://gateway.example/OAuth/callback", false),
            ("https://GATEWAY.example/oauth/callback", false),
            ("https://gateway.example/oauth/callback?x=1", false),
            ("http://127.0.0.1:8000", false),
            ("", false),
        ] {
            assert_eq!(redirects.is_registered(uri), registered, "{uri}");
        }
    }

    #[test]
    fn accepts_only_return_uris_with_an_allowed_prefix() {
        use ReturnUriError::{Ambiguous, NotAllowed, NotNormalized, ReservedParameter};
        let redirects = redirects(&["https://good.example/", "https://shop.example/app"]);
        for (uri, wanted) in [
            ("https://good.example/", Ok(())),
            ("https://good.example/done?order=5", Ok(())),
            ("https://shop.example/app", Ok(())),
            ("https://shop.example/app/done", Ok(())),
            ("https://shop.example/app?x=1", Ok(())),
            ("https://shop.example/application", Err(NotAllowed)),
            ("https://shop.example/", Err(NotAllowed)),
            ("https://shop.example/app/../other", Err(NotNormalized)),
            ("https://shop.example/app/%2e%2E/other", Err(NotNormalized)),
            ("https://shop.example/app/%2E./other", Err(NotNormalized)),
            ("https://shop.example/app/.%2e/other", Err(NotNormalized)),
            ("https://shop.example/app/..%2fother", Err(Ambiguous)),
            ("https://shop.example/app/..%2Fother", Err(Ambiguous)),
            ("https://shop.example/app/..%5cother", Err(Ambiguous)),
            ("https://shop.example/app/%252e%252e/other", Err(Ambiguous)),
            ("https://shop.example/app/%252e%252e%252fother", Err(Ambiguous)),
            ("https://shop.example/app/..;/other", Err(Ambiguous)),
            ("https://shop.example/app/..;x=1/other", Err(Ambiguous)),
            ("https://shop.example/app/.../other", Err(Ambiguous)),
            ("https://shop.example/app/..%20/other", Err(Ambiguous)),
            ("https://shop.example/app/%ef%bc%8e%ef%bc%8e/other", Err(Ambiguous)),
            ("https://shop.example/app/%c0%ae%c0%ae/other", Err(Ambiguous)),
            ("https://shop.example/app/%u002e%u002e/other", Err(Ambiguous)),
            ("https://shop.example/app/%0d%0ax", Err(Ambiguous)),
            ("https://shop.example/app/%00", Err(Ambiguous)),
            ("https://shop.example/app%2fdone", Err(Ambiguous)),
            ("https://shop.example/app/50%", Err(Ambiguous)),
            ("https://shop.example/app\\..\\other", Err(NotNormalized)),
            ("https://shop.example/app/\tx", Err(NotNormalized)),
            ("https://shop.example/app?next=..%2fother", Ok(())),
            ("https://shop.example/app/Acme%20Inc.", Ok(())),
            ("https://shop.example//app/done", Err(NotAllowed)),
            ("https://shop.example/App/done", Err(NotAllowed)),
            ("https://shop.example/%61pp/done", Err(NotAllowed)),
            ("https://shop.example/app-evil", Err(NotAllowed)),
            ("https://shop.example/app.evil.example/", Err(NotAllowed)),
            ("https://shop.example./app/done", Err(NotAllowed)),
            ("https://xn--bcher-kva.example/app", Err(NotAllowed)),
            ("https://sh\u{f8}p.example/app", Err(NotNormalized)),
            ("https://shop.example:443/app/done", Err(NotNormalized)),
            ("https://shop.example:/app/done", Err(NotNormalized)),
            ("HTTPS://shop.example/app/done", Err(NotNormalized)),
            ("https:/shop.example/app/done", Err(NotNormalized)),
            ("https:shop.example/app/done", Err(NotNormalized)),
            ("https:///shop.example/app/done", Err(NotNormalized)),
            ("https://sh%6fp.example/app/done", Err(NotNormalized)),
            (" https://shop.example/app/done", Err(NotNormalized)),
            ("https://good.example.evil.example/", Err(NotAllowed)),
            ("https://good.example:8443/", Err(NotAllowed)),
            ("https://good.example@evil.example/", Err(NotAllowed)),
            ("https://user@good.example/", Err(NotAllowed)),
            ("http://good.example/", Err(NotAllowed)),
            ("https://good.example", Err(NotNormalized)),
            ("https://GOOD.example/", Err(NotNormalized)),
            ("https://good.example\\@evil.example/", Err(NotNormalized)),
            ("https://good.example/#x", Err(NotNormalized)),
            ("https://good.example/\r\nx: y", Err(NotNormalized)),
            ("//good.example/", Err(NotNormalized)),
            ("javascript:alert(1)", Err(NotAllowed)),
            ("", Err(NotNormalized)),
            ("https://good.example/?state=1", Err(ReservedParameter)),
            ("https://good.example/?x=1&resul%74=granted", Err(ReservedParameter)),
        ] {
            assert_eq!(redirects.check_return_uri(uri), wanted, "{uri}");
        }
        let long = format!("https://good.example/{}", "x".repeat(MAX_BYTES));
        assert_eq!(redirects.check_return_uri(&long), Err(NotNormalized));
        assert_eq!(
            RedirectUris::default().check_return_uri("https://good.example/"),
            Err(NotAllowed)
        );
    }

    #[test]
    fn rejects_malformed_prefixes() {
        for text in [
            "https://good.example",
            "https://GOOD.example/",
            "https://good.example:443/",
            "https://good.example/a/../b",
            "https://good.example/?x",
            "https://good.example/#",
            "https://user@good.example/",
            "https://good.example@evil.example/",
            "https://good.example/..%2f",
            "https://good.example/a%2Fb",
            "https://good.example/%252e%252e/",
            "https://good.example/..;/",
            "good.example/",
            "javascript:",
            "",
        ] {
            assert!(ReturnPrefix::new(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_accepted_uri_is_on_an_allowed_host(
            uri in "https?://(good|evil|[a-z@:.]{0,6})\\.example[a-z0-9@:./\\\\?#%]{0,24}|\\PC{0,40}",
            prefix in "https://good\\.example/[a-z]{0,2}/?",
        ) {
            if redirects(&[&prefix]).check_return_uri(&uri).is_ok() {
                let url = Url::parse(&uri).unwrap();
                prop_assert_eq!(url.origin().ascii_serialization(), "https://good.example");
                prop_assert!(url.username().is_empty() && url.password().is_none());
                let path = Url::parse(&prefix).unwrap().path().trim_end_matches('/').to_owned();
                let rest = url.path().strip_prefix(&path);
                prop_assert!(rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')));
            }
        }
    }
}
