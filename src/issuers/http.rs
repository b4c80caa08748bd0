//! The one way out of this room: one GET, bounded in time and size, without redirects.

use std::{path::Path, time::Duration};

use http::{StatusCode, header::HeaderValue};
use tokio::time::{Instant, timeout_at};
use url::Url;

use super::file;
use crate::{
    outbound::{Authorities, Fault, HttpClient, Network, Profile, Request, TlsFault},
    ports::JwksError,
};

/// For one request, from its beginning to the end of the answer.
const TIMEOUT: Duration = Duration::from_secs(5);

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
    client: HttpClient,
    has_ca_file: bool,
}

impl Http {
    /// Trusts the authorities in `ca_file` alone, or those of the network.
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

    /// The body of a successful answer.
    pub(super) async fn get(
        &self,
        document: Document,
        uri: &Url,
        token: Option<&HeaderValue>,
    ) -> Result<Vec<u8>, JwksError> {
        let failed = |why: String| JwksError(format!("{uri}: {why}"));
        let fault = |fault: Fault| failed(not_answered(&fault, self.has_ca_file));
        let late = |_| fault(Fault::Timeout(TIMEOUT));
        let until = Instant::now() + TIMEOUT;
        let mut request = Request::get(uri.as_str(), document.accept());
        if let Some(token) = token {
            request = request.header("authorization", token.clone());
        }
        let response = timeout_at(until, self.client.begin(request)).await.map_err(late)?;
        let mut response = response.map_err(fault)?;
        if !response.status.is_success() {
            return Err(failed(of_status(response.status, token.is_some())));
        }
        let mut body = Vec::new();
        loop {
            let chunk = timeout_at(until, response.chunk()).await.map_err(late)?;
            let Some(chunk) = chunk.map_err(fault)? else { break };
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
        // The fault of a proxy says what to do by itself.
        Fault::Proxy { .. } | Fault::Status(_) | Fault::TooLarge(_) => "",
    };
    format!("{fault}{mend}")
}

/// An error page or a sign-in page in place of JSON.
fn is_html(body: &[u8]) -> bool {
    body.trim_ascii_start().starts_with(b"<")
}
