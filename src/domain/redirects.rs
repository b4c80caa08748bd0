//! Where browsers may be sent while a person consents (DESIGN 7, "Consent").

use url::Url;

use super::api_path::is_unambiguous_segment;

/// A browser would not take much more.
const MAX_BYTES: usize = 2048;

/// What the way back adds.
const ADDED: [&str; 2] = ["state", "result"];

/// The addresses of one application.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Redirects {
    /// The gateway's own callback.
    pub own: Option<String>,
    /// Callbacks that front ends own.
    pub others: Vec<String>,
    /// Where a finished consent may send the browser.
    pub return_prefixes: Vec<ReturnPrefix>,
}

/// What return URIs begin with: scheme and host whole, and whole segments of the path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReturnPrefix(String);

/// Why a browser is not sent there. Never repeats the URI.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReturnRefused {
    /// Browsers could read it as something else than we do.
    #[error(
        "must be an absolute URI of at most 2048 bytes as a browser would write it: host in lower case, no /../, no \
         white space, no fragment"
    )]
    NotPlain,
    /// A server could read its path as another one.
    #[error(
        "its path must not hold an encoded slash or backslash, dot segments in any encoding, `;`, control characters \
         nor a % that is encoded twice: a server could read it as another path than the admitted one"
    )]
    Ambiguous,
    /// No prefix admits it.
    #[error("must begin with one of the application's return_uri_prefixes")]
    NotAdmitted,
    /// It says already what only we say.
    #[error("must have neither state nor result in its query: these are added")]
    Taken,
}

impl Redirects {
    /// Whether SuperOffice may send codes there: registered URIs are compared to the letter (RFC 9700 section 2.1).
    #[must_use]
    pub fn receive_codes_at(&self, uri: &str) -> bool {
        self.own.iter().chain(&self.others).any(|registered| registered == uri)
    }

    /// Whether a finished consent may send the browser there.
    ///
    /// # Errors
    /// With what is against it.
    pub fn check_return(&self, uri: &str) -> Result<(), ReturnRefused> {
        let url = plain(uri).ok_or(ReturnRefused::NotPlain)?;
        if !is_unambiguous(&url) {
            return Err(ReturnRefused::Ambiguous);
        }
        if !self.return_prefixes.iter().any(|prefix| prefix.admits(uri)) {
            return Err(ReturnRefused::NotAdmitted);
        }
        if url.query_pairs().any(|(name, _)| ADDED.contains(&name.as_ref())) {
            return Err(ReturnRefused::Taken);
        }
        Ok(())
    }
}

impl ReturnPrefix {
    /// Checks the form alone; which schemes and hosts are good is for who configures.
    ///
    /// # Errors
    /// With the rule, for people.
    pub fn new(text: &str) -> Result<Self, &'static str> {
        // What a browser adds or mends is refused, above all a missing slash: `https://portal.example` would also be
        // the beginning of `https://portal.example.evil.example`.
        let url = plain(text).filter(|url| url.query().is_none() && !url.cannot_be_a_base());
        // `https://good.example@evil.example/` looks like another host to people.
        let url = url.filter(|url| url.username().is_empty() && url.password().is_none());
        url.filter(is_unambiguous).map(|_| Self(text.to_owned())).ok_or(
            "must have a slash after the host, which must be in lower case, and neither a user name, :443, /../, an \
             encoded slash nor a query",
        )
    }

    fn admits(&self, uri: &str) -> bool {
        let whole =
            |rest: &str| self.0.ends_with('/') || rest.is_empty() || rest.starts_with(['/', '?']);
        uri.strip_prefix(&self.0).is_some_and(whole)
    }
}

/// The URI, if reading and writing it leaves it as it is: then nobody reads another one.
fn plain(text: &str) -> Option<Url> {
    let bytes = text.bytes().all(|b| b.is_ascii_graphic() && b != b'\\' && b != b'#');
    let url = Url::parse(text).ok()?;
    (bytes && text.len() <= MAX_BYTES && url.as_str() == text).then_some(url)
}

/// Whether no server reads another path than the one that is compared. Empty segments lead nowhere else.
fn is_unambiguous(url: &Url) -> bool {
    url.path().split('/').all(|segment| segment.is_empty() || is_unambiguous_segment(segment))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn redirects(prefixes: &[&str]) -> Redirects {
        let return_prefixes =
            prefixes.iter().map(|text| ReturnPrefix::new(text).unwrap()).collect();
        Redirects {
            own: Some("https://gateway.example/oauth/callback".to_owned()),
            others: vec!["http://127.0.0.1:8000/".to_owned()],
            return_prefixes,
        }
    }

    #[test]
    fn codes_are_received_at_registered_addresses_to_the_letter() {
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
            assert_eq!(redirects.receive_codes_at(uri), registered, "{uri}");
        }
    }

    #[test]
    fn a_browser_is_returned_to_admitted_places_only() {
        use ReturnRefused::{Ambiguous, NotAdmitted, NotPlain, Taken};
        let redirects = redirects(&["https://good.example/", "https://shop.example/app"]);
        for (uri, wanted) in [
            ("https://good.example/", Ok(())),
            ("https://good.example/done?order=5", Ok(())),
            ("https://shop.example/app", Ok(())),
            ("https://shop.example/app/done", Ok(())),
            ("https://shop.example/app?x=1", Ok(())),
            ("https://shop.example/application", Err(NotAdmitted)),
            ("https://shop.example/", Err(NotAdmitted)),
            ("https://shop.example/app/../other", Err(NotPlain)),
            ("https://shop.example/app/%2e%2E/other", Err(NotPlain)),
            ("https://shop.example/app/%2E./other", Err(NotPlain)),
            ("https://shop.example/app/.%2e/other", Err(NotPlain)),
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
            ("https://shop.example/app\\..\\other", Err(NotPlain)),
            ("https://shop.example/app/\tx", Err(NotPlain)),
            ("https://shop.example/app?next=..%2fother", Ok(())),
            ("https://shop.example/app/Acme%20Inc.", Ok(())),
            ("https://shop.example//app/done", Err(NotAdmitted)),
            ("https://shop.example/App/done", Err(NotAdmitted)),
            ("https://shop.example/%61pp/done", Err(NotAdmitted)),
            ("https://shop.example/app-evil", Err(NotAdmitted)),
            ("https://shop.example/app.evil.example/", Err(NotAdmitted)),
            ("https://shop.example./app/done", Err(NotAdmitted)),
            ("https://xn--bcher-kva.example/app", Err(NotAdmitted)),
            ("https://sh\u{f8}p.example/app", Err(NotPlain)),
            ("https://shop.example:443/app/done", Err(NotPlain)),
            ("https://shop.example:/app/done", Err(NotPlain)),
            ("HTTPS://shop.example/app/done", Err(NotPlain)),
            ("https:/shop.example/app/done", Err(NotPlain)),
            ("https:shop.example/app/done", Err(NotPlain)),
            ("https:///shop.example/app/done", Err(NotPlain)),
            ("https://sh%6fp.example/app/done", Err(NotPlain)),
            (" https://shop.example/app/done", Err(NotPlain)),
            ("https://good.example.evil.example/", Err(NotAdmitted)),
            ("https://good.example:8443/", Err(NotAdmitted)),
            ("https://good.example@evil.example/", Err(NotAdmitted)),
            ("https://user@good.example/", Err(NotAdmitted)),
            ("http://good.example/", Err(NotAdmitted)),
            ("https://good.example", Err(NotPlain)),
            ("https://GOOD.example/", Err(NotPlain)),
            ("https://good.example\\@evil.example/", Err(NotPlain)),
            ("https://good.example/#x", Err(NotPlain)),
            ("https://good.example/\r\nx: y", Err(NotPlain)),
            ("//good.example/", Err(NotPlain)),
            ("javascript:alert(1)", Err(NotAdmitted)),
            ("", Err(NotPlain)),
            ("https://good.example/?state=1", Err(Taken)),
            ("https://good.example/?x=1&resul%74=granted", Err(Taken)),
        ] {
            assert_eq!(redirects.check_return(uri), wanted, "{uri}");
        }
        let long = format!("https://good.example/{}", "x".repeat(MAX_BYTES));
        assert_eq!(redirects.check_return(&long), Err(NotPlain));
        assert_eq!(Redirects::default().check_return("https://good.example/"), Err(NotAdmitted));
    }

    #[test]
    fn a_prefix_ends_its_host() {
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
        fn whatever_is_admitted_is_on_an_admitted_host(
            uri in "https?://(good|evil|[a-z@:.]{0,6})\\.example[a-z0-9@:./\\\\?#%]{0,24}|\\PC{0,40}",
            prefix in "https://good\\.example/[a-z]{0,2}/?",
        ) {
            if redirects(&[&prefix]).check_return(&uri).is_ok() {
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
