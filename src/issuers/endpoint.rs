//! Fetches the keys of an issuer over HTTP, from a configured URI or by discovery.

use std::path::PathBuf;

use async_trait::async_trait;
use http::header::HeaderValue;
use url::Url;

use super::{
    discovery::{jwks_uri, metadata_uri, parse_allowed_uri},
    http::{Document, Http, bearer},
};
use crate::{
    outbound::Network,
    ports::{JwksError, JwksSource},
};

/// The settings for fetching the keys of an issuer.
#[derive(Debug, Clone)]
pub struct IssuerEndpoint {
    /// The `iss` claim, where discovery begins.
    pub issuer: String,
    /// The URI of the keys, if configured.
    pub jwks_uri: Option<String>,
    /// PEM certificates of the only authorities that may sign the certificate of the issuer's host.
    pub ca_file: Option<PathBuf>,
    /// The file of the bearer token for the issuer's host.
    pub bearer_token_file: Option<PathBuf>,
}

/// Fetches an issuer's keys. Files are read at each fetch, because they may be replaced.
#[derive(Debug, Clone)]
pub struct KeyEndpoint {
    endpoint: IssuerEndpoint,
    network: Network,
}

impl KeyEndpoint {
    /// Creates the source without connecting.
    #[must_use]
    pub fn new(endpoint: IssuerEndpoint, network: Network) -> Self {
        Self { endpoint, network }
    }

    async fn fetch_discovered_keys(
        &self,
        http: &Http,
        token: Option<&HeaderValue>,
    ) -> Result<Vec<u8>, JwksError> {
        let issuer = metadata_uri(&self.endpoint.issuer)?;
        let metadata = http.get(Document::Discovery, &issuer, token).await?;
        let keys = jwks_uri(&self.endpoint.issuer, &metadata)?;
        // Another host gets the token only if the configured authorities have signed its certificate.
        let entitled = self.endpoint.ca_file.is_some() || keys.origin() == issuer.origin();
        http.get(Document::Keys, &keys, token.filter(|_| entitled)).await
    }
}

#[async_trait]
impl JwksSource for KeyEndpoint {
    async fn fetch(&self) -> Result<Vec<u8>, JwksError> {
        let http = Http::new(&self.network, self.endpoint.ca_file.as_deref()).await?;
        let token = match &self.endpoint.bearer_token_file {
            Some(path) => Some(bearer(path).await?),
            None => None,
        };
        match &self.endpoint.jwks_uri {
            Some(uri) => http.get(Document::Keys, &parse_jwks_uri(uri)?, token.as_ref()).await,
            None => self.fetch_discovered_keys(&http, token.as_ref()).await,
        }
    }

    fn is_local(&self) -> bool {
        false
    }
}

fn parse_jwks_uri(uri: &str) -> Result<Url, JwksError> {
    let why = "jwks_uri: must be an https:// URI (plain http:// only on a loopback host)";
    parse_allowed_uri(uri).ok_or_else(|| JwksError(why.to_owned()))
}

#[cfg(test)]
mod tests;
