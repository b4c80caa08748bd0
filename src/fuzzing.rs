//! What the targets in `fuzz/` reach that is private otherwise. Built with `--cfg fuzzing` only, which the product
//! and its tests never are: `docs/FUZZING.md`.

use std::path::Path;

use std::time::Duration;

use jiff::Timestamp;
use secrecy::SecretString;
use zeroize::Zeroizing;

use crate::{
    access::{self, IssuerKeySet, IssuerRules},
    config::{Config, ConfigError, Loaded},
    crypto::{Keyring, KeyringError, TokenSignatures},
    domain::{AllowedApiHosts, ApiPath, ContextIdentifier, RefreshToken, TenantName, TenantStatus},
    grpc, http,
    listen::Protocol,
    ports::{Access, ExchangeError, IssuedTicket, SignError, Signer, UpstreamError},
    superoffice::{self, Expected, Granted, Keys},
};

/// The public keys of a login service.
pub struct PublicKeys(Keys);

impl PublicKeys {
    /// Reads the body of a JWKS answer.
    ///
    /// # Errors
    /// If no key in it can be used.
    pub fn read(body: &[u8]) -> Result<Self, UpstreamError> {
        Keys::read(body, Duration::ZERO).map(Self)
    }

    /// Whether a token with this header has a key.
    #[must_use]
    pub fn has(&self, kid: Option<&str>, x5t: Option<&str>) -> bool {
        self.0.find(kid, x5t).is_some()
    }

    /// What an exchange does with its answer, without fetching keys.
    ///
    /// # Errors
    /// If the token is not one for this tenant, signed by one of the keys.
    pub fn open_ticket(
        &self,
        jwt: &SecretString,
        tenant: ContextIdentifier,
        now: Timestamp,
    ) -> Result<IssuedTicket, UpstreamError> {
        let header = superoffice::read_header(jwt)?;
        let key = self.0.signer(&header, jwt);
        let unknown = || UpstreamError::InvalidResponse("signed by an unknown key".to_owned());
        superoffice::open_with(&key.ok_or_else(unknown)?, jwt, tenant, now)
    }

    /// What an exchange of a code does with its answer beside the refresh token, without fetching keys.
    ///
    /// # Errors
    /// If it cannot be believed.
    pub fn open_access(
        &self,
        body: &[u8],
        issuer: &str,
        client_id: &str,
        nonce: &str,
        now: Timestamp,
    ) -> Result<Access, UpstreamError> {
        let granted = Granted::read(body)?;
        let header = superoffice::read_id_token_header(&granted.id_token)?;
        let key = self.0.signer(&header, &granted.id_token);
        let unknown = || UpstreamError::InvalidResponse("signed by an unknown key".to_owned());
        let expected = Expected { issuer, client_id, nonce: Some(nonce) };
        let key = key.ok_or_else(unknown)?;
        let identity = superoffice::open_id_token(&key, &granted.id_token, expected, now)?;
        granted.to(identity)
    }
}

/// The refresh token in the body of a success, if there is one.
///
/// # Errors
/// If there may be one that cannot be read.
pub fn read_refresh_token(body: &[u8]) -> Result<Option<RefreshToken>, ExchangeError> {
    superoffice::new_refresh_token(body)
}

/// Reads the body of a tenant status.
///
/// # Errors
/// If it cannot be believed.
pub fn read_status(
    body: &[u8],
    tenant: ContextIdentifier,
    allowed: &AllowedApiHosts,
    now: Timestamp,
) -> Result<TenantStatus, UpstreamError> {
    superoffice::read_status(body, tenant, allowed, now)
}

/// Signs a system user token for the minute of `now`.
///
/// # Errors
/// If the signer does not sign.
pub fn signed_token(
    signer: &dyn Signer,
    system_user_token: &SecretString,
    now: Timestamp,
) -> Result<Zeroizing<String>, SignError> {
    superoffice::signed_token(signer, system_user_token, now)
}

/// Reads the text of a keyring file.
///
/// # Errors
/// If it is not a keyring.
pub fn read_keyring(text: &str) -> Result<Keyring, KeyringError> {
    Keyring::parse(Path::new("keyring.toml"), text)
}

/// Checks the text of a configuration file; opens no file.
///
/// # Errors
/// With everything that is wrong.
pub fn read_config(text: &str) -> Result<Loaded, ConfigError> {
    Config::check(Path::new("gateway.toml"), text)
}

/// An issuer of callers' tokens, and its keys.
pub struct TokenIssuer(IssuerRules, IssuerKeySet);

impl TokenIssuer {
    /// Reads the key set of an issuer.
    ///
    /// # Errors
    /// If no key in it can be used.
    pub fn read(rules: IssuerRules, jwks: &[u8]) -> Result<Self, String> {
        IssuerKeySet::read(jwks, None, &rules.algorithms)
            .map(|keys| Self(rules, keys))
            .map_err(|e| e.to_string())
    }

    /// The id of the caller that a token names, without waiting for keys.
    ///
    /// # Errors
    /// If it is not a good token of this issuer.
    pub fn caller_id(&self, token: &str, now: Timestamp) -> Result<String, String> {
        access::caller_id(&self.0, &self.1, &TokenSignatures, token, now).map_err(Into::into)
    }
}

/// What a proxy tells of a request that it holds.
pub struct Question {
    /// Whom the certificate of the request's sender names.
    pub caller: Option<String>,
    /// The path as it came.
    pub path: String,
    /// Where that leads.
    pub target: Option<(TenantName, ApiPath)>,
}

impl Question {
    /// Reads the message of a question.
    #[must_use]
    pub fn read(message: &[u8]) -> Option<Self> {
        let (caller, path, target) = grpc::read_question(message)?;
        Some(Self { caller, path, target })
    }
}

/// Compares what hyper sees of a connection with and without the layer that reads heads before it. So many of the bytes
/// arrive at a time.
///
/// # Errors
/// If a request differs that needed no change, or hyper answers a request over HTTP/1.1 by itself.
pub fn compare_heads(bytes: &[u8], at_once: usize, http2: bool) -> Result<(), String> {
    let protocol = if http2 { Protocol::Http2 } else { Protocol::Http1 };
    http::compare_heads(bytes, at_once, protocol)
}
