//! Authentication of callers by signed tokens and client certificates.
//!
//! A token names the caller by prefix and subject, a certificate by its one name. If both are presented, both must be
//! valid, and the token names the caller. Verified tokens are cached by a keyed digest, so that no signature is
//! verified twice on the hot path. This module does no I/O: keys come through [`IssuerKeys`].

mod bearer;
mod certificate;
mod certificate_name;
mod certificate_rules;
mod forwarded;
mod issuer_keys;
mod issuer_rules;
mod key_set;
mod token;
mod verify;

use std::{fmt, net::IpAddr, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use quick_cache::sync::Cache;

#[cfg(fuzzing)]
pub(crate) use self::key_set::KeySet as IssuerKeySet;
pub use self::{
    bearer::Bearer,
    certificate::PeerCertificate,
    certificate_name::CertificateProblem,
    certificate_rules::{CertificateRules, NameKind, NamePattern},
    issuer_keys::{InspectedKeys, IssuerKeys, NoUsableKeys},
    issuer_rules::IssuerRules,
};
use self::{
    issuer_keys::KeysUnavailable, issuer_rules::check_not_reserved, token::UnverifiedToken,
};
use super::{
    authorized::AccessError,
    caller::{Caller, CallerMethod},
};
use crate::ports::{Digest, PresentedCertificate, SignatureVerifier};

/// Maximum number of cached verified tokens, about 300 bytes each: more than a fleet has callers. With more tokens than
/// that, some signatures are verified again.
const MAX_CACHED_TOKENS: usize = 65_536;

/// Time after which a cached token is verified again.
const TOKEN_CACHE_TTL: SignedDuration = SignedDuration::from_mins(10);

/// The credentials that a call presents.
#[derive(Debug, Clone, Copy)]
pub struct PresentedCredentials<'a> {
    /// The token in the metadata.
    pub bearer: Bearer<'a>,
    /// The certificate of the connection, verified by TLS, with the result of reading it.
    pub certificate: Option<&'a Result<PeerCertificate, CertificateProblem>>,
}

/// The reason why a caller cannot be authenticated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuthenticationError {
    /// The credential is missing or invalid. The text says why, for the log, and repeats nothing of the credential.
    Refused(String),
    /// The certificate of the connection is no longer trusted.
    CertificateNotTrusted,
    /// The token cannot be verified now, because the issuer's keys are unavailable.
    KeysUnavailable {
        /// The cause, for the log.
        cause: String,
        /// The time to wait before the next attempt.
        retry_after: Duration,
        /// Whether other keys of the issuer are known, so that only the key of this token is missing.
        has_other_keys: bool,
    },
}

impl From<&str> for AuthenticationError {
    fn from(why: &str) -> Self {
        Self::Refused(why.to_owned())
    }
}

impl From<KeysUnavailable> for AuthenticationError {
    fn from(KeysUnavailable { cause, retry_after, has_other_keys }: KeysUnavailable) -> Self {
        Self::KeysUnavailable { cause, retry_after, has_other_keys }
    }
}

/// Authenticates callers.
pub struct Authenticator {
    issuers: Vec<Issuer>,
    mtls: Option<CertificateRules>,
    signatures: Arc<dyn SignatureVerifier>,
    digest: Arc<dyn Digest>,
    token_cache: Cache<[u8; 32], CachedToken>,
}

struct Issuer {
    rules: IssuerRules,
    name: Arc<str>,
    keys: Arc<IssuerKeys>,
}

/// A verified token in the cache.
#[derive(Clone)]
struct CachedToken {
    /// The caller that the token names, without the certificate.
    caller: Caller,
    /// The index of its issuer in `issuers`.
    issuer: usize,
    /// The time from which the token is verified again.
    until: Timestamp,
}

impl Authenticator {
    /// Creates an authenticator. `mtls` says how client certificates name callers; `None` ignores certificates. The
    /// configuration ensures that no caller prefix begins with another, and that no token is accepted by two entries of
    /// one issuer.
    #[must_use]
    pub fn new(
        jwt: Vec<(IssuerRules, Arc<IssuerKeys>)>,
        mtls: Option<CertificateRules>,
        signatures: Arc<dyn SignatureVerifier>,
        digest: Arc<dyn Digest>,
    ) -> Self {
        let issuer = |(rules, keys): (IssuerRules, _)| Issuer {
            name: rules.issuer.as_str().into(),
            rules,
            keys,
        };
        let issuers = jwt.into_iter().map(issuer).collect();
        Self { issuers, mtls, signatures, digest, token_cache: Cache::new(MAX_CACHED_TOKENS) }
    }

    /// Returns the caller if no signature has to be verified: its token is cached and still valid, or the call has only
    /// a certificate. `None` does not mean that the credentials are invalid.
    #[must_use]
    pub fn cached(&self, presented: &PresentedCredentials<'_>, now: Timestamp) -> Option<Caller> {
        let certificate = self.certificate(presented, now).ok()?;
        match presented.bearer {
            Bearer::Absent => certificate.map(|certificate| certificate.caller().clone()),
            Bearer::Token(token) => {
                let key = self.digest.digest(token.as_bytes());
                let CachedToken { caller, issuer, until } = self.token_cache.get(&key)?;
                let issuer = self.issuers.get(issuer)?;
                let still = now < until && issuer.key_is_published(&caller, now);
                still.then(|| with_certificate(caller, certificate))
            }
            Bearer::Unusable(_) => None,
        }
    }

    /// Authenticates the caller. Waits only if the keys to verify the token are not known yet; the number of waiting
    /// calls `from` one address is limited.
    ///
    /// # Errors
    /// Returns an error if the presented credentials authenticate no caller.
    pub async fn authenticate(
        &self,
        presented: &PresentedCredentials<'_>,
        from: IpAddr,
        now: Timestamp,
    ) -> Result<Caller, AuthenticationError> {
        if let Some(caller) = self.cached(presented, now) {
            return Ok(caller);
        }
        let certificate = self.certificate(presented, now)?;
        match presented.bearer {
            Bearer::Unusable(why) => Err(why.into()),
            Bearer::Absent => match certificate {
                Some(certificate) => Ok(certificate.caller().clone()),
                None if self.mtls.is_some() => {
                    Err("the call has no token and no client certificate".into())
                }
                None => Err("the call has no token".into()),
            },
            Bearer::Token(token) => {
                let caller = self.verify(token, from, now).await?;
                Ok(with_certificate(caller, certificate))
            }
        }
    }

    /// Reads the certificate of a connection.
    ///
    /// # Errors
    /// Returns an error if the certificate does not name exactly one caller.
    pub fn read_certificate(
        &self,
        shown: Arc<dyn PresentedCertificate>,
    ) -> Result<PeerCertificate, CertificateProblem> {
        PeerCertificate::from_connection(shown, &self.mtls.clone().unwrap_or_default())
    }

    /// Reads the client certificate that a proxy reports for its peer.
    ///
    /// # Errors
    /// See [`PeerCertificate::forwarded`].
    pub fn forwarded_certificate(
        &self,
        name: &str,
        pem: &str,
    ) -> Result<Option<PeerCertificate>, CertificateProblem> {
        PeerCertificate::forwarded(name, pem, &self.mtls.clone().unwrap_or_default())
    }

    /// Checks whether a caller's credential is still valid. Streams check it before each message.
    ///
    /// # Errors
    /// Returns an error if the credential has expired, its key was withdrawn, or its certificate is no longer trusted.
    pub fn check_still_valid(&self, caller: &Caller, now: Timestamp) -> Result<(), AccessError> {
        let identity = caller.identity();
        let lives = match identity.method {
            CallerMethod::Jwt => {
                let own = |issuer: &Issuer| Some(&*issuer.name) == caller.issuer();
                self.issuers
                    .iter()
                    .any(|issuer| own(issuer) && issuer.key_is_published(caller, now))
            }
            CallerMethod::Anonymous | CallerMethod::CommandLine | CallerMethod::Mtls => true,
        };
        if !lives || identity.valid_until.is_some_and(|until| until <= now) {
            return Err(AccessError::CredentialExpired);
        }
        if identity.connection_certificate.as_ref().is_some_and(|shown| !shown.is_trusted(now)) {
            return Err(AccessError::CertificateNotTrusted);
        }
        Ok(())
    }

    /// Returns a digest of the caller that a token claims to be. Does not verify the token.
    #[must_use]
    pub(super) fn claimed_caller(&self, presented: &PresentedCredentials<'_>) -> Option<[u8; 32]> {
        let Bearer::Token(text) = presented.bearer else { return None };
        let token = UnverifiedToken::read(text).ok()?;
        let known = self.issuers.iter().any(|issuer| issuer.rules.issuer == token.claims.iss);
        known.then(|| self.digest.digest(&token.claims.claimed_identity()))
    }

    /// Returns the client certificate, if the call has one and certificates are configured. An invalid certificate is
    /// an error; it is not ignored.
    fn certificate<'a>(
        &self,
        presented: &PresentedCredentials<'a>,
        now: Timestamp,
    ) -> Result<Option<&'a PeerCertificate>, AuthenticationError> {
        let Some(certificate) = presented.certificate.filter(|_| self.mtls.is_some()) else {
            return Ok(None);
        };
        let refused =
            |problem: &CertificateProblem| AuthenticationError::Refused(problem.to_string());
        let certificate = certificate.as_ref().map_err(refused)?;
        if !certificate.is_valid(now) {
            return Err(
                "the client certificate is not valid now; renew it and connect again".into()
            );
        }
        if !certificate.is_trusted(now) {
            return Err(AuthenticationError::CertificateNotTrusted);
        }
        let prefixes = self.issuers.iter().map(|issuer| issuer.rules.caller_prefix.as_str());
        check_not_reserved(certificate.id(), prefixes).map_err(|why| {
            AuthenticationError::Refused(format!("the client certificate: {why}"))
        })?;
        Ok(Some(certificate))
    }
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let issuers: Vec<_> = self.issuers.iter().map(|issuer| &issuer.rules).collect();
        f.debug_struct("Authenticator")
            .field("issuers", &issuers)
            .field("mtls", &self.mtls)
            .finish_non_exhaustive()
    }
}

impl Issuer {
    /// Returns whether the issuer still publishes the key that signed the caller's token.
    fn key_is_published(&self, caller: &Caller, now: Timestamp) -> bool {
        let usable = self.keys.usable(now);
        usable.keys().zip(caller.identity().key).is_some_and(|(keys, number)| keys.contains(number))
    }
}

/// Returns the caller id of a token, without the cache and without waiting for keys.
#[cfg(fuzzing)]
pub(crate) fn caller_id(
    rules: &IssuerRules,
    keys: &IssuerKeySet,
    signatures: &dyn SignatureVerifier,
    token: &str,
    now: Timestamp,
) -> Result<String, std::borrow::Cow<'static, str>> {
    let token = UnverifiedToken::read(token)?;
    let id = rules.caller_id(&token.claims.check(rules, now)?.subject, &[])?;
    keys.signed_by(&token, signatures).map(|_| id).map_err(key_set::SignatureError::why)
}

fn later(time: Timestamp, by: SignedDuration) -> Timestamp {
    time.saturating_add(by).unwrap_or(Timestamp::MAX)
}

/// Adds the certificate that was presented together with the token to the caller.
fn with_certificate(caller: Caller, certificate: Option<&PeerCertificate>) -> Caller {
    let Some(certificate) = certificate else { return caller };
    let mut identity = caller.identity().clone();
    identity.certificate = Some(certificate.id().into());
    identity.valid_until = identity.valid_until.map(|until| until.min(certificate.end()));
    identity.connection_certificate = certificate.connection_certificate().cloned();
    Caller::from_identity(identity)
}

#[cfg(test)]
mod tests;
