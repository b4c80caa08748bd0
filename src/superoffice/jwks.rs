//! The public keys of the login service (RFC 7517), fetched on demand and cached.

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
use serde_json::Value;
use zeroize::Zeroizing;

use super::{
    client::{RequestLimits, RetryPolicy, json, unexpected_status},
    login_host::LoginHost,
};
use crate::{
    domain::TokenAlgorithm,
    ports::{Clock, JsonWebKey, JsonWebKeySet, PublicKey, UpstreamError},
};

const JWKS: RequestLimits =
    RequestLimits { name: "JWKS", max_body_bytes: 256 * 1024, retry: RetryPolicy::Idempotent };

/// The documented path, so `jwks_uri` of the discovery document is not needed.
pub(super) const JWKS_PATH: &str = "/login/.well-known/jwks";

/// The accepted media types. RFC 7517 section 8.5 registers one for key sets; a host may reject requests for plain
/// JSON.
const ACCEPT: &str = "application/jwk-set+json, application/json, */*;q=0.1";

/// The age after which keys are fetched again, so that a withdrawn key is no longer trusted.
const MAX_AGE: Duration = Duration::from_hours(1);

/// The maximum age of keys while new ones cannot be fetched.
const MAX_STALE_AGE: Duration = Duration::from_hours(24);

/// The minimum time between two fetches because of an unknown key id.
const REFETCH_INTERVAL: Duration = Duration::from_secs(10);

/// The maximum number of keys that are read. A login service has one or two.
const MAX_KEYS: usize = 32;

type Fetch = Shared<BoxFuture<'static, Result<Arc<JwkSet>, UpstreamError>>>;

/// The keys of one login host.
pub(super) struct CachedJwks {
    source: Arc<Source>,
    state: Mutex<State>,
}

struct Source {
    login: Arc<LoginHost>,
    clock: Arc<dyn Clock>,
}

#[derive(Default)]
struct State {
    keys: Option<Arc<JwkSet>>,
    /// The running fetch, which all waiting tasks share and poll.
    fetch: Option<Fetch>,
    /// By the monotonic clock.
    last_refetch: Option<Duration>,
}

/// The keys of one response.
pub(crate) struct JwkSet {
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

impl CachedJwks {
    pub(super) fn new(login: Arc<LoginHost>, clock: Arc<dyn Clock>) -> Self {
        Self { source: Arc::new(Source { login, clock }), state: Mutex::default() }
    }

    /// Returns the key that a token's header names by `kid` or `x5t`. If the header names none, returns the key that
    /// signed the token: during a key rollover several keys are published.
    pub(super) async fn signing_key(
        &self,
        header: &Header,
        jwt: &SecretString,
    ) -> Result<DecodingKey, UpstreamError> {
        let keys = self.current().await?;
        if let Some(key) = keys.signing_key(header, jwt) {
            return Ok(key);
        }
        // The keys may have been rotated since the last fetch.
        let keys = if self.may_refetch() { self.fetch().await? } else { keys };
        let unknown = || UpstreamError::InvalidResponse("signed by an unknown key".to_owned());
        keys.signing_key(header, jwt).ok_or_else(unknown)
    }

    /// Fetches the keys unless they are cached.
    pub(super) async fn ensure_loaded(&self) -> Result<(), UpstreamError> {
        self.current().await.map(drop)
    }

    async fn current(&self) -> Result<Arc<JwkSet>, UpstreamError> {
        let known = self.lock().keys.clone();
        let Some(known) = known else {
            return self.fetch().await;
        };
        let age = self.source.clock.monotonic().saturating_sub(known.read_time);
        if age < MAX_AGE {
            return Ok(known);
        }
        match self.fetch().await {
            Err(error) if age < MAX_STALE_AGE => {
                tracing::warn!(%error, "cannot fetch public keys; using the cached ones");
                Ok(known)
            }
            fetched => fetched,
        }
    }

    fn may_refetch(&self) -> bool {
        let now = self.source.clock.monotonic();
        let mut state = self.lock();
        let since = state.last_refetch.map(|last| now.saturating_sub(last));
        let may = since.is_none_or(|since| since >= REFETCH_INTERVAL);
        if may {
            state.last_refetch = Some(now);
        }
        may
    }

    async fn fetch(&self) -> Result<Arc<JwkSet>, UpstreamError> {
        let fetch = {
            let mut state = self.lock();
            let new = || Arc::clone(&self.source).fetch().boxed().shared();
            state.fetch.get_or_insert_with(new).clone()
        };
        let fetched = fetch.clone().await;
        let mut state = self.lock();
        // The first task that continues clears the fetch.
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
    async fn fetch(self: Arc<Self>) -> Result<Arc<JwkSet>, UpstreamError> {
        let body = read(&self.login).await?;
        JwkSet::read(&body, self.clock.monotonic()).map(Arc::new)
    }
}

/// Returns the number of usable keys of the login host; at least one.
pub(super) async fn count_usable(login: &LoginHost) -> Result<usize, UpstreamError> {
    let body = read(login).await?;
    JwkSet::read(&body, Duration::ZERO).map(|keys| keys.keys.len())
}

async fn read(login: &LoginHost) -> Result<Zeroizing<Vec<u8>>, UpstreamError> {
    let answer = login.send(JWKS, || login.get_accepting(JWKS_PATH, ACCEPT)).await?;
    if answer.status.is_success() {
        Ok(answer.body)
    } else {
        Err(unexpected_status(JWKS, answer.status))
    }
}

impl JwkSet {
    /// Reads the usable keys from a response body. Fails if there is none.
    pub(crate) fn read(body: &[u8], read_time: Duration) -> Result<Self, UpstreamError> {
        let set: JsonWebKeySet = json(JWKS, body)?;
        let keys: Vec<_> = set.keys.into_iter().take(MAX_KEYS).filter_map(Key::read).collect();
        if keys.is_empty() {
            let text = "JWKS: no RSA signature key".to_owned();
            return Err(UpstreamError::InvalidResponse(text));
        }
        Ok(Self { keys, read_time })
    }

    /// Returns the key that a header names, or, if it names none, the key that signed the token.
    pub(crate) fn signing_key(&self, header: &Header, jwt: &SecretString) -> Option<DecodingKey> {
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

    /// Returns the key with this `kid` or `x5t`.
    pub(crate) fn find(&self, kid: Option<&str>, x5t: Option<&str>) -> Option<DecodingKey> {
        // Real key sets have contained the thumbprint in either field.
        let named = |id: Option<&str>| id.is_some() && (id == kid || id == x5t);
        let mut keys = self.keys.iter();
        let found = keys.find(|key| named(key.kid.as_deref()) || named(key.x5t.as_deref()));
        found.map(|key| key.decoding.clone())
    }
}

impl Key {
    /// Reads an RSA key for RS256. Returns `None` for other keys.
    fn read(entry: Value) -> Option<Self> {
        let JsonWebKey { kid, x5t, public, algorithms } = JsonWebKey::read(entry).ok()?;
        let PublicKey::Rsa { n, e } = public else { return None };
        let decoding = DecodingKey::from_rsa_raw_components(&n, &e);
        algorithms.contains(&TokenAlgorithm::Rs256).then_some(Self { kid, x5t, decoding })
    }
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

    /// A valid or invalid key of a set: its JSON, and whether it is usable.
    fn key() -> impl Strategy<Value = (Value, bool)> {
        let word = |good: &'static str| prop_oneof![3 => Just(Some(good)), 1 => Just(None), 1 => Just(Some("other"))];
        let modulus = own_key("")["n"].clone();
        let number = prop_oneof![
            4 => Just(modulus.clone()),
            1 => Just(Value::from("A*")),
            1 => Just(Value::from("AQAB")),
        ];
        (word("RSA"), word("sig"), word("RS256"), "[a-d]", number).prop_map(
            move |(kty, usage, alg, kid, n)| {
                let fits = |word: Option<&str>, good| word.is_none_or(|word| word == good);
                let usable =
                    kty == Some("RSA") && fits(usage, "sig") && fits(alg, "RS256") && n == modulus;
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

    /// The key of the fixtures as JSON.
    fn own_key(kid: &str) -> Value {
        let number = |name: &str| {
            let (_, after) = RSA_XML.split_once(&format!("<{name}>")).unwrap();
            URL_SAFE_NO_PAD.encode(STANDARD.decode(after.split_once('<').unwrap().0).unwrap())
        };
        let (n, e) = (number("Modulus"), number("Exponent"));
        serde_json::json!({ "kty": "RSA", "use": "sig", "kid": kid, "n": n, "e": e })
    }

    #[test]
    fn tries_every_published_key_for_a_token_without_kid() {
        let other: Value =
            serde_json::from_slice(include_bytes!("../../tests/fixtures/jwks.sod.2022.json"))
                .unwrap();
        let signing = EncodingKey::from_rsa_pem(RSA_PEM).unwrap();
        let claims = serde_json::json!({ "iss": "x" });
        let sign = |header: &Header| SecretString::from(encode(header, &claims, &signing).unwrap());
        let unnamed = Header::new(Algorithm::RS256);
        let token = sign(&unnamed);
        let read = |keys: &[&Value]| {
            let body = serde_json::json!({ "keys": keys }).to_string();
            JwkSet::read(body.as_bytes(), Duration::ZERO).unwrap()
        };
        let (old, new) = (&other["keys"][0], own_key("new"));
        assert!(read(&[old]).signing_key(&unnamed, &token).is_none());
        for keys in [read(&[&new]), read(&[old, &new]), read(&[&new, old])] {
            let key = keys.signing_key(&unnamed, &token).unwrap();
            let (signed, signature) = token.expose_secret().rsplit_once('.').unwrap();
            let verified = crypto::verify(signature, signed.as_bytes(), &key, Algorithm::RS256);
            assert!(verified.unwrap());
            // A token that names a key is verified with this key only.
            let mut named = Header::new(Algorithm::RS256);
            named.kid = Some("other".to_owned());
            assert!(keys.signing_key(&named, &sign(&named)).is_none());
            let altered = SecretString::from(format!("{signed}x.{signature}"));
            assert!(keys.signing_key(&unnamed, &altered).is_none());
            assert!(keys.signing_key(&unnamed, &SecretString::from("a")).is_none());
        }
    }

    proptest! {
        #[test]
        fn no_body_makes_reading_panic(
            body in "\\PC{0,60}|\\{\"keys\":\\[(\\{\"kty\":\"RSA\",\"(n|e|kid)\":(\"A\"|null|1)\\}|,|\\[\\]){0,4}\\]\\}",
        ) {
            let _ = JwkSet::read(body.as_bytes(), Duration::ZERO);
        }

        #[test]
        fn finds_only_usable_keys(keys in prop::collection::vec(key(), 0..6)) {
            let body = serde_json::json!({ "keys": keys.iter().map(|(key, _)| key).collect::<Vec<_>>() });
            let usable: Vec<&str> =
                keys.iter().filter(|(_, usable)| *usable).filter_map(|(key, _)| key["kid"].as_str()).collect();
            let Ok(read) = JwkSet::read(body.to_string().as_bytes(), Duration::ZERO) else {
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
