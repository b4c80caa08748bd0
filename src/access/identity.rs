//! Who is calling: signed tokens and client certificates (CONTRACT section 5, last paragraph; DESIGN rules 9, 10).
//!
//! A token names its caller by prefix and subject, a certificate by its one name; where both are shown both must be
//! good, and the token names the caller. Verified tokens are remembered by a keyed digest, so that the hot path
//! verifies no signature twice. Nothing here reads or sends: keys come through [`IssuerKeys`].

mod bearer;
mod certificate;
mod certificate_rules;
mod issuer_keys;
mod key_set;
mod reported;
mod rules;
mod token;
mod verify;
mod waiting;

use std::{fmt, net::IpAddr, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use quick_cache::sync::Cache;

#[cfg(fuzzing)]
pub(crate) use self::key_set::KeySet as IssuerKeySet;
pub use self::{
    bearer::Bearer,
    certificate::{CertificateProblem, PeerCertificate},
    certificate_rules::{CertificateRules, NameKind, NamePattern},
    issuer_keys::{InspectedKeys, IssuerKeys, NoKeys},
    rules::IssuerRules,
};
use self::{issuer_keys::Unavailable, rules::not_taken, token::Unverified};
use super::{
    caller::{Caller, CallerMethod},
    witness::Refused,
};
use crate::ports::{Digest, ShownCertificate, SignatureVerifier};

/// Verified tokens that are remembered: about 300 bytes each, and more than a fleet has callers. Who sends more
/// different ones pays with signatures that are verified again.
const MAX_REMEMBERED: usize = 65_536;

/// A token is verified again after this (DESIGN rule 6.10).
const REMEMBERED_FOR: SignedDuration = SignedDuration::from_mins(10);

/// What a call shows of its caller.
#[derive(Debug, Clone, Copy)]
pub struct Presented<'a> {
    /// In its metadata.
    pub bearer: Bearer<'a>,
    /// Of its connection: the certificate that TLS has verified, as it was read.
    pub certificate: Option<&'a Result<PeerCertificate, CertificateProblem>>,
}

/// Nobody can be named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unidentified {
    /// There is no credential, or one that is not good: why, for the log. Repeats nothing of it.
    Refused(String),
    /// The certificate of the connection is no longer trusted.
    Distrusted,
    /// Whether the token is good cannot be told now.
    KeysUnavailable {
        /// Why, for the log.
        cause: String,
        /// Asking sooner does not help.
        retry_after: Duration,
        /// Whether the issuer has keys that are known: then it is the one of this token that is not.
        others_known: bool,
    },
}

impl From<&str> for Unidentified {
    fn from(why: &str) -> Self {
        Self::Refused(why.to_owned())
    }
}

impl From<Unavailable> for Unidentified {
    fn from(Unavailable { cause, retry_after, others_known }: Unavailable) -> Self {
        Self::KeysUnavailable { cause, retry_after, others_known }
    }
}

/// Tells who is calling.
pub struct Identification {
    issuers: Vec<Issuer>,
    mtls: Option<CertificateRules>,
    signatures: Arc<dyn SignatureVerifier>,
    digest: Arc<dyn Digest>,
    remembered: Cache<[u8; 32], Remembered>,
}

struct Issuer {
    rules: IssuerRules,
    name: Arc<str>,
    keys: Arc<IssuerKeys>,
}

/// A token that was verified.
#[derive(Clone)]
struct Remembered {
    /// As the token alone names it.
    caller: Caller,
    /// The place of its issuer in the list.
    issuer: usize,
    /// From then on it is verified again.
    until: Timestamp,
}

impl Identification {
    /// `mtls`: how client certificates name callers, if they do. Configuration sees to it that no prefix begins with
    /// another, and that no token is meant for two entries of one issuer.
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
        Self { issuers, mtls, signatures, digest, remembered: Cache::new(MAX_REMEMBERED) }
    }

    /// The caller, if that can be told without verifying a signature: its token was verified a short while ago and
    /// is still good, or it has a certificate alone. `None` says nothing.
    #[must_use]
    pub fn remembered(&self, presented: &Presented<'_>, now: Timestamp) -> Option<Caller> {
        let certificate = self.certificate(presented, now).ok()?;
        match presented.bearer {
            Bearer::Absent => certificate.map(|certificate| certificate.caller().clone()),
            Bearer::Token(token) => {
                let key = self.digest.digest(token.as_bytes());
                let Remembered { caller, issuer, until } = self.remembered.get(&key)?;
                let issuer = self.issuers.get(issuer)?;
                let still = now < until && issuer.key_lives(&caller, now);
                still.then(|| with_certificate(caller, certificate))
            }
            Bearer::Unusable(_) => None,
        }
    }

    /// Who is calling. Waits only where the keys to tell are not known yet, and of those who call `from` one address
    /// only some.
    ///
    /// # Errors
    /// If nobody can be named by what is presented.
    pub async fn identify(
        &self,
        presented: &Presented<'_>,
        from: IpAddr,
        now: Timestamp,
    ) -> Result<Caller, Unidentified> {
        if let Some(caller) = self.remembered(presented, now) {
            return Ok(caller);
        }
        let certificate = self.certificate(presented, now)?;
        match presented.bearer {
            Bearer::Unusable(why) => Err(why.into()),
            Bearer::Absent => match certificate {
                Some(certificate) => Ok(certificate.caller().clone()),
                None if self.mtls.is_some() => {
                    Err("it shows no token and no client certificate".into())
                }
                None => Err("it shows no token".into()),
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
    /// If it does not name exactly one caller.
    pub fn read_certificate(
        &self,
        shown: Arc<dyn ShownCertificate>,
    ) -> Result<PeerCertificate, CertificateProblem> {
        PeerCertificate::shown(shown, &self.mtls.clone().unwrap_or_default())
    }

    /// Reads what a proxy tells of the certificate of its peer.
    ///
    /// # Errors
    /// As [`PeerCertificate::reported`].
    pub fn reported_certificate(
        &self,
        name: &str,
        pem: &str,
    ) -> Result<Option<PeerCertificate>, CertificateProblem> {
        PeerCertificate::reported(name, pem, &self.mtls.clone().unwrap_or_default())
    }

    /// Checks whether what a caller proved still holds: for streams, before each message.
    ///
    /// # Errors
    /// If its credential has expired, its key was withdrawn, or its certificate is no longer trusted.
    pub fn check_still_holds(&self, caller: &Caller, now: Timestamp) -> Result<(), Refused> {
        let identity = caller.identity();
        let lives = match identity.method {
            CallerMethod::Jwt => {
                let own = |issuer: &Issuer| Some(&*issuer.name) == caller.issuer();
                self.issuers.iter().any(|issuer| own(issuer) && issuer.key_lives(caller, now))
            }
            CallerMethod::Anonymous | CallerMethod::CommandLine | CallerMethod::Mtls => true,
        };
        if !lives || identity.valid_until.is_some_and(|until| until <= now) {
            return Err(Refused::Expired);
        }
        if identity.shown.as_ref().is_some_and(|shown| !shown.is_trusted(now)) {
            return Err(Refused::Distrusted);
        }
        Ok(())
    }

    /// The caller that a token claims to be, by a digest. Nothing is verified.
    #[must_use]
    pub(super) fn claimed(&self, presented: &Presented<'_>) -> Option<[u8; 32]> {
        let Bearer::Token(text) = presented.bearer else { return None };
        let token = Unverified::read(text).ok()?;
        let known = self.issuers.iter().any(|issuer| issuer.rules.issuer == token.claims.iss);
        known.then(|| self.digest.digest(&token.claims.claimed()))
    }

    /// The certificate that counts, if there is one. One that is not good is not as none.
    fn certificate<'a>(
        &self,
        presented: &Presented<'a>,
        now: Timestamp,
    ) -> Result<Option<&'a PeerCertificate>, Unidentified> {
        let Some(certificate) = presented.certificate.filter(|_| self.mtls.is_some()) else {
            return Ok(None);
        };
        let refused = |problem: &CertificateProblem| Unidentified::Refused(problem.to_string());
        let certificate = certificate.as_ref().map_err(refused)?;
        if !certificate.is_valid(now) {
            return Err(
                "the client certificate is not valid now; renew it and connect again".into()
            );
        }
        if !certificate.is_trusted(now) {
            return Err(Unidentified::Distrusted);
        }
        let prefixes = self.issuers.iter().map(|issuer| issuer.rules.caller_prefix.as_str());
        not_taken(certificate.id(), prefixes)
            .map_err(|why| Unidentified::Refused(format!("the client certificate: {why}")))?;
        Ok(Some(certificate))
    }
}

impl fmt::Debug for Identification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let issuers: Vec<_> = self.issuers.iter().map(|issuer| &issuer.rules).collect();
        f.debug_struct("Identification")
            .field("issuers", &issuers)
            .field("mtls", &self.mtls)
            .finish_non_exhaustive()
    }
}

impl Issuer {
    /// Returns whether the key that signed the caller's token is still published.
    fn key_lives(&self, caller: &Caller, now: Timestamp) -> bool {
        let usable = self.keys.usable(now);
        usable.keys().zip(caller.identity().key).is_some_and(|(keys, number)| keys.contains(number))
    }
}

/// What a token is put through, without memory and without waiting.
#[cfg(fuzzing)]
pub(crate) fn caller_id(
    rules: &IssuerRules,
    keys: &IssuerKeySet,
    signatures: &dyn SignatureVerifier,
    token: &str,
    now: Timestamp,
) -> Result<String, std::borrow::Cow<'static, str>> {
    let token = Unverified::read(token)?;
    let id = rules.caller_id(&token.claims.check(rules, now)?.subject, &[])?;
    keys.signed_by(&token, signatures).map(|_| id).map_err(key_set::NotSigned::why)
}

fn later(time: Timestamp, by: SignedDuration) -> Timestamp {
    time.saturating_add(by).unwrap_or(Timestamp::MAX)
}

/// The caller that a token names, with the certificate shown beside it.
fn with_certificate(caller: Caller, certificate: Option<&PeerCertificate>) -> Caller {
    let Some(certificate) = certificate else { return caller };
    let mut identity = caller.identity().clone();
    identity.certificate = Some(certificate.id().into());
    identity.valid_until = identity.valid_until.map(|until| until.min(certificate.end()));
    identity.shown = certificate.as_shown().cloned();
    Caller::proven(identity)
}

#[cfg(test)]
mod tests;
