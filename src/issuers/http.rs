//! The one way out of this room: one GET, bounded in time and size, without proxies and redirects.

use std::{path::Path, sync::Arc, time::Duration};

use reqwest::{Certificate, StatusCode, header::HeaderValue, redirect};
use url::Url;

use super::file;
use crate::{
    outbound::{Fault, SystemAddresses, TlsFault},
    ports::JwksError,
};

/// For one request, from its beginning to the end of the answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// For its connection, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// More than this is no key set, and no discovery document.
const MAX_BODY_BYTES: usize = 256 * 1024;

/// The longest token that we send, in bytes.
const MAX_TOKEN_BYTES: usize = 64 * 1024;

/// The document that a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Document {
    /// A discovery document.
    Discovery,
    /// A JSON Web Key Set.
    Keys,
}

impl Document {
    /// The media types that the document may have. RFC 7517 section 8.5 registers one for key sets, and the API server of
    /// Kubernetes answers 406 to a request that does not accept it; many issuers use plain JSON instead, and some
    /// neither.
    fn accept(self) -> &'static str {
        match self {
            Self::Discovery => "application/json, */*;q=0.1",
            Self::Keys => "application/jwk-set+json, application/json, */*;q=0.1",
        }
    }
}

/// Sends requests. Made anew for each fetch, so that it has the authorities that are in the file then.
pub(super) struct Http {
    client: reqwest::Client,
    has_ca_file: bool,
}

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
            .dns_resolver(Arc::new(SystemAddresses))
            .connect_timeout(CONNECT_TIMEOUT)
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
        let client = builder.build().map_err(|_| {
            JwksError("TLS cannot be set up; check the certificates in ca_file".to_owned())
        })?;
        Ok(Self { client, has_ca_file: ca_file.is_some() })
    }

    /// The body of a successful answer.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place of this room where requests are sent"
    )]
    pub(super) async fn get(
        &self,
        document: Document,
        uri: &Url,
        token: Option<&HeaderValue>,
    ) -> Result<Vec<u8>, JwksError> {
        let failed = |why: String| JwksError(format!("{uri}: {why}"));
        let fault = |error: reqwest::Error| {
            failed(not_answered(&Fault::new(&error, TIMEOUT), self.has_ca_file))
        };
        let mut request = self.client.get(uri.clone()).header("accept", document.accept());
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
        if is_html(&body) {
            return Err(failed(
                "HTML came instead of JSON; something else answers there, such as a proxy or a sign-in page: check the URI"
                    .to_owned(),
            ));
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
        StatusCode::NOT_ACCEPTABLE => {
            "; the host offers no media type for JSON there: check the URI"
        }
        status if status.is_redirection() => {
            "; redirects are not followed: give the URI it leads to as jwks_uri"
        }
        _ => "",
    };
    format!("HTTP {status}{mend}")
}

/// Why no answer came, and what to do about it. Libraries print what the other side sent; this does not.
fn not_answered(fault: &Fault, has_ca_file: bool) -> String {
    let mend = match fault {
        Fault::Name(_) => {
            "; correct the host in the URI, or let this machine ask a name server that knows it"
        }
        Fault::Connect(_) | Fault::Unreached => {
            "; see whether the host runs, and whether firewall and network policy let this machine connect to it"
        }
        Fault::Tls(TlsFault::UnknownAuthority | TlsFault::BadSignature) if has_ca_file => {
            "; ca_file must have the certificate of the authority that signed it"
        }
        Fault::Tls(TlsFault::UnknownAuthority | TlsFault::BadSignature) => {
            "; set ca_file to the certificate of the authority that signed it"
        }
        Fault::Tls(TlsFault::AuthorityAsServer) => {
            "; let the host show a certificate of its own that the authority has signed, and put the authority into ca_file"
        }
        Fault::Tls(TlsFault::Expired) => "; renew it, or correct the clock of this machine",
        Fault::Tls(TlsFault::NotValidYet) => {
            "; correct the clock of this machine, or of its authority"
        }
        Fault::Tls(TlsFault::OtherName) => {
            "; write the host in the URI as the certificate has it, or issue one for this name"
        }
        Fault::Tls(TlsFault::NoTls) => "; correct the port in the URI",
        Fault::Tls(_) => "; correct the certificate or the TLS versions of the host",
        Fault::Timeout(_) | Fault::NotProcessed | Fault::Broken(_) => {
            "; see whether the host is overloaded or restarts"
        }
        Fault::Status(_) | Fault::TooLarge(_) => "",
    };
    format!("{fault}{mend}")
}

/// An error page or a sign-in page in place of JSON.
fn is_html(body: &[u8]) -> bool {
    body.trim_ascii_start().starts_with(b"<")
}
