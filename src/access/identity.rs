//! Who is calling: signed tokens and client certificates (CONTRACT section 5, last paragraph; DESIGN rules 9, 10).
//!
//! A token names its caller by prefix and subject, a certificate by its one name; where both are shown both must be
//! good, and the token names the caller. Verified tokens are remembered by a keyed digest, so that the hot path
//! verifies no signature twice. Nothing here reads or sends: keys come through [`IssuerKeys`].

mod bearer;
mod certificate;
mod issuer_keys;
mod key_set;
mod reported;
mod rules;
mod token;
mod waiting;

use std::{fmt, net::IpAddr, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use quick_cache::sync::Cache;

#[cfg(fuzzing)]
pub(crate) use self::key_set::KeySet as IssuerKeySet;
pub use self::{
    bearer::Bearer,
    certificate::{CertificateProblem, PeerCertificate},
    issuer_keys::IssuerKeys,
    rules::IssuerRules,
};
use self::{
    issuer_keys::Unavailable,
    key_set::NotSigned,
    rules::not_taken,
    token::{LEEWAY, Unverified},
};
use super::caller::{Caller, CallerMethod, Identity};
use crate::ports::Digest;

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

impl From<&'static str> for Unidentified {
    fn from(why: &'static str) -> Self {
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
    mtls: bool,
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
    /// `mtls`: whether client certificates are looked at. Configuration sees to it that no two issuers are the same
    /// and that no prefix begins with another.
    #[must_use]
    pub fn new(
        jwt: Vec<(IssuerRules, Arc<IssuerKeys>)>,
        mtls: bool,
        digest: Arc<dyn Digest>,
    ) -> Self {
        let issuer = |(rules, keys): (IssuerRules, _)| Issuer {
            name: rules.issuer.as_str().into(),
            rules,
            keys,
        };
        let issuers = jwt.into_iter().map(issuer).collect();
        Self { issuers, mtls, digest, remembered: Cache::new(MAX_REMEMBERED) }
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
                let still = now < until && self.key_lives(issuer, &caller, now);
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
                None if self.mtls => Err("it shows no token and no client certificate".into()),
                None => Err("it shows no token".into()),
            },
            Bearer::Token(token) => {
                let caller = self.verify(token, from, now).await?;
                Ok(with_certificate(caller, certificate))
            }
        }
    }

    /// Whether what a caller proved still holds: for streams, before each message.
    #[must_use]
    pub fn still_holds(&self, caller: &Caller, now: Timestamp) -> bool {
        let identity = caller.identity();
        let lives = match identity.method {
            CallerMethod::Jwt => {
                let mut issuers = self.issuers.iter();
                let issuer = issuers.position(|issuer| Some(&*issuer.name) == caller.issuer());
                issuer.is_some_and(|issuer| self.key_lives(issuer, caller, now))
            }
            CallerMethod::Anonymous | CallerMethod::CommandLine | CallerMethod::Mtls => true,
        };
        lives && identity.valid_until.is_none_or(|until| now < until)
    }

    /// The certificate that counts, if there is one. One that is not good is not as none.
    fn certificate<'a>(
        &self,
        presented: &Presented<'a>,
        now: Timestamp,
    ) -> Result<Option<&'a PeerCertificate>, Unidentified> {
        let Some(certificate) = presented.certificate.filter(|_| self.mtls) else {
            return Ok(None);
        };
        let refused = |problem: &CertificateProblem| Unidentified::Refused(problem.to_string());
        let certificate = certificate.as_ref().map_err(refused)?;
        if !certificate.is_valid(now) {
            return Err(
                "the client certificate is not valid now; renew it and connect again".into()
            );
        }
        let prefixes = self.issuers.iter().map(|issuer| issuer.rules.caller_prefix.as_str());
        not_taken(certificate.id(), prefixes)
            .map_err(|why| Unidentified::Refused(format!("the client certificate: {why}")))?;
        Ok(Some(certificate))
    }

    fn key_lives(&self, issuer: usize, caller: &Caller, now: Timestamp) -> bool {
        let keys = self.issuers.get(issuer).map(|issuer| issuer.keys.usable(now));
        let keys = keys.as_ref().and_then(|usable| usable.keys());
        keys.zip(caller.identity().key).is_some_and(|(keys, number)| keys.contains(number))
    }

    async fn verify(
        &self,
        text: &str,
        from: IpAddr,
        now: Timestamp,
    ) -> Result<Caller, Unidentified> {
        let of_token = |why: &str| Unidentified::Refused(format!("the token: {why}"));
        let token = Unverified::read(text).map_err(of_token)?;
        let mut issuers = self.issuers.iter().enumerate();
        let found = issuers.find(|(_, issuer)| issuer.rules.issuer == token.claims.iss);
        let (place, issuer) =
            found.ok_or_else(|| of_token("its issuer is not one of callers.jwt"))?;
        let refused =
            |why: &str| Unidentified::Refused(format!("the token of {}: {why}", issuer.name));
        // Before the signature: a token that is no good whoever signed it costs no arithmetic and waits for no keys.
        let checked = token.claims.check(&issuer.rules, now).map_err(refused)?;
        let others = self.issuers.iter().enumerate().filter(|(other, _)| *other != place);
        let others: Vec<_> =
            others.map(|(_, issuer)| issuer.rules.caller_prefix.as_str()).collect();
        let id = issuer.rules.caller_id(checked.subject, &others).map_err(refused)?;
        let key = issuer.signed_by(&token, from, now).await?.map_err(refused)?;

        let caller = Caller::proven(Identity {
            id: id.into(),
            method: CallerMethod::Jwt,
            issuer: Some(Arc::clone(&issuer.name)),
            certificate: None,
            valid_until: Some(later(checked.expiry, LEEWAY)),
            key: Some(key),
        });
        let until = checked.expiry.min(later(now, REMEMBERED_FOR));
        if now < until {
            let digest = self.digest.digest(text.as_bytes());
            let remembered = Remembered { caller: caller.clone(), issuer: place, until };
            self.remembered.insert(digest, remembered);
        }
        Ok(caller)
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
    /// The number of the key that signed a token, or why it is none of the issuer's.
    async fn signed_by(
        &self,
        token: &Unverified<'_>,
        from: IpAddr,
        now: Timestamp,
    ) -> Result<Result<u64, &'static str>, Unavailable> {
        self.keys.first(from, now).await?;
        let signed_by = || match self.keys.usable(now).keys() {
            Some(keys) => keys.signed_by(token),
            None => Err(NotSigned::Unknown("its issuer has no key that may be believed")),
        };
        let signed = match signed_by() {
            // Rolled over since we looked, perhaps; or the keys were withdrawn this moment.
            Err(NotSigned::Unknown(_)) => {
                self.keys.look_again(from).await?;
                signed_by()
            }
            // A key that was replaced under its name is known soon: who forges signatures is not waited for.
            wrong @ Err(NotSigned::Wrong(_)) => {
                self.keys.look_soon();
                wrong
            }
            signed @ Ok(_) => signed,
        };
        Ok(signed.map_err(NotSigned::why))
    }
}

/// What a token is put through, without memory and without waiting.
#[cfg(fuzzing)]
pub(crate) fn caller_id(
    rules: &IssuerRules,
    keys: &IssuerKeySet,
    token: &str,
    now: Timestamp,
) -> Result<String, &'static str> {
    let token = Unverified::read(token)?;
    let id = rules.caller_id(token.claims.check(rules, now)?.subject, &[])?;
    keys.signed_by(&token).map(|_| id).map_err(NotSigned::why)
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
    Caller::proven(identity)
}

#[cfg(test)]
mod tests;
