//! Verification of a token: selects the entry of `callers.jwt`, and checks whether a key of that issuer signed it.

use std::{borrow::Cow, net::IpAddr, sync::Arc};

use jiff::Timestamp;

use super::{
    AuthenticationError, Authenticator, CachedToken, Issuer, TOKEN_CACHE_TTL,
    issuer_keys::KeysUnavailable, key_set::SignatureError, later, token::UnverifiedToken,
};
use crate::{
    access::caller::{Caller, CallerMethod, Identity},
    domain::TokenAlgorithm,
    ports::SignatureVerifier,
};

/// An entry of `callers.jwt` whose rules accept the claims of a token.
struct Candidate<'a> {
    index: usize,
    issuer: &'a Issuer,
    id: String,
    expiry: Timestamp,
}

impl Authenticator {
    /// Verifies a token that is not cached.
    pub(super) async fn verify(
        &self,
        text: &str,
        from: IpAddr,
        now: Timestamp,
    ) -> Result<Caller, AuthenticationError> {
        let token = UnverifiedToken::read(text)
            .map_err(|why| AuthenticationError::Refused(format!("the token: {why}")))?;
        let candidates = self.candidates(&token, now)?;
        let (candidate, key) = self.find_signer(&candidates, &token, from, now).await?;
        let Candidate { index: place, issuer, id, expiry } = candidate;

        let caller = Caller::from_identity(Identity {
            id: id.as_str().into(),
            method: CallerMethod::Jwt,
            issuer: Some(Arc::clone(&issuer.name)),
            certificate: None,
            valid_until: Some(later(*expiry, issuer.rules.leeway)),
            key: Some(key),
            connection_certificate: None,
        });
        let until = (*expiry).min(later(now, TOKEN_CACHE_TTL));
        if now < until {
            let digest = self.digest.digest(text.as_bytes());
            let remembered = CachedToken { caller: caller.clone(), issuer: *place, until };
            self.token_cache.insert(digest, remembered);
        }
        Ok(caller)
    }

    /// Returns the entries of `callers.jwt` whose rules accept the token's claims. Runs before signature verification,
    /// so that an unacceptable token costs no cryptography and waits for no keys.
    fn candidates(
        &self,
        token: &UnverifiedToken<'_>,
        now: Timestamp,
    ) -> Result<Vec<Candidate<'_>>, AuthenticationError> {
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
        token: &UnverifiedToken<'_>,
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
        Ok(Candidate { index: place, issuer, id, expiry: checked.expiry })
    }

    /// Returns the one entry whose key signed the token, and the number of the key.
    async fn find_signer<'a, 'i>(
        &self,
        candidates: &'a [Candidate<'i>],
        token: &UnverifiedToken<'_>,
        from: IpAddr,
        now: Timestamp,
    ) -> Result<(&'a Candidate<'i>, u64), AuthenticationError> {
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
                // The token may be signed by one of the missing keys.
                Err(unavailable) => failure = Some(unavailable.into()),
            }
        }
        Err(failure.unwrap_or_else(|| "the token: its issuer is not one of callers.jwt".into()))
    }
}

const AMBIGUOUS: &str = "it matches two entries of callers.jwt, which name different callers: configure each entry with \
    audiences of its own, and issue the token for one of them";

fn refused(issuer: &str, why: &str) -> AuthenticationError {
    AuthenticationError::Refused(format!("the token of {issuer}: {why}"))
}

impl Issuer {
    /// Returns the number of the key that signed a token, or the reason why none of the issuer's keys did.
    async fn signed_by(
        &self,
        token: &UnverifiedToken<'_>,
        signatures: &dyn SignatureVerifier,
        from: IpAddr,
        now: Timestamp,
    ) -> Result<Result<u64, Cow<'static, str>>, KeysUnavailable> {
        self.keys.wait_for_first_fetch(from, now).await?;
        let signed_by = || match self.keys.usable(now).keys() {
            Some(keys) => keys.signed_by(token, signatures),
            None => Err(SignatureError::UnknownKey("its issuer has no usable key".into())),
        };
        let signed = match signed_by() {
            // The keys may have been rotated since the last fetch, or withdrawn just now.
            Err(SignatureError::UnknownKey(_)) => {
                self.keys.wait_for_next_fetch(from).await?;
                signed_by()
            }
            // Requests a fetch, because the key may have been replaced under the same id. Does not wait for it: anyone
            // can send a forged signature.
            wrong @ Err(SignatureError::InvalidSignature(_)) => {
                self.keys.request_next_fetch();
                wrong
            }
            signed @ Ok(_) => signed,
        };
        Ok(signed.map_err(SignatureError::why))
    }
}
