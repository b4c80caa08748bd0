//! Access to private functions for the fuzz targets in `fuzz/`. Compiled only with `--cfg fuzzing`, which is never set
//! for the program and its tests: `docs/development/fuzzing.md`.

use std::path::Path;

use std::time::Duration;

use jiff::Timestamp;
use secrecy::SecretString;
use zeroize::Zeroizing;

use crate::{
    access::{self, IssuerKeySet, IssuerRules},
    config::{Config, ConfigError, Loaded},
    crypto::{Keyring, KeyringError, TokenSignatures},
    domain::{
        AllowedApiHosts, ApiPath, AuditRow, ContextIdentifier, RefreshToken, TenantName,
        TenantStatus,
    },
    grpc, http, journal,
    listen::HttpVersion,
    ports::{
        AuditGroup, ExchangeError, IssuedTicket, SignError, Signer, UpstreamError, VerifiedAccess,
    },
    superoffice::{self, Expected, JwkSet, TokenResponse},
};

/// The public keys of a login host.
pub struct PublicKeys(JwkSet);

impl PublicKeys {
    /// Reads the body of a JWKS response.
    ///
    /// # Errors
    /// If no key in it can be used.
    pub fn read(body: &[u8]) -> Result<Self, UpstreamError> {
        JwkSet::read(body, Duration::ZERO).map(Self)
    }

    /// Returns whether there is a key for a token with this header.
    #[must_use]
    pub fn has(&self, kid: Option<&str>, x5t: Option<&str>) -> bool {
        self.0.find(kid, x5t).is_some()
    }

    /// Opens the response to a ticket request, without fetching keys.
    ///
    /// # Errors
    /// If the token is not for this tenant or not signed by one of the keys.
    pub fn open_ticket(
        &self,
        jwt: &SecretString,
        tenant: ContextIdentifier,
        now: Timestamp,
    ) -> Result<IssuedTicket, UpstreamError> {
        let header = superoffice::read_header(jwt)?;
        let key = self.0.signing_key(&header, jwt);
        let unknown = || UpstreamError::InvalidResponse("signed by an unknown key".to_owned());
        superoffice::validate_with_key(&key.ok_or_else(unknown)?, jwt, tenant, now)
    }

    /// Validates the response to a code exchange, except the refresh token, without fetching keys.
    ///
    /// # Errors
    /// If the response is invalid.
    pub fn open_access(
        &self,
        body: &[u8],
        issuer: &str,
        client_id: &str,
        nonce: &str,
        now: Timestamp,
    ) -> Result<VerifiedAccess, UpstreamError> {
        let response = TokenResponse::read(body)?;
        let header = superoffice::read_id_token_header(&response.id_token)?;
        let key = self.0.signing_key(&header, &response.id_token);
        let unknown = || UpstreamError::InvalidResponse("signed by an unknown key".to_owned());
        let expected = Expected { issuer, client_id, nonce: Some(nonce) };
        let key = key.ok_or_else(unknown)?;
        let identity = superoffice::validate_id_token(&key, &response.id_token, expected, now)?;
        response.into_access(identity)
    }
}

/// Returns the refresh token in the body of a success response, if there is one.
///
/// # Errors
/// If the body may hold a refresh token that cannot be read.
pub fn read_refresh_token(body: &[u8]) -> Result<Option<RefreshToken>, ExchangeError> {
    superoffice::new_refresh_token(body)
}

/// Reads the body of a tenant status.
///
/// # Errors
/// If it is invalid.
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
/// If the signer fails.
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
/// If it is not a valid keyring.
pub fn read_keyring(text: &str) -> Result<Keyring, KeyringError> {
    Keyring::parse(Path::new("keyring.toml"), text)
}

/// Checks the text of a configuration file; opens no file.
///
/// # Errors
/// With all problems.
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

    /// Returns the id of the caller that a token names, without fetching keys.
    ///
    /// # Errors
    /// If it is not a valid token of this issuer.
    pub fn caller_id(&self, token: &str, now: Timestamp) -> Result<String, String> {
        access::caller_id(&self.0, &self.1, &TokenSignatures, token, now).map_err(Into::into)
    }
}

/// Reads a segment of the audit journal. Returns `None` if it has no valid header.
///
/// # Errors
/// With a broken promise: an event does not encode to the bytes that it was read from, or the numbers do not grow.
pub fn read_segment(bytes: &[u8]) -> Result<Option<Vec<AuditRow>>, &'static str> {
    journal::probe::read_segment(bytes)
}

/// Returns a segment with these groups.
#[must_use]
pub fn make_segment(groups: &[AuditGroup]) -> Option<Vec<u8>> {
    journal::probe::make_segment(groups)
}

/// Makes the checksums of a segment right.
pub fn correct_checksums(bytes: &mut [u8]) {
    journal::probe::correct_checksums(bytes);
}

/// A `CheckRequest` of Envoy's external authorization.
pub struct ExtAuthzCheck {
    /// The caller that the client certificate of the request names.
    pub caller: Option<String>,
    /// The path as received.
    pub path: String,
    /// The tenant and the Web API path of that path.
    pub target: Option<(TenantName, ApiPath)>,
}

impl ExtAuthzCheck {
    /// Reads the encoded message.
    #[must_use]
    pub fn read(message: &[u8]) -> Option<Self> {
        let (caller, path, target) = grpc::read_check_request(message)?;
        Some(Self { caller, path, target })
    }
}

/// Compares the requests that hyper receives from a connection with and without the layer that reads request heads
/// first. The bytes arrive in chunks of `at_once`.
///
/// # Errors
/// If a request that needs no change differs, or if hyper itself answers an HTTP/1.1 request.
pub fn compare_heads(bytes: &[u8], at_once: usize, http2: bool) -> Result<(), String> {
    let protocol = if http2 { HttpVersion::Http2 } else { HttpVersion::Http1 };
    http::compare_heads(bytes, at_once, protocol)
}
