//! Verifying a token: which entry of `callers.jwt` it is for, and whether a key of that issuer signed it.

use std::{borrow::Cow, net::IpAddr, sync::Arc};

use jiff::Timestamp;

use super::{
    Identification, Issuer, REMEMBERED_FOR, Remembered, Unidentified, issuer_keys::Unavailable,
    key_set::NotSigned, later, token::Unverified,
};
use crate::{
    access::caller::{Caller, CallerMethod, Identity},
    domain::TokenAlgorithm,
    ports::SignatureVerifier,
};

/// An entry of `callers.jwt` for which a token may be good.
struct Candidate<'a> {
    place: usize,
    issuer: &'a Issuer,
    id: String,
    expiry: Timestamp,
}

impl Identification {
    /// Verifies a token that is not remembered.
    pub(super) async fn verify(
        &self,
        text: &str,
        from: IpAddr,
        now: Timestamp,
    ) -> Result<Caller, Unidentified> {
        let token = Unverified::read(text)
            .map_err(|why| Unidentified::Refused(format!("the token: {why}")))?;
        let candidates = self.candidates(&token, now)?;
        let (candidate, key) = self.signer(&candidates, &token, from, now).await?;
        let Candidate { place, issuer, id, expiry } = candidate;

        let caller = Caller::proven(Identity {
            id: id.as_str().into(),
            method: CallerMethod::Jwt,
            issuer: Some(Arc::clone(&issuer.name)),
            certificate: None,
            valid_until: Some(later(*expiry, issuer.rules.leeway)),
            key: Some(key),
            shown: None,
        });
        let until = (*expiry).min(later(now, REMEMBERED_FOR));
        if now < until {
            let digest = self.digest.digest(text.as_bytes());
            let remembered = Remembered { caller: caller.clone(), issuer: *place, until };
            self.remembered.insert(digest, remembered);
        }
        Ok(caller)
    }

    /// Returns the entries of `callers.jwt` for which the token is good if one of their keys signed it. This is before
    /// the signature: a token that is no good whoever signed it costs no arithmetic and waits for no keys.
    fn candidates(
        &self,
        token: &Unverified<'_>,
        now: Timestamp,
    ) -> Result<Vec<Candidate<'_>>, Unidentified> {
        let mut candidates = Vec::new();
        let mut refusals = Vec::new();
        for (place, issuer) in self.issuers.iter().enumerate() {
            if issuer.rules.issuer != token.claims.iss {
                continue;
            }
            match self.candidate(place, issuer, token, now) {
                Ok(candidate) => candidates.push(candidate),
                Err(why) => refusals.push(why),
            }
        }
        match refusals.as_slice() {
            _ if !candidates.is_empty() => Ok(candidates),
            [] => Err("the token: its issuer is not one of callers.jwt".into()),
            refusals => Err(refused(&token.claims.iss, &refusals.join("; or "))),
        }
    }

    fn candidate<'a>(
        &'a self,
        place: usize,
        issuer: &'a Issuer,
        token: &Unverified<'_>,
        now: Timestamp,
    ) -> Result<Candidate<'a>, Cow<'static, str>> {
        let rules = &issuer.rules;
        let checked = token.claims.check(rules, now)?;
        if !rules.algorithms.contains(&token.algorithm) {
            let (signed, allowed) = (token.algorithm, TokenAlgorithm::list(&rules.algorithms));
            let why = format!("it is signed with {signed}, and `algorithms` allows only {allowed}");
            return Err(why.into());
        }
        let others = self.issuers.iter().enumerate().filter(|(other, _)| *other != place);
        let others: Vec<_> =
            others.map(|(_, issuer)| issuer.rules.caller_prefix.as_str()).collect();
        let id = rules.caller_id(&checked.subject, &others)?;
        Ok(Candidate { place, issuer, id, expiry: checked.expiry })
    }

    /// Returns the one entry whose key signed the token, and the number of the key.
    async fn signer<'a, 'i>(
        &self,
        candidates: &'a [Candidate<'i>],
        token: &Unverified<'_>,
        from: IpAddr,
        now: Timestamp,
    ) -> Result<(&'a Candidate<'i>, u64), Unidentified> {
        let signatures = &*self.signatures;
        if candidates.len() > 1 {
            let known = candidates.iter().filter_map(|candidate| {
                let keys = candidate.issuer.keys.usable(now);
                let key = keys.keys()?.signed_by(token, signatures).ok()?;
                Some((candidate, key))
            });
            let all_known =
                candidates.iter().all(|one| one.issuer.keys.usable(now).keys().is_some());
            match known.collect::<Vec<_>>().as_slice() {
                [one] if all_known => return Ok(*one),
                [] | [_] => {}
                _ => return Err(refused(&token.claims.iss, AMBIGUOUS)),
            }
        }
        let mut failure = None;
        for candidate in candidates {
            match candidate.issuer.signed_by(token, signatures, from, now).await {
                Ok(Ok(key)) => {
                    let others = candidates.iter().filter(|other| !std::ptr::eq(*other, candidate));
                    let signed = |other: &Candidate<'_>| {
                        let keys = other.issuer.keys.usable(now);
                        keys.keys().is_some_and(|keys| keys.signed_by(token, signatures).is_ok())
                    };
                    if others.into_iter().any(signed) {
                        return Err(refused(&token.claims.iss, AMBIGUOUS));
                    }
                    return Ok((candidate, key));
                }
                Ok(Err(why)) => {
                    failure.get_or_insert_with(|| refused(&token.claims.iss, &why));
                }
                // The keys that are missing may be those that signed it.
                Err(unavailable) => failure = Some(unavailable.into()),
            }
        }
        Err(failure.unwrap_or_else(|| "the token: its issuer is not one of callers.jwt".into()))
    }
}

const AMBIGUOUS: &str = "it is good for two entries of callers.jwt, which name different callers: let each entry accept \
    audiences of its own, and issue the token for one of them";

fn refused(issuer: &str, why: &str) -> Unidentified {
    Unidentified::Refused(format!("the token of {issuer}: {why}"))
}

impl Issuer {
    /// The number of the key that signed a token, or why it is none of the issuer's.
    async fn signed_by(
        &self,
        token: &Unverified<'_>,
        signatures: &dyn SignatureVerifier,
        from: IpAddr,
        now: Timestamp,
    ) -> Result<Result<u64, Cow<'static, str>>, Unavailable> {
        self.keys.first(from, now).await?;
        let signed_by = || match self.keys.usable(now).keys() {
            Some(keys) => keys.signed_by(token, signatures),
            None => Err(NotSigned::Unknown("its issuer has no key that may be believed".into())),
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
