//! What an issuer says of itself (OpenID Connect Discovery 1.0, section 4; RFC 8414).

use serde::Deserialize;
use url::{Host, Url};

use crate::ports::JwksError;

#[derive(Deserialize)]
struct Metadata {
    issuer: String,
    jwks_uri: String,
}

/// Where an issuer says what it is (Discovery, 4): below the whole of its name, path included.
pub(super) fn metadata_uri(issuer: &str) -> Result<Url, JwksError> {
    let base = issuer.strip_suffix('/').unwrap_or(issuer);
    let uri =
        allowed(issuer).and_then(|_| allowed(&format!("{base}/.well-known/openid-configuration")));
    uri.ok_or_else(|| {
        JwksError(format!(
            "issuer {issuer}: is no https:// URI (or http:// on a loopback host), so its keys cannot be found by \
             discovery: give jwks_uri or jwks_file"
        ))
    })
}

/// Where the keys are, by the issuer's own words, if it is the right one (Discovery, 4.3).
pub(super) fn jwks_uri(issuer: &str, metadata: &[u8]) -> Result<Url, JwksError> {
    let refused = |why: &str| Err(JwksError(format!("discovery of {issuer}: {why}")));
    let Ok(metadata) = serde_json::from_slice::<Metadata>(metadata) else {
        return refused(
            "what came is no discovery document with `issuer` and `jwks_uri`: check the issuer's URI",
        );
    };
    if metadata.issuer != issuer {
        return refused(
            "the document there is of another issuer: write callers.jwt.issuer exactly as the document has it",
        );
    }
    match allowed(&metadata.jwks_uri) {
        Some(uri) => Ok(uri),
        None => refused(
            "its jwks_uri is no https:// URI (or http:// on a loopback host): give jwks_uri yourself",
        ),
    }
}

/// An absolute URI whose answer can be believed: https, or http that does not leave the machine.
pub(super) fn allowed(uri: &str) -> Option<Url> {
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
    fn only_the_issuers_own_document_with_a_safe_uri_is_believed() {
        let issuer = "https://issuer.example/realm";
        let document = |issuer: &str, uri: &str| {
            serde_json::json!({ "issuer": issuer, "jwks_uri": uri }).to_string().into_bytes()
        };
        for (metadata, why) in [
            (b"".to_vec(), "no discovery document"),
            (b"[]".to_vec(), "no discovery document"),
            (b"{\"issuer\":\"https://issuer.example/realm\"}".to_vec(), "no discovery document"),
            (
                document("https://issuer.example/realm/", "https://issuer.example/jwks"),
                "another issuer",
            ),
            (document("https://issuer.example", "https://issuer.example/jwks"), "another issuer"),
            (document(issuer, "http://issuer.example/jwks"), "jwks_uri is no https"),
            (document(issuer, "http://localhost.example/jwks"), "jwks_uri is no https"),
            (document(issuer, "file:///etc/passwd"), "jwks_uri is no https"),
            (document(issuer, "/jwks"), "jwks_uri is no https"),
            (document(issuer, "https://a:b@issuer.example/jwks"), "jwks_uri is no https"),
            (document(issuer, "https://issuer.example/\u{e4}"), "jwks_uri is no https"),
        ] {
            let error = jwks_uri(issuer, &metadata).unwrap_err();
            assert!(error.0.contains(why), "{error} is not {why}");
        }
        for uri in ["https://keys.example/jwks", "http://127.0.0.1:1/jwks", "http://[::1]/jwks"] {
            assert_eq!(jwks_uri(issuer, &document(issuer, uri)).unwrap().as_str(), uri);
        }
    }

    #[test]
    fn the_document_stands_below_the_whole_name_of_the_issuer() {
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
