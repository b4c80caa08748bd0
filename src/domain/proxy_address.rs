//! The address of an outbound proxy.

use std::fmt;

use url::Url;

/// The address of an outbound proxy. Displays its URI without a credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyAddress {
    /// Whether the connection to the proxy uses TLS.
    pub tls: bool,
    /// The host; an IPv6 address is in brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// The URI of a proxy with its credential, as in environment variables.
pub struct ProxyUri {
    /// The address of the proxy.
    pub address: ProxyAddress,
    /// The user name and password, percent-decoded.
    pub credential: Option<(String, String)>,
}

/// The reason why a proxy URI is rejected. The message does not contain the URI, which may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidProxyUri {
    /// It is not the URI of a proxy.
    #[error(
        "must be the URI of an HTTP proxy, such as \"http://proxy.example.com:3128\", without path and query (\"https://\" \
         is for a proxy that is itself reached over TLS)"
    )]
    Form,
    /// It is the URI of a SOCKS proxy.
    #[error(
        "is a SOCKS proxy, which the gateway cannot use; name an HTTP proxy that allows CONNECT"
    )]
    Socks,
    /// The user name or password cannot be sent with HTTP Basic authentication.
    #[error(
        "has a user name or password that cannot be sent (RFC 7617): percent-encode their special characters as UTF-8; \
         the user name has no colon, and neither has control characters"
    )]
    Credential,
}

impl ProxyUri {
    /// Parses a URI with a scheme.
    ///
    /// # Errors
    /// Returns the first rule that the URI breaks.
    pub fn parse(text: &str) -> Result<Self, InvalidProxyUri> {
        let url = Url::parse(text).map_err(|_| InvalidProxyUri::Form)?;
        if url.scheme().starts_with("socks") {
            return Err(InvalidProxyUri::Socks);
        }
        // The parser repairs white space and backslashes, but a URI that needs repair is probably a mistake.
        let plain = text.bytes().all(|b| b.is_ascii_graphic() && b != b'\\');
        let web = matches!(url.scheme(), "http" | "https");
        let bare = matches!(url.path(), "/" | "") && url.query().is_none();
        if !plain || !web || !bare || url.fragment().is_some() {
            return Err(InvalidProxyUri::Form);
        }
        let host = url.host_str().ok_or(InvalidProxyUri::Form)?.to_owned();
        let port = url.port_or_known_default().ok_or(InvalidProxyUri::Form)?;
        let address = ProxyAddress { tls: url.scheme() == "https", host, port };
        let (name, password) = (url.username(), url.password().unwrap_or_default());
        let credential = if name.is_empty() && password.is_empty() {
            None
        } else {
            let decoded = || Some((decode(name)?, decode(password)?));
            Some(decoded().filter(is_sendable).ok_or(InvalidProxyUri::Credential)?)
        };
        Ok(Self { address, credential })
    }

    /// Parses the value of an environment variable. The scheme may be missing, as for curl and Go.
    ///
    /// # Errors
    /// Returns the first rule that the URI breaks.
    pub fn parse_lenient(text: &str) -> Result<Self, InvalidProxyUri> {
        let text = text.trim();
        if text.contains("://") {
            Self::parse(text)
        } else {
            Self::parse(&format!("http://{text}"))
        }
    }
}

impl fmt::Display for ProxyAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}:{}", self.host, self.port)
    }
}

/// Returns whether HTTP Basic authentication can carry a user name (RFC 7617 section 2).
#[must_use]
pub fn is_proxy_username(name: &str) -> bool {
    !name.is_empty() && !name.contains(|c: char| c == ':' || c.is_control())
}

fn is_sendable((name, password): &(String, String)) -> bool {
    is_proxy_username(name) && !password.contains(char::is_control)
}

fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || char::from(rest.next()?).to_digit(16);
        let (high, low) = (digit()?, digit()?);
        bytes.push(u8::try_from(high * 16 + low).ok()?);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejects_invalid_proxy_uris_without_repeating_them() {
        for (text, why) in [
            ("", InvalidProxyUri::Form),
            ("proxy.example.com:3128", InvalidProxyUri::Form),
            ("http://", InvalidProxyUri::Form),
            ("http://proxy.example.com:99999", InvalidProxyUri::Form),
            ("http://proxy.example.com:3128/path", InvalidProxyUri::Form),
            ("http://proxy.example.com:3128?x=1", InvalidProxyUri::Form),
            ("http://proxy.example.com:3128#x", InvalidProxyUri::Form),
            ("http://proxy.example.com:3128\\x", InvalidProxyUri::Form),
            (" http://proxy.example.com", InvalidProxyUri::Form),
            ("ftp://proxy.example.com", InvalidProxyUri::Form),
            ("socks5://proxy.example.com:1080", InvalidProxyUri::Socks),
            ("socks5h://proxy.example.com:1080", InvalidProxyUri::Socks),
            ("http://us%3Aer:hunter2@proxy.example.com", InvalidProxyUri::Credential),
            ("http://user:hunter2%0a@proxy.example.com", InvalidProxyUri::Credential),
            ("http://user:hunter2%ff@proxy.example.com", InvalidProxyUri::Credential),
            ("http://:hunter2@proxy.example.com", InvalidProxyUri::Credential),
        ] {
            let error = ProxyUri::parse(text).map(|_| ()).unwrap_err();
            assert_eq!(error, why, "{text}");
            assert!(!error.to_string().contains("hunter2"));
        }
    }

    #[test]
    fn separates_and_decodes_the_credential() {
        let uri = ProxyUri::parse("http://bj%C3%B6rn:p%40ss%2Fword%25@proxy.example.com:3128/");
        let ProxyUri { address, credential } = uri.unwrap();
        assert_eq!(address.to_string(), "http://proxy.example.com:3128");
        assert_eq!(credential, Some(("björn".to_owned(), "p@ss/word%".to_owned())));
    }

    #[test]
    fn uses_default_ports_and_accepts_a_missing_scheme() {
        for (text, shown) in [
            ("http://proxy.example.com", "http://proxy.example.com:80"),
            ("https://proxy.example.com", "https://proxy.example.com:443"),
            ("http://10.0.0.1:3128", "http://10.0.0.1:3128"),
            ("http://[fd00::1]:3128", "http://[fd00::1]:3128"),
            ("proxy.example.com:3128", "http://proxy.example.com:3128"),
            (" user:pass@proxy:3128 ", "http://proxy:3128"),
        ] {
            assert_eq!(ProxyUri::parse_lenient(text).unwrap().address.to_string(), shown);
        }
    }
}
