//! The metadata of an issuer (OpenID Connect Discovery 1.0, section 4; RFC 8414).

use serde::Deserialize;
use url::{Host, Url};

use crate::ports::JwksError;

#[derive(Deserialize)]
struct Metadata {
    issuer: String,
    jwks_uri: String,
}

/// Returns the URI of the metadata (Discovery, 4): below the whole issuer name, path included.
pub(super) fn metadata_uri(issuer: &str) -> Result<Url, JwksError> {
    let base = issuer.strip_suffix('/').unwrap_or(issuer);
    let uri = parse_allowed_uri(issuer)
        .and_then(|_| parse_allowed_uri(&format!("{base}/.well-known/openid-configuration")));
    uri.ok_or_else(|| {
        JwksError(format!(
            "issuer {issuer}: not an https:// URI (or http:// on a loopback host), so its keys cannot be found by \
             discovery: set jwks_uri or jwks_file"
        ))
    })
}

/// Returns the `jwks_uri` of the metadata, if the metadata belongs to the issuer (Discovery, 4.3).
pub(super) fn jwks_uri(issuer: &str, metadata: &[u8]) -> Result<Url, JwksError> {
    let refused = |why: &str| Err(JwksError(format!("discovery of {issuer}: {why}")));
    let Ok(metadata) = serde_json::from_slice::<Metadata>(metadata) else {
        return refused(
            "the response is not a discovery document with `issuer` and `jwks_uri`: check the issuer's URI",
        );
    };
    if metadata.issuer != issuer {
        return refused(
            "the document belongs to another issuer: write callers.jwt.issuer exactly as in the document",
        );
    }
    match parse_allowed_uri(&metadata.jwks_uri) {
        Some(uri) => Ok(uri),
        None => refused(
            "its jwks_uri is not an https:// URI (or http:// on a loopback host): set jwks_uri",
        ),
    }
}

/// Parses an absolute URI whose response can be trusted: https, or http on a loopback host.
pub(super) fn parse_allowed_uri(uri: &str) -> Option<Url> {
    let plain = uri.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    let url = Url::parse(uri).ok().filter(|_| plain)?;
    let loopback = match url.host()? {
        Host::Domain(domain) => domain == "localhost",
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
    };
    let safe = url.scheme() == "https" || (url.scheme() == "http" && loopback);
    let bare = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    (safe && bare).then_some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_only_the_issuers_own_document_with_a_safe_uri() {
        let issuer = "https://issuer.example/realm";
        let document = |issuer: &str, uri: &str| {
            serde_json::json!({ "issuer": issuer, "jwks_uri": uri }).to_string().into_bytes()
        };
        for (metadata, why) in [
            (b"".to_vec(), "not a discovery document"),
            (b"[]".to_vec(), "not a discovery document"),
            (b"{\"issuer\":\"https://issuer.example/realm\"}".to_vec(), "not a discovery document"),
            (
                document("https://issuer.example/realm/", "https://issuer.example/jwks"),
                "another issuer",
            ),
            (document("https://issuer.example", "https://issuer.example/jwks"), "another issuer"),
            (document(issuer, "http://issuer.example/jwks"), "jwks_uri is not an https"),
            (document(issuer, "http://localhost.example/jwks"), "jwks_uri is not an https"),
            (document(issuer, "file:///etc/passwd"), "jwks_uri is not an https"),
            (document(issuer, "/jwks"), "jwks_uri is not an https"),
            (document(issuer, "https://a:b@issuer.example/jwks"), "jwks_uri is not an https"),
            (document(issuer, "https://issuer.example/\u{e4}"), "jwks_uri is not an https"),
        ] {
            let error = jwks_uri(issuer, &metadata).unwrap_err();
            assert!(error.0.contains(why), "{error} is not {why}");
        }
        for uri in ["https://keys.example/jwks", "http://127.0.0.1:1/jwks", "http://[::1]/jwks"] {
            assert_eq!(jwks_uri(issuer, &document(issuer, uri)).unwrap().as_str(), uri);
        }
    }

    #[test]
    fn the_metadata_uri_is_below_the_whole_issuer_name() {
        for issuer in ["https://issuer.example/realm", "https://issuer.example/realm/"] {
            let uri = metadata_uri(issuer).unwrap();
            assert_eq!(
                uri.as_str(),
                "https://issuer.example/realm/.well-known/openid-configuration"
            );
        }
        for issuer in ["kubernetes/serviceaccount", "http://issuer.example", "https://"] {
            assert!(metadata_uri(issuer).is_err(), "{issuer}");
        }
    }
}
