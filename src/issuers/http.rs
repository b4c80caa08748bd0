//! The one way out of this room: one GET, bounded in time and size, without proxies and redirects.

use std::{error::Error, io, path::Path, time::Duration};

use reqwest::{Certificate, StatusCode, header::HeaderValue, redirect};
use url::Url;

use super::file;
use crate::ports::JwksError;

/// For one request, from its beginning to the end of the answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// More than this is no key set, and no discovery document.
const MAX_BODY_BYTES: usize = 256 * 1024;

/// The longest token that we send, in bytes.
const MAX_TOKEN_BYTES: usize = 64 * 1024;

/// Sends requests. Made anew for each fetch, so that it has the authorities that are in the file then.
pub(super) struct Http(reqwest::Client);

impl Http {
    /// Trusts the authorities in `ca_file` alone, or those of the machine.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place of this room where a client is made"
    )]
    pub(super) async fn new(ca_file: Option<&Path>) -> Result<Self, JwksError> {
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("tenant-gateway/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .no_proxy()
            .timeout(TIMEOUT);
        if let Some(path) = ca_file {
            let unusable = |what| JwksError(format!("ca_file: {}: {what}", path.display()));
            let pem = file::read("ca_file", path).await?;
            let authorities = Certificate::from_pem_bundle(&pem);
            let authorities = authorities.map_err(|_| unusable("is not PEM that can be read"))?;
            if authorities.is_empty() {
                return Err(unusable(
                    "has no certificate in it; it must be PEM (-----BEGIN CERTIFICATE-----)",
                ));
            }
            builder = builder.tls_certs_only(authorities);
        }
        builder.build().map(Self).map_err(|_| {
            JwksError("TLS cannot be set up; check the certificates in ca_file".to_owned())
        })
    }

    /// The body of a successful answer.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place of this room where requests are sent"
    )]
    pub(super) async fn get(
        &self,
        uri: &Url,
        token: Option<&HeaderValue>,
    ) -> Result<Vec<u8>, JwksError> {
        let failed = |why: String| JwksError(format!("{uri}: {why}"));
        let fault = |error: reqwest::Error| failed(words(&error));
        let mut request = self.0.get(uri.clone()).header("accept", "application/json");
        if let Some(token) = token {
            request = request.header("authorization", token);
        }
        let mut response = request.send().await.map_err(fault)?;
        if !response.status().is_success() {
            return Err(failed(of_status(response.status(), token.is_some())));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(fault)? {
            if body.len() + chunk.len() > MAX_BODY_BYTES {
                return Err(failed("more than 256 KiB came".to_owned()));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

/// `Bearer …` of the token in a file.
pub(super) async fn bearer(path: &Path) -> Result<HeaderValue, JwksError> {
    let unusable = |what| JwksError(format!("bearer_token_file: {}: {what}", path.display()));
    let bytes = file::read("bearer_token_file", path).await?;
    let token = bytes.trim_ascii();
    if token.is_empty() || token.len() > MAX_TOKEN_BYTES {
        return Err(unusable("is empty, or too long for a token"));
    }
    if !token.iter().all(u8::is_ascii_graphic) {
        return Err(unusable("holds more than one token of visible ASCII"));
    }
    let value = zeroize::Zeroizing::new([b"Bearer ", token].concat());
    let value = HeaderValue::from_bytes(&value);
    let mut value = value.map_err(|_| unusable("holds what cannot be sent"))?;
    value.set_sensitive(true);
    Ok(value)
}

fn of_status(status: StatusCode, token_sent: bool) -> String {
    let mend = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if token_sent => {
            "; the token in bearer_token_file may not read it (in Kubernetes the ClusterRole \
             system:service-account-issuer-discovery lets it)"
        }
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            "; it may want a token: set bearer_token_file (and ca_file, if it is on another host than the issuer)"
        }
        StatusCode::NOT_FOUND => "; check the URI",
        status if status.is_redirection() => {
            "; redirects are not followed: give the URI it leads to as jwks_uri"
        }
        _ => "",
    };
    format!("HTTP {status}{mend}")
}

/// In words of ours: libraries print what the other side said.
fn words(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return format!("no answer within {TIMEOUT:?}");
    }
    if !error.is_connect() {
        return "the connection broke".to_owned();
    }
    let causes = std::iter::successors(error.source(), |&cause| cause.source());
    let kinds = causes.filter_map(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind);
    match kinds.last() {
        // TLS tells its own failures in this way.
        None | Some(io::ErrorKind::InvalidData | io::ErrorKind::Other) => {
            "cannot connect; check its name, and that ca_file has the authority of its certificate"
                .to_owned()
        }
        Some(kind) => format!("cannot connect ({kind})"),
    }
}
