//! The keys of an issuer by HTTP: at a known place, or where discovery leads.

use std::path::PathBuf;

use async_trait::async_trait;
use http::header::HeaderValue;
use url::Url;

use super::{
    discovery::{allowed, jwks_uri, metadata_uri},
    http::{Document, Http, bearer},
};
use crate::{
    outbound::Network,
    ports::{JwksError, JwksSource},
};

/// How an issuer is asked for its keys.
#[derive(Debug, Clone)]
pub struct IssuerEndpoint {
    /// The `iss` claim; discovery begins there.
    pub issuer: String,
    /// Where the keys are, if that is known.
    pub jwks_uri: Option<String>,
    /// PEM certificates of the only authorities that may sign the certificate of the issuer's host.
    pub ca_file: Option<PathBuf>,
    /// What to show there.
    pub bearer_token_file: Option<PathBuf>,
}

/// Fetches an issuer's keys. Files are read again at each fetch, because whoever wrote them replaces them.
#[derive(Debug, Clone)]
pub struct KeyEndpoint {
    endpoint: IssuerEndpoint,
    network: Network,
}

impl KeyEndpoint {
    /// Connects nothing yet.
    #[must_use]
    pub fn new(endpoint: IssuerEndpoint, network: Network) -> Self {
        Self { endpoint, network }
    }

    async fn discovered(
        &self,
        http: &Http,
        token: Option<&HeaderValue>,
    ) -> Result<Vec<u8>, JwksError> {
        let issuer = metadata_uri(&self.endpoint.issuer)?;
        let metadata = http.get(Document::Discovery, &issuer, token).await?;
        let keys = jwks_uri(&self.endpoint.issuer, &metadata)?;
        // Another host is not the issuer: it gets the token only where it proves itself to the same authorities.
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
            Some(uri) => http.get(Document::Keys, &known(uri)?, token.as_ref()).await,
            None => self.discovered(&http, token.as_ref()).await,
        }
    }

    fn is_local(&self) -> bool {
        false
    }
}

fn known(uri: &str) -> Result<Url, JwksError> {
    let why = "jwks_uri: must be an https:// URI (plain http:// only on a loopback host)";
    allowed(uri).ok_or_else(|| JwksError(why.to_owned()))
}

#[cfg(test)]
mod tests;
