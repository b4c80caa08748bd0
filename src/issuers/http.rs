//! The HTTP client of issuers: one GET with limits of time and size, without redirects.

use std::{path::Path, time::Duration};

use http::{StatusCode, header::HeaderValue};
use tokio::time::{Instant, timeout_at};
use url::Url;

use super::file;
use crate::{
    outbound::{Authorities, Fault, HttpClient, Network, Profile, Request, TlsFault},
    ports::JwksError,
};

/// The time limit for one request, including the whole response.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The maximum size of a key set or a discovery document.
const MAX_BODY_BYTES: usize = 256 * 1024;

/// The maximum length of the bearer token, in bytes.
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
    /// Returns the accepted media types. RFC 7517 section 8.5 registers one for key sets, and the Kubernetes API server
    /// answers 406 to a request that does not accept it. Many issuers use plain JSON instead, and some neither.
    fn accept(self) -> &'static str {
        match self {
            Self::Discovery => "application/json, */*;q=0.1",
            Self::Keys => "application/jwk-set+json, application/json, */*;q=0.1",
        }
    }
}

/// Sends requests. Created for each fetch, so that it uses the current content of the CA file.
pub(super) struct Http {
    client: HttpClient,
    has_ca_file: bool,
}

impl Http {
    /// Trusts only the authorities in `ca_file`, or those of the network if there is no `ca_file`.
    pub(super) async fn new(network: &Network, ca_file: Option<&Path>) -> Result<Self, JwksError> {
        let profile = Profile::issuer();
        let Some(path) = ca_file else {
            return Ok(Self { client: network.client(profile), has_ca_file: false });
        };
        let pem = file::read("ca_file", path).await?;
        let unusable = |what| JwksError(format!("ca_file: {}: {what}", path.display()));
        let authorities =
            Authorities::from_pem(&pem).map_err(|error| unusable(error.to_string()))?;
        let client = network.client_trusting(profile, authorities);
        let client = client.map_err(|error| unusable(error.to_string()))?;
        Ok(Self { client, has_ca_file: true })
    }

    /// Returns the body of a successful response.
    pub(super) async fn get(
        &self,
        document: Document,
        uri: &Url,
        token: Option<&HeaderValue>,
    ) -> Result<Vec<u8>, JwksError> {
        let failed = |why: String| JwksError(format!("{uri}: {why}"));
        let fault = |fault: Fault| failed(fault_message(&fault, self.has_ca_file));
        let timed_out = |_| fault(Fault::Timeout(TIMEOUT));
        let until = Instant::now() + TIMEOUT;
        let mut request = Request::get(uri.as_str(), document.accept());
        if let Some(token) = token {
            request = request.header("authorization", token.clone());
        }
        let response = timeout_at(until, self.client.send(request)).await.map_err(timed_out)?;
        let mut response = response.map_err(fault)?;
        if !response.status.is_success() {
            return Err(failed(status_error(response.status, token.is_some())));
        }
        let mut body = Vec::new();
        loop {
            let chunk = timeout_at(until, response.chunk()).await.map_err(timed_out)?;
            let Some(chunk) = chunk.map_err(fault)? else { break };
            if body.len() + chunk.len() > MAX_BODY_BYTES {
                return Err(failed("the response is larger than 256 KiB".to_owned()));
            }
            body.extend_from_slice(&chunk);
        }
        if is_html(&body) {
            return Err(failed(
                "the response is HTML instead of JSON, perhaps from a proxy or a sign-in page: check the URI"
                    .to_owned(),
            ));
        }
        Ok(body)
    }
}

/// Returns `Bearer …` with the token in a file.
pub(super) async fn bearer(path: &Path) -> Result<HeaderValue, JwksError> {
    let unusable = |what| JwksError(format!("bearer_token_file: {}: {what}", path.display()));
    let bytes = file::read("bearer_token_file", path).await?;
    let token = bytes.trim_ascii();
    if token.is_empty() || token.len() > MAX_TOKEN_BYTES {
        return Err(unusable("is empty, or longer than 64 KiB"));
    }
    if !token.iter().all(u8::is_ascii_graphic) {
        return Err(unusable("must contain a single token of visible ASCII characters"));
    }
    let value = zeroize::Zeroizing::new([b"Bearer ", token].concat());
    let value = HeaderValue::from_bytes(&value);
    let mut value =
        value.map_err(|_| unusable("contains characters that a header cannot carry"))?;
    value.set_sensitive(true);
    Ok(value)
}

fn status_error(status: StatusCode, token_sent: bool) -> String {
    let advice = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if token_sent => {
            "; the token in bearer_token_file has no permission to read it (in Kubernetes bind the ClusterRole \
             system:service-account-issuer-discovery)"
        }
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            "; it may require a token: set bearer_token_file (and ca_file, if its host is not the issuer's)"
        }
        StatusCode::NOT_FOUND => "; check the URI",
        StatusCode::NOT_ACCEPTABLE => {
            "; the host offers no media type for JSON there: check the URI"
        }
        status if status.is_redirection() => {
            "; redirects are not followed: set jwks_uri to the final URI"
        }
        _ => "",
    };
    format!("HTTP {status}{advice}")
}

/// Describes a fault and what to do. Libraries print data from the other side; this does not.
fn fault_message(fault: &Fault, has_ca_file: bool) -> String {
    let advice = match fault {
        Fault::Name(_) => {
            "; correct the host in the URI, or configure this machine to use a name server that knows it"
        }
        Fault::Connect(_) | Fault::ConnectTimeout => {
            "; check whether the host runs, and whether a firewall or network policy blocks this machine"
        }
        Fault::Tls(TlsFault::UnknownAuthority | TlsFault::BadSignature) if has_ca_file => {
            "; ca_file must contain the certificate of the CA that signed it"
        }
        Fault::Tls(TlsFault::UnknownAuthority | TlsFault::BadSignature) => {
            "; set ca_file to the certificate of the CA that signed it"
        }
        Fault::Tls(TlsFault::AuthorityAsServer) => {
            "; configure the host to use its own certificate, signed by the CA, and put the CA into ca_file"
        }
        Fault::Tls(TlsFault::Expired) => "; renew it, or correct the clock of this machine",
        Fault::Tls(TlsFault::NotValidYet) => "; correct the clock of this machine, or of the CA",
        Fault::Tls(TlsFault::OtherName) => {
            "; write the host in the URI as in the certificate, or issue a certificate for this name"
        }
        Fault::Tls(TlsFault::NoTls) => "; correct the port in the URI",
        Fault::Tls(_) => "; correct the certificate or the TLS versions of the host",
        Fault::Timeout(_) | Fault::NotProcessed | Fault::Broken(_) => {
            "; check whether the host is overloaded or restarting"
        }
        // The text of a proxy fault already says what to do.
        Fault::Proxy { .. } | Fault::Status(_) | Fault::TooLarge(_) => "",
    };
    format!("{fault}{advice}")
}

/// Returns whether the body is HTML, such as an error page or a sign-in page.
fn is_html(body: &[u8]) -> bool {
    body.trim_ascii_start().starts_with(b"<")
}
