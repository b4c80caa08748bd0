//! The login service's public keys (RFC 7517), fetched when needed and kept.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use jsonwebtoken::{Algorithm, DecodingKey, Header, crypto};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::{
    client::{Profile, Repeat, json, unexpected},
    login_host::LoginHost,
};
use crate::ports::{Clock, UpstreamError};

const JWKS: Profile = Profile { what: "JWKS", max_body_bytes: 256 * 1024, repeat: Repeat::Reads };

/// Documented (SUPEROFFICE.md 1.2), so `jwks_uri` of the discovery document is not needed.
pub(super) const JWKS_PATH: &str = "/login/.well-known/jwks";

/// RFC 7517 section 8.5 registers a media type for key sets. A host that uses it may refuse a request for plain JSON only.
const ACCEPT: &str = "application/jwk-set+json, application/json, */*;q=0.1";

/// Keys are fetched again after this, so that a withdrawn key stops being believed.
const FRESH: Duration = Duration::from_hours(1);

/// While they cannot be fetched, the old ones are believed until this age.
const OLDEST: Duration = Duration::from_hours(24);

/// An unknown key id makes us look again at most this often.
const COOL_DOWN: Duration = Duration::from_secs(10);

/// A login service has one or two keys; more than this is not read.
const MAX_KEYS: usize = 32;

type Fetch = Shared<BoxFuture<'static, Result<Arc<Keys>, UpstreamError>>>;

/// The keys of one login host.
pub(super) struct KeySet {
    source: Arc<Source>,
    state: Mutex<State>,
}

struct Source {
    login: Arc<LoginHost>,
    clock: Arc<dyn Clock>,
}

#[derive(Default)]
struct State {
    keys: Option<Arc<Keys>>,
    /// One fetch, however many wait; polled by those who wait.
    fetch: Option<Fetch>,
    /// By the monotonic clock.
    looked_for_unknown: Option<Duration>,
}

/// What is in one answer.
pub(crate) struct Keys {
    keys: Vec<Key>,
    /// By the monotonic clock.
    read_time: Duration,
}

#[derive(Clone)]
struct Key {
    kid: Option<String>,
    x5t: Option<String>,
    decoding: DecodingKey,
}

#[derive(Deserialize)]
struct WireKeys {
    keys: Vec<WireKey>,
}

#[derive(Deserialize)]
struct WireKey {
    kty: String,
    #[serde(rename = "use")]
    usage: Option<String>,
    alg: Option<String>,
    kid: Option<String>,
    x5t: Option<String>,
    n: Option<String>,
    e: Option<String>,
}

impl KeySet {
    pub(super) fn new(login: Arc<LoginHost>, clock: Arc<dyn Clock>) -> Self {
        Self { source: Arc::new(Source { login, clock }), state: Mutex::default() }
    }

    /// Returns the key that a token's header names by `kid` or `x5t`. If the header names none, returns the key that
    /// signed the token: during a key rollover several keys are published.
    pub(super) async fn signer(
        &self,
        header: &Header,
        jwt: &SecretString,
    ) -> Result<DecodingKey, UpstreamError> {
        let keys = self.present().await?;
        if let Some(key) = keys.signer(header, jwt) {
            return Ok(key);
        }
        // Rolled over since we looked.
        let keys = if self.may_look_again() { self.fetch().await? } else { keys };
        let unknown = || UpstreamError::InvalidResponse("signed by an unknown key".to_owned());
        keys.signer(header, jwt).ok_or_else(unknown)
    }

    /// Makes sure that keys are at hand.
    pub(super) async fn ready(&self) -> Result<(), UpstreamError> {
        self.present().await.map(drop)
    }

    async fn present(&self) -> Result<Arc<Keys>, UpstreamError> {
        let known = self.lock().keys.clone();
        let Some(known) = known else {
            return self.fetch().await;
        };
        let age = self.source.clock.monotonic().saturating_sub(known.read_time);
        if age < FRESH {
            return Ok(known);
        }
        match self.fetch().await {
            Err(error) if age < OLDEST => {
                tracing::warn!(%error, "public keys not fetched again; the old ones are still used");
                Ok(known)
            }
            fetched => fetched,
        }
    }

    fn may_look_again(&self) -> bool {
        let now = self.source.clock.monotonic();
        let mut state = self.lock();
        let since = state.looked_for_unknown.map(|last| now.saturating_sub(last));
        let may = since.is_none_or(|since| since >= COOL_DOWN);
        if may {
            state.looked_for_unknown = Some(now);
        }
        may
    }

    async fn fetch(&self) -> Result<Arc<Keys>, UpstreamError> {
        let fetch = {
            let mut state = self.lock();
            let new = || Arc::clone(&self.source).fetch().boxed().shared();
            state.fetch.get_or_insert_with(new).clone()
        };
        let fetched = fetch.clone().await;
        let mut state = self.lock();
        // The first of those who waited puts it away.
        if state.fetch.as_ref().is_some_and(|current| current.ptr_eq(&fetch)) {
            state.fetch = None;
            if let Ok(keys) = &fetched {
                state.keys = Some(Arc::clone(keys));
            }
        }
        fetched
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Source {
    async fn fetch(self: Arc<Self>) -> Result<Arc<Keys>, UpstreamError> {
        let body = read(&self.login).await?;
        Keys::read(&body, self.clock.monotonic()).map(Arc::new)
    }
}

/// How many keys of the login host can sign what we would believe: at least one.
pub(super) async fn count_usable(login: &LoginHost) -> Result<usize, UpstreamError> {
    let body = read(login).await?;
    Keys::read(&body, Duration::ZERO).map(|keys| keys.keys.len())
}

async fn read(login: &LoginHost) -> Result<Zeroizing<Vec<u8>>, UpstreamError> {
    let answer = login.send(JWKS, || login.get_accepting(JWKS_PATH, ACCEPT)).await?;
    if answer.status.is_success() { Ok(answer.body) } else { Err(unexpected(JWKS, answer.status)) }
}

impl Keys {
    /// Takes the keys that can be used from the body of an answer; at least one.
    pub(crate) fn read(body: &[u8], read_time: Duration) -> Result<Self, UpstreamError> {
        let wire: WireKeys = json(JWKS, body)?;
        let keys: Vec<Key> = wire.keys.iter().take(MAX_KEYS).filter_map(usable).collect();
        if keys.is_empty() {
            let text = "JWKS: no RSA signature key".to_owned();
            return Err(UpstreamError::InvalidResponse(text));
        }
        Ok(Self { keys, read_time })
    }

    /// Returns the key that a header names, or, if it names none, the key that signed the token.
    pub(crate) fn signer(&self, header: &Header, jwt: &SecretString) -> Option<DecodingKey> {
        let (kid, x5t) = (header.kid.as_deref(), header.x5t.as_deref());
        if kid.is_some() || x5t.is_some() {
            return self.find(kid, x5t);
        }
        let (signed, signature) = jwt.expose_secret().rsplit_once('.')?;
        let made = |key: &&Key| {
            crypto::verify(signature, signed.as_bytes(), &key.decoding, Algorithm::RS256)
                .unwrap_or(false)
        };
        self.keys.iter().find(made).map(|key| key.decoding.clone())
    }

    /// Returns the key with this name.
    pub(crate) fn find(&self, kid: Option<&str>, x5t: Option<&str>) -> Option<DecodingKey> {
        // Real key sets have had the thumbprint in either place.
        let named = |id: Option<&str>| id.is_some() && (id == kid || id == x5t);
        let mut keys = self.keys.iter();
        let found = keys.find(|key| named(key.kid.as_deref()) || named(key.x5t.as_deref()));
        found.map(|key| key.decoding.clone())
    }
}

fn usable(wire: &WireKey) -> Option<Key> {
    let signs = wire.usage.as_deref().is_none_or(|usage| usage == "sig");
    let rs256 = wire.alg.as_deref().is_none_or(|alg| alg == "RS256");
    if wire.kty != "RSA" || !signs || !rs256 {
        return None;
    }
    let decoding = DecodingKey::from_rsa_components(wire.n.as_deref()?, wire.e.as_deref()?).ok()?;
    Some(Key { kid: wire.kid.clone(), x5t: wire.x5t.clone(), decoding })
}

#[cfg(test)]
mod tests {
    use base64::{
        Engine as _,
        engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
    };
    use jsonwebtoken::{EncodingKey, encode};
    use proptest::prelude::*;

    use super::*;

    /// A key as it may stand in a set, good or not: its JSON, and whether it can be used.
    fn key() -> impl Strategy<Value = (serde_json::Value, bool)> {
        let word = |good: &'static str| prop_oneof![3 => Just(Some(good)), 1 => Just(None), 1 => Just(Some("other"))];
        let number = prop_oneof![4 => Just("AQAB"), 1 => Just("A*"), 1 => Just("")];
        (word("RSA"), word("sig"), word("RS256"), "[a-d]", number).prop_map(
            |(kty, usage, alg, kid, n)| {
                let fits = |word: Option<&str>, good| word.is_none_or(|word| word == good);
                // An empty number is base64, and no key: that shows when it verifies.
                let usable =
                    kty == Some("RSA") && fits(usage, "sig") && fits(alg, "RS256") && n != "A*";
                let kty = kty.unwrap_or_default();
                let json = serde_json::json!({
                    "kty": kty, "use": usage, "alg": alg, "kid": kid, "n": n, "e": "AQAB",
                });
                (json, usable)
            },
        )
    }

    const RSA_XML: &str = include_str!("../../tests/fixtures/keys/rsa-2048.xml");
    const RSA_PEM: &[u8] = include_bytes!("../../tests/fixtures/keys/rsa-2048.pkcs8.pem");

    /// The key of the fixtures, as it stands in a set.
    fn own_key(kid: &str) -> serde_json::Value {
        let number = |name: &str| {
            let (_, after) = RSA_XML.split_once(&format!("<{name}>")).unwrap();
            URL_SAFE_NO_PAD.encode(STANDARD.decode(after.split_once('<').unwrap().0).unwrap())
        };
        let (n, e) = (number("Modulus"), number("Exponent"));
        serde_json::json!({ "kty": "RSA", "use": "sig", "kid": kid, "n": n, "e": e })
    }

    #[test]
    fn a_token_without_a_key_name_is_tried_with_every_published_key() {
        let other: serde_json::Value =
            serde_json::from_slice(include_bytes!("../../tests/fixtures/jwks.sod.2022.json"))
                .unwrap();
        let signing = EncodingKey::from_rsa_pem(RSA_PEM).unwrap();
        let claims = serde_json::json!({ "iss": "x" });
        let sign = |header: &Header| SecretString::from(encode(header, &claims, &signing).unwrap());
        let unnamed = Header::new(Algorithm::RS256);
        let token = sign(&unnamed);
        let read = |keys: &[&serde_json::Value]| {
            let body = serde_json::json!({ "keys": keys }).to_string();
            Keys::read(body.as_bytes(), Duration::ZERO).unwrap()
        };
        let (old, new) = (&other["keys"][0], own_key("new"));
        assert!(read(&[old]).signer(&unnamed, &token).is_none());
        for keys in [read(&[&new]), read(&[old, &new]), read(&[&new, old])] {
            let key = keys.signer(&unnamed, &token).unwrap();
            let (signed, signature) = token.expose_secret().rsplit_once('.').unwrap();
            let verified = crypto::verify(signature, signed.as_bytes(), &key, Algorithm::RS256);
            assert!(verified.unwrap());
            // A token that names a key is this key's alone.
            let mut named = Header::new(Algorithm::RS256);
            named.kid = Some("other".to_owned());
            assert!(keys.signer(&named, &sign(&named)).is_none());
            let altered = SecretString::from(format!("{signed}x.{signature}"));
            assert!(keys.signer(&unnamed, &altered).is_none());
            assert!(keys.signer(&unnamed, &SecretString::from("a")).is_none());
        }
    }

    proptest! {
        #[test]
        fn no_body_makes_reading_panic(
            body in "\\PC{0,60}|\\{\"keys\":\\[(\\{\"kty\":\"RSA\",\"(n|e|kid)\":(\"A\"|null|1)\\}|,|\\[\\]){0,4}\\]\\}",
        ) {
            let _ = Keys::read(body.as_bytes(), Duration::ZERO);
        }

        #[test]
        fn only_keys_that_can_be_used_are_found(keys in prop::collection::vec(key(), 0..6)) {
            let body = serde_json::json!({ "keys": keys.iter().map(|(key, _)| key).collect::<Vec<_>>() });
            let usable: Vec<&str> =
                keys.iter().filter(|(_, usable)| *usable).filter_map(|(key, _)| key["kid"].as_str()).collect();
            let Ok(read) = Keys::read(body.to_string().as_bytes(), Duration::ZERO) else {
                prop_assert!(usable.is_empty());
                return Ok(());
            };
            for kid in ["a", "b", "c", "d"] {
                prop_assert_eq!(read.find(Some(kid), None).is_some(), usable.contains(&kid));
                prop_assert_eq!(read.find(None, Some(kid)).is_some(), usable.contains(&kid));
            }
            prop_assert!(read.find(None, None).is_none());
        }
    }
}
