//! Which hosts may ever see a credential (DESIGN rule 6): what tenant status names is checked, not trusted.

use std::{fmt, net::IpAddr, sync::Arc};

use url::{Host, Url};

use super::ContextIdentifier;

/// Host suffixes that tenant status may name, such as `superoffice.com`.
///
/// A suffix matches on a label boundary. An IP address matches only itself; a loopback one also allows plain
/// http and any port, which is for tests.
#[derive(Debug, Clone)]
pub struct AllowedApiHosts(Vec<String>);

/// Why a host entry or a URI is refused. Never repeats the URI: it came from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UriRefused {
    /// Not a URI at all.
    #[error("not a URI")]
    Unreadable,
    /// Plain http to something that is not loopback.
    #[error("https is required")]
    Scheme,
    /// User name or password in it.
    #[error("user information is not allowed")]
    UserInfo,
    /// Another port than 443.
    #[error("the port must be 443")]
    Port,
    /// The host is not under an allowed suffix.
    #[error("the host is not under allowed_api_hosts")]
    Host,
    /// Another path than `/{tenant}/api`.
    #[error("the path is not that of the tenant")]
    Path,
    /// Query or fragment.
    #[error("query and fragment are not allowed")]
    Query,
}

impl AllowedApiHosts {
    /// Host names or IP addresses, as configured.
    ///
    /// # Errors
    /// With the first entry that is neither.
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

    /// Whether a loopback host is allowed, as tests do it.
    #[must_use]
    pub fn allow_loopback(&self) -> bool {
        self.0.iter().any(|entry| is_loopback_text(entry))
    }

    fn allow(&self, host: &Host<&str>) -> bool {
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

/// Where a tenant's Web API is: `https://{host}/{tenant}/api`, checked. Cheap to clone: it goes with every ticket.
#[derive(Clone, PartialEq, Eq)]
pub struct WebApiUri(Arc<str>);

impl WebApiUri {
    /// Checks what tenant status names as `Api`.
    ///
    /// # Errors
    /// With the first rule of DESIGN 6.6 that it breaks.
    pub fn check_api(
        text: &str,
        tenant: ContextIdentifier,
        allowed: &AllowedApiHosts,
    ) -> Result<Self, UriRefused> {
        let url = check(text, &format!("/{tenant}/api"), allowed)?;
        Ok(Self(url.as_str().into()))
    }

    /// Checks what tenant status names as `Endpoint`, which is not used but must not contradict.
    ///
    /// # Errors
    /// With the first rule of DESIGN 6.6 that it breaks.
    pub fn check_endpoint(
        text: &str,
        tenant: ContextIdentifier,
        allowed: &AllowedApiHosts,
    ) -> Result<(), UriRefused> {
        check(text, &format!("/{tenant}"), allowed).map(drop)
    }

    /// Without a trailing slash.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The host; with the port, unless it is that of the scheme.
    #[must_use]
    pub fn authority(&self) -> &str {
        self.behind_scheme().split('/').next().unwrap_or_default()
    }

    /// `/{tenant}/api`.
    #[must_use]
    pub fn path(&self) -> &str {
        self.behind_scheme().strip_prefix(self.authority()).unwrap_or_default()
    }

    fn behind_scheme(&self) -> &str {
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

fn check(text: &str, path: &str, allowed: &AllowedApiHosts) -> Result<Url, UriRefused> {
    // The parser repairs what it can (backslashes, tabs, dots); whatever needs repair is refused.
    if !text.bytes().all(|b| b.is_ascii_graphic() && b != b'\\' && b != b'%') {
        return Err(UriRefused::Unreadable);
    }
    let url = Url::parse(text).map_err(|_| UriRefused::Unreadable)?;
    let host = url.host().ok_or(UriRefused::Host)?;
    if !url.username().is_empty() || url.password().is_some() || text.contains('@') {
        return Err(UriRefused::UserInfo);
    }
    if !allowed.allow(&host) {
        return Err(UriRefused::Host);
    }
    let test_host = is_loopback(&host);
    match url.scheme() {
        "https" => {}
        "http" if test_host => {}
        _ => return Err(UriRefused::Scheme),
    }
    if url.port_or_known_default() != Some(443) && !test_host {
        return Err(UriRefused::Port);
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(UriRefused::Query);
    }
    // The end of the text too: the parser would have resolved `/x/../Cust1/api`.
    if url.path() != path
        || !text.ends_with(path)
        || text.matches('/').count() != path.matches('/').count() + 2
    {
        return Err(UriRefused::Path);
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
    fn a_credential_can_be_sent_nowhere_else() {
        for (text, why) in [
            ("", UriRefused::Unreadable),
            ("http://online2.superoffice.com/Cust12345/api", UriRefused::Scheme),
            ("ftp://online2.superoffice.com/Cust12345/api", UriRefused::Scheme),
            ("https://online2.superoffice.com:8443/Cust12345/api", UriRefused::Port),
            ("https://a:b@online2.superoffice.com/Cust12345/api", UriRefused::UserInfo),
            ("https://online2.superoffice.com@evil.example/Cust12345/api", UriRefused::UserInfo),
            ("https://evil.example/Cust12345/api", UriRefused::Host),
            ("https://evilsuperoffice.com/Cust12345/api", UriRefused::Host),
            ("https://superoffice.com.evil.example/Cust12345/api", UriRefused::Host),
            ("https://superoffice.com./Cust12345/api", UriRefused::Host),
            ("https://127.0.0.1/Cust12345/api", UriRefused::Host),
            ("https://169.254.169.254/Cust12345/api", UriRefused::Host),
            ("https://[::1]/Cust12345/api", UriRefused::Host),
            ("https://online2.superoffice.com/Cust12346/api", UriRefused::Path),
            ("https://online2.superoffice.com/Cust12345/api/", UriRefused::Path),
            ("https://online2.superoffice.com/Cust12345/API", UriRefused::Path),
            ("https://online2.superoffice.com/x/../Cust12345/api", UriRefused::Path),
            ("https://online2.superoffice.com//Cust12345/api", UriRefused::Path),
            ("https://online2.superoffice.com/Cust12345/api?x=1", UriRefused::Query),
            ("https://online2.superoffice.com/Cust12345/api#x", UriRefused::Query),
            (
                "https://online2.superoffice.com\\@evil.example/Cust12345/api",
                UriRefused::Unreadable,
            ),
            ("https://online2.superoffice.com/%43ust12345/api", UriRefused::Unreadable),
            ("https://online2.superoffice.com/Cust12345/api\n", UriRefused::Unreadable),
            ("/Cust12345/api", UriRefused::Unreadable),
        ] {
            assert_eq!(WebApiUri::check_api(text, tenant(), &real()), Err(why), "{text}");
        }
    }

    #[test]
    fn loopback_is_for_tests_and_only_where_configured() {
        let local = AllowedApiHosts::new(vec!["127.0.0.1".to_owned()]).unwrap();
        WebApiUri::check_api("http://127.0.0.1:4711/Cust12345/api", tenant(), &local).unwrap();
        let other = WebApiUri::check_api("http://127.0.0.2:4711/Cust12345/api", tenant(), &local);
        assert_eq!(other, Err(UriRefused::Host));
        assert!(local.allow_loopback());
        assert!(!real().allow_loopback());
    }

    #[test]
    fn an_entry_that_is_no_host_is_refused() {
        for entry in ["https://superoffice.com", "superoffice.com/", "*.superoffice.com", ""] {
            assert!(AllowedApiHosts::new(vec![entry.to_owned()]).is_err(), "{entry}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_accepted_goes_to_an_allowed_host(text in "\\PC{0,60}|https://[a-z.:@/\\\\]{0,30}superoffice.com[a-z.:@/]{0,10}/Cust12345/api") {
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
