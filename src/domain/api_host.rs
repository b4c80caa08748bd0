//! The hosts to which credentials may be sent. The URI in a tenant status is checked, not trusted.

use std::{fmt, net::IpAddr, sync::Arc};

use url::{Host, Url};

use super::ContextIdentifier;

/// The host suffixes that are allowed in a tenant status, such as `superoffice.com`.
///
/// A suffix matches whole labels. An IP address matches only itself. Loopback also allows plain http and any port, for
/// tests.
#[derive(Debug, Clone)]
pub struct AllowedApiHosts(Vec<String>);

/// The reason why a URI is rejected. The message does not contain the URI, because it comes from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ApiUriError {
    /// It is not a URI.
    #[error("not a URI")]
    Unreadable,
    /// It has plain http, and its host is not loopback.
    #[error("https is required")]
    Scheme,
    /// It contains a user name or password.
    #[error("user information is not allowed")]
    UserInfo,
    /// Its port is not 443.
    #[error("the port must be 443")]
    Port,
    /// Its host has no allowed suffix.
    #[error("the host is not under allowed_api_hosts")]
    Host,
    /// Its path is not `/{tenant}/api`.
    #[error("the path is not that of the tenant")]
    Path,
    /// It has a query or a fragment.
    #[error("query and fragment are not allowed")]
    Query,
}

impl AllowedApiHosts {
    /// Creates the list from the configured host names and IP addresses.
    ///
    /// # Errors
    /// Returns the first entry that is neither.
    pub fn new(entries: Vec<String>) -> Result<Self, String> {
        for entry in &entries {
            let letters =
                |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b".-".contains(&b);
            let name = Host::parse(entry).is_ok() && entry.bytes().all(letters);
            if !name && entry.parse::<IpAddr>().is_err() {
                return Err(entry.clone());
            }
        }
        Ok(Self(entries))
    }

    /// Returns whether a loopback host is allowed, which is for tests.
    #[must_use]
    pub fn allow_loopback(&self) -> bool {
        self.0.iter().any(|entry| is_loopback_text(entry))
    }

    fn allows(&self, host: &Host<&str>) -> bool {
        self.0.iter().any(|entry| match host {
            Host::Domain(domain) => domain
                .strip_suffix(entry.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.ends_with('.')),
            Host::Ipv4(address) => entry.parse() == Ok(IpAddr::V4(*address)),
            Host::Ipv6(address) => entry.parse() == Ok(IpAddr::V6(*address)),
        })
    }
}

fn is_loopback_text(text: &str) -> bool {
    text == "localhost" || text.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn is_loopback(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(domain) => *domain == "localhost",
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
    }
}

/// The checked URI of a tenant's Web API: `https://{host}/{tenant}/api`. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct WebApiUri(Arc<str>);

impl WebApiUri {
    /// Checks the `Api` URI of a tenant status.
    ///
    /// # Errors
    /// Returns the first rule that the URI breaks.
    pub fn check_api(
        text: &str,
        tenant: ContextIdentifier,
        allowed: &AllowedApiHosts,
    ) -> Result<Self, ApiUriError> {
        let url = check(text, &format!("/{tenant}/api"), allowed)?;
        Ok(Self(url.as_str().into()))
    }

    /// Checks the `Endpoint` URI of a tenant status. It is not used, but must be consistent.
    ///
    /// # Errors
    /// Returns the first rule that the URI breaks.
    pub fn check_endpoint(
        text: &str,
        tenant: ContextIdentifier,
        allowed: &AllowedApiHosts,
    ) -> Result<(), ApiUriError> {
        check(text, &format!("/{tenant}"), allowed).map(drop)
    }

    /// Returns the URI without a trailing slash.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the host, with the port unless it is the scheme's default port.
    #[must_use]
    pub fn authority(&self) -> &str {
        self.after_scheme().split('/').next().unwrap_or_default()
    }

    /// Returns the path, `/{tenant}/api`.
    #[must_use]
    pub fn path(&self) -> &str {
        self.after_scheme().strip_prefix(self.authority()).unwrap_or_default()
    }

    fn after_scheme(&self) -> &str {
        self.0.split_once("://").map_or("", |(_, rest)| rest)
    }
}

impl fmt::Display for WebApiUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for WebApiUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn check(text: &str, path: &str, allowed: &AllowedApiHosts) -> Result<Url, ApiUriError> {
    // The parser repairs some mistakes (backslashes, tabs, dots), so any text that needs repair is rejected first.
    if !text.bytes().all(|b| b.is_ascii_graphic() && b != b'\\' && b != b'%') {
        return Err(ApiUriError::Unreadable);
    }
    let url = Url::parse(text).map_err(|_| ApiUriError::Unreadable)?;
    let host = url.host().ok_or(ApiUriError::Host)?;
    if !url.username().is_empty() || url.password().is_some() || text.contains('@') {
        return Err(ApiUriError::UserInfo);
    }
    if !allowed.allows(&host) {
        return Err(ApiUriError::Host);
    }
    let test_host = is_loopback(&host);
    match url.scheme() {
        "https" => {}
        "http" if test_host => {}
        _ => return Err(ApiUriError::Scheme),
    }
    if url.port_or_known_default() != Some(443) && !test_host {
        return Err(ApiUriError::Port);
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(ApiUriError::Query);
    }
    // Compares the end of the text too, because the parser resolves `/x/../Cust1/api`.
    if url.path() != path
        || !text.ends_with(path)
        || text.matches('/').count() != path.matches('/').count() + 2
    {
        return Err(ApiUriError::Path);
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tenant() -> ContextIdentifier {
        "Cust12345".parse().unwrap()
    }

    fn real() -> AllowedApiHosts {
        AllowedApiHosts::new(vec!["superoffice.com".to_owned()]).unwrap()
    }

    #[test]
    fn the_documented_forms_are_accepted() {
        for text in [
            "https://online2.superoffice.com/Cust12345/api",
            "https://app.superoffice.com/Cust12345/api",
            "https://sod2.superoffice.com:443/Cust12345/api",
        ] {
            WebApiUri::check_api(text, tenant(), &real()).unwrap();
        }
        let uri = "https://sod2.superoffice.com:443/Cust12345/api";
        let uri = WebApiUri::check_api(uri, tenant(), &real()).unwrap();
        assert_eq!(uri.as_str(), "https://sod2.superoffice.com/Cust12345/api");
        WebApiUri::check_endpoint("https://sod2.superoffice.com:443/Cust12345", tenant(), &real())
            .unwrap();
    }

    #[test]
    fn rejects_every_other_destination() {
        for (text, why) in [
            ("", ApiUriError::Unreadable),
            ("http://online2.superoffice.com/Cust12345/api", ApiUriError::Scheme),
            ("ftp://online2.superoffice.com/Cust12345/api", ApiUriError::Scheme),
            ("https://online2.superoffice.com:8443/Cust12345/api", ApiUriError::Port),
            ("https://a:b@online2.superoffice.com/Cust12345/api", ApiUriError::UserInfo),
            ("https://online2.superoffice.com@evil.example/Cust12345/api", ApiUriError::UserInfo),
            ("https://evil.example/Cust12345/api", ApiUriError::Host),
            ("https://evilsuperoffice.com/Cust12345/api", ApiUriError::Host),
            ("https://superoffice.com.evil.example/Cust12345/api", ApiUriError::Host),
            ("https://superoffice.com./Cust12345/api", ApiUriError::Host),
            ("https://127.0.0.1/Cust12345/api", ApiUriError::Host),
            ("https://169.254.169.254/Cust12345/api", ApiUriError::Host),
            ("https://[::1]/Cust12345/api", ApiUriError::Host),
            ("https://online2.superoffice.com/Cust12346/api", ApiUriError::Path),
            ("https://online2.superoffice.com/Cust12345/api/", ApiUriError::Path),
            ("https://online2.superoffice.com/Cust12345/API", ApiUriError::Path),
            ("https://online2.superoffice.com/x/../Cust12345/api", ApiUriError::Path),
            ("https://online2.superoffice.com//Cust12345/api", ApiUriError::Path),
            ("https://online2.superoffice.com/Cust12345/api?x=1", ApiUriError::Query),
            ("https://online2.superoffice.com/Cust12345/api#x", ApiUriError::Query),
            (
                "https://online2.superoffice.com\\@evil.example/Cust12345/api",
                ApiUriError::Unreadable,
            ),
            ("https://online2.superoffice.com/%43ust12345/api", ApiUriError::Unreadable),
            ("https://online2.superoffice.com/Cust12345/api\n", ApiUriError::Unreadable),
            ("/Cust12345/api", ApiUriError::Unreadable),
        ] {
            assert_eq!(WebApiUri::check_api(text, tenant(), &real()), Err(why), "{text}");
        }
    }

    #[test]
    fn accepts_loopback_only_if_configured() {
        let local = AllowedApiHosts::new(vec!["127.0.0.1".to_owned()]).unwrap();
        WebApiUri::check_api("http://127.0.0.1:4711/Cust12345/api", tenant(), &local).unwrap();
        let other = WebApiUri::check_api("http://127.0.0.2:4711/Cust12345/api", tenant(), &local);
        assert_eq!(other, Err(ApiUriError::Host));
        assert!(local.allow_loopback());
        assert!(!real().allow_loopback());
    }

    #[test]
    fn rejects_an_entry_that_is_not_a_host() {
        for entry in ["https://superoffice.com", "superoffice.com/", "*.superoffice.com", ""] {
            assert!(AllowedApiHosts::new(vec![entry.to_owned()]).is_err(), "{entry}");
        }
    }

    proptest! {
        #[test]
        fn every_accepted_uri_has_an_allowed_host(text in "\\PC{0,60}|https://[a-z.:@/\\\\]{0,30}superoffice.com[a-z.:@/]{0,10}/Cust12345/api") {
            if let Ok(uri) = WebApiUri::check_api(&text, tenant(), &real()) {
                let url = Url::parse(uri.as_str()).unwrap();
                let host = url.host_str().unwrap();
                prop_assert!(host == "superoffice.com" || host.ends_with(".superoffice.com"));
                prop_assert_eq!(url.scheme(), "https");
                prop_assert_eq!(url.port(), None);
            }
        }
    }
}
