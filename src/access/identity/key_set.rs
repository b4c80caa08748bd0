//! The public keys of an issuer (RFC 7517).

use std::{
    borrow::Cow,
    sync::atomic::{AtomicU64, Ordering},
};

use serde_json::Value;

use super::token::UnverifiedToken;
use crate::{
    domain::TokenAlgorithm,
    ports::{JsonWebKey, JsonWebKeySet, PublicKey, SignatureVerifier},
};

/// Maximum size of a key set, in bytes.
const MAX_BYTES: usize = 256 * 1024;

/// Maximum number of keys of an issuer. An issuer that publishes more is rejected, so that no key is silently ignored.
const MAX_KEYS: usize = 64;

/// Maximum number of keys that are tried for one token. Tokens normally name their key; issuers that omit the name have
/// two or three keys during a rollover. Each try costs up to 0.5 ms before the caller is authenticated.
const MAX_TRIED_KEYS: usize = 8;

/// Maximum number of reasons that are listed for unsupported keys.
const MAX_LISTED: usize = 8;

/// The number of the next new key.
static NEXT_NUMBER: AtomicU64 = AtomicU64::new(1);

/// The usable keys of one issuer.
#[derive(Debug)]
pub(crate) struct KeySet {
    keys: Vec<Key>,
    /// The reasons why other keys in the set cannot be used, without duplicates.
    skipped: Vec<String>,
}

/// The reason why a key set is rejected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum KeySetProblem {
    /// The text is not a key set.
    #[error("the content is not a JSON Web Key Set: {0}")]
    Unreadable(&'static str),
    /// The set is empty.
    #[error("the key set has no usable key: it is empty")]
    Empty,
    /// The set holds only unsupported keys. The text describes them.
    #[error("the key set has no usable key: {0}")]
    NoUsableKey(String),
}

#[derive(Debug)]
struct Key {
    /// Identifies the key while it is published. An unchanged key keeps its number in a reloaded set; any other key
    /// gets a new one.
    number: u64,
    kid: Option<String>,
    public: PublicKey,
    /// The algorithms of tokens that it signs: those of its key type, or the one that the key set names.
    algorithms: Vec<TokenAlgorithm>,
}

/// The reason why no key of a set verifies a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum SignatureError {
    /// The key is unknown, but may have been published since the last fetch.
    UnknownKey(Cow<'static, str>),
    /// The key is known and did not sign the token.
    InvalidSignature(Cow<'static, str>),
}

impl SignatureError {
    pub(super) fn why(self) -> Cow<'static, str> {
        let (Self::UnknownKey(why) | Self::InvalidSignature(why)) = self;
        why
    }
}

impl KeySet {
    /// Reads a key set. Skips keys that cannot be used with `algorithms`. Keys in `before` keep their numbers.
    pub(crate) fn read(
        body: &[u8],
        before: Option<&Self>,
        algorithms: &[TokenAlgorithm],
    ) -> Result<Self, KeySetProblem> {
        let unreadable = |why| Err(KeySetProblem::Unreadable(why));
        if body.len() > MAX_BYTES {
            return unreadable("it is larger than 256 KiB");
        }
        if body.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
            return unreadable("it is not a JSON object");
        }
        let Ok(wire) = serde_json::from_slice::<JsonWebKeySet>(body) else {
            return unreadable("it is not JSON with a list `keys`");
        };
        if wire.keys.len() > MAX_KEYS {
            return unreadable("it has more than 64 keys");
        }
        let known = before.map(|set| set.keys.as_slice()).unwrap_or_default();
        let mut set = Self::without_keys(Vec::new());
        for key in wire.keys {
            match Key::read(key, known, algorithms) {
                Ok(key) => set.keys.push(key),
                Err(why) if set.skipped.contains(&why) => {}
                Err(why) => set.skipped.push(why),
            }
        }
        if set.keys.is_empty() {
            return Err(set.skipped().map_or(KeySetProblem::Empty, KeySetProblem::NoUsableKey));
        }
        Ok(set)
    }

    /// Creates the set of an issuer that publishes only unsupported keys.
    pub(super) fn without_keys(passed_over: Vec<String>) -> Self {
        Self { keys: Vec::new(), skipped: passed_over }
    }

    /// Returns the number of usable keys.
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// Describes the skipped keys, if there are any.
    pub(super) fn skipped(&self) -> Option<String> {
        let reasons = self.skipped.iter().take(MAX_LISTED).map(String::as_str);
        let reasons: Vec<_> = reasons.collect();
        (!reasons.is_empty()).then(|| reasons.join(", "))
    }

    /// Returns whether the set has the key with this number.
    pub(super) fn contains(&self, number: u64) -> bool {
        self.keys.iter().any(|key| key.number == number)
    }

    /// Returns the number of the key that signed a token. Tries the keys that the token's header names, or, if it names
    /// none, all keys for its algorithm.
    pub(super) fn signed_by(
        &self,
        token: &UnverifiedToken<'_>,
        signatures: &dyn SignatureVerifier,
    ) -> Result<u64, SignatureError> {
        if self.keys.is_empty() {
            let found = self.skipped().unwrap_or_default();
            let why = format!("its issuer publishes only keys that cannot be used: {found}");
            return Err(SignatureError::InvalidSignature(why.into()));
        }
        let named = self.keys.iter().filter(|key| token.kid.is_none() || key.kid == token.kid);
        let named: Vec<_> = named.collect();
        // A key id should be unique, but several keys may share one (RFC 7517, 4.5).
        let fits = |key: &&Key| key.algorithms.contains(&token.algorithm);
        let fitting: Vec<_> = named.iter().copied().filter(fits).collect();
        let wrong = match (&token.kid, named.len(), fitting.len()) {
            (Some(_), 0, _) => SignatureError::UnknownKey("it is signed by an unknown key".into()),
            (None, _, 0) => {
                SignatureError::UnknownKey("no key of its issuer is for its algorithm".into())
            }
            (Some(_), _, 0) => {
                SignatureError::InvalidSignature("its key is for another algorithm".into())
            }
            (_, _, count) if count > MAX_TRIED_KEYS => {
                let why = "more than 8 keys of its issuer match; configure the issuer to write the key id (kid) into its tokens";
                return Err(SignatureError::InvalidSignature(why.into()));
            }
            (Some(_), ..) => SignatureError::InvalidSignature("its signature is wrong".into()),
            // Without a key id, a wrong signature may mean that the key was replaced.
            (None, ..) => SignatureError::UnknownKey("its signature is wrong".into()),
        };
        let message = token.signed.as_bytes();
        let signed = fitting
            .into_iter()
            .find(|key| signatures.verify(token.algorithm, &key.public, message, &token.signature));
        signed.map(|key| key.number).ok_or(wrong)
    }
}

impl Key {
    /// Reads a key.
    ///
    /// # Errors
    /// Returns a description of the key if it cannot be used.
    fn read(entry: Value, known: &[Self], allowed: &[TokenAlgorithm]) -> Result<Self, String> {
        let JsonWebKey { kid, public, algorithms, .. } = JsonWebKey::read(entry)?;
        let fitting: Vec<_> =
            algorithms.iter().copied().filter(|algorithm| allowed.contains(algorithm)).collect();
        if fitting.is_empty() {
            let names = TokenAlgorithm::list(&algorithms);
            return Err(format!("a key for {names}, which `algorithms` does not list"));
        }
        let same = known.iter().find(|key| key.kid == kid && key.public == public);
        let number =
            same.map_or_else(|| NEXT_NUMBER.fetch_add(1, Ordering::Relaxed), |key| key.number);
        Ok(Self { number, kid, public, algorithms: fitting })
    }
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::access::identity::tests::forge::{TestKey, set};

    fn altered(forge: &TestKey, name: &str, value: Value) -> Result<KeySet, KeySetProblem> {
        let mut jwk = forge.jwk.clone();
        jwk[name] = value;
        KeySet::read(json!({ "keys": [jwk] }).to_string().as_bytes(), None, &TokenAlgorithm::ALL)
    }

    #[test]
    fn rejects_malformed_key_sets() {
        let many = json!({ "keys": vec![TestKey::ed("1").jwk; 65] }).to_string();
        let big = json!({ "keys": [], "more": "x".repeat(MAX_BYTES) }).to_string();
        for body in ["", "{}", "[]", "[[]]", "{\"keys\":5}", "{\"keys\":[", "null", &many, &big] {
            assert!(matches!(
                KeySet::read(body.as_bytes(), None, &TokenAlgorithm::ALL),
                Err(KeySetProblem::Unreadable(_))
            ));
        }
        for body in ["{\"keys\":[]}", "{\"keys\":[1,[],{},null]}"] {
            let problem = KeySet::read(body.as_bytes(), None, &TokenAlgorithm::ALL).unwrap_err();
            assert!(
                matches!(problem, KeySetProblem::NoUsableKey(_) | KeySetProblem::Empty),
                "{body}"
            );
        }
    }

    #[test]
    fn skips_weak_keys_and_keys_for_other_uses() {
        let (rsa, ec, ed) = (TestKey::rsa("r"), TestKey::ec("e"), TestKey::ed("d"));
        let weak = URL_SAFE_NO_PAD.encode([vec![0], vec![0xff; 255]].concat());
        let even = URL_SAFE_NO_PAD.encode([0xfe; 256]);
        for (forge, name, value) in [
            (&rsa, "use", json!("enc")),
            (&rsa, "key_ops", json!(["sign"])),
            (&rsa, "key_ops", json!("verify")),
            (&rsa, "alg", json!("HS256")),
            (&rsa, "alg", json!("ES256")),
            (&rsa, "kty", json!("oct")),
            (&rsa, "kty", json!("EC")),
            (&rsa, "n", json!(weak)),
            (&rsa, "n", json!(even)),
            (&rsa, "n", json!("")),
            (&rsa, "n", json!("*")),
            (&rsa, "n", json!(null)),
            (&rsa, "e", json!("AQ")),
            (&rsa, "e", json!("AA")),
            (&rsa, "e", json!("")),
            (&rsa, "kid", json!(5)),
            (&ec, "crv", json!("P-384")),
            (&ec, "crv", json!("secp256k1")),
            (&ec, "crv", json!(null)),
            (&ec, "x", json!("AAAA")),
            (&ec, "y", json!(null)),
            (&ec, "alg", json!("RS256")),
            (&ed, "crv", json!("X25519")),
            (&ed, "crv", json!("Ed448")),
            (&ed, "x", json!("AAAA")),
        ] {
            let problem = altered(forge, name, value.clone()).unwrap_err();
            assert!(matches!(problem, KeySetProblem::NoUsableKey(_)), "{name}: {value}");
        }
        for (forge, name, value, expected) in [
            (&rsa, "n", json!(weak), "an RSA key of 2040 bits"),
            (&rsa, "kty", json!("oct"), "a symmetric key"),
            (&rsa, "use", json!("enc"), "not for signatures"),
            (&rsa, "alg", json!("HS256"), "for algorithm \"HS256\""),
            (&ec, "crv", json!("secp256k1"), "curve \"secp256k1\""),
            (&ed, "crv", json!("Ed448\u{1b}[2J\n"), "curve \"Ed448[2J\""),
        ] {
            let problem = altered(forge, name, value).unwrap_err().to_string();
            assert!(problem.contains(expected), "{problem} is not {expected}");
        }
        let only = [TokenAlgorithm::Es384, TokenAlgorithm::Ps512];
        let problem = KeySet::read(set(&[&ec]).as_bytes(), None, &only).unwrap_err().to_string();
        assert!(problem.contains("a key for ES256, which `algorithms` does not list"), "{problem}");
        for (forge, name, value) in [
            (&rsa, "alg", json!("RS512")),
            (&rsa, "alg", json!("PS384")),
            (&ed, "alg", json!("Ed25519")),
            (&rsa, "use", json!("sig")),
            (&rsa, "use", json!(null)),
            (&rsa, "key_ops", json!(["sign", "verify"])),
            (&rsa, "kid", json!(null)),
            (&ec, "alg", json!("ES256")),
            (&ed, "alg", json!("EdDSA")),
            (&ed, "x5c", json!([])),
        ] {
            assert_eq!(altered(forge, name, value.clone()).unwrap().len(), 1, "{name}: {value}");
        }
    }

    #[test]
    fn an_unchanged_key_keeps_its_number() {
        let (one, two) = (TestKey::ec("1"), TestKey::ed("2"));
        let read = |text: String, before| {
            KeySet::read(text.as_bytes(), before, &TokenAlgorithm::ALL).unwrap()
        };
        let first = read(set(&[&one]), None);
        let number = first.keys[0].number;
        let second = read(set(&[&two, &one]), Some(&first));
        assert!(second.contains(number));
        assert_ne!(second.keys[0].number, number);
        assert!(!read(set(&[&two]), Some(&second)).contains(number));
        assert!(!read(set(&[&TestKey::ec("1")]), Some(&second)).contains(number));
        assert!(!read(set(&[&one]), None).contains(number));
    }

    proptest! {
        #[test]
        fn reading_a_malformed_key_set_never_panics(
            body in "\\PC{0,60}|\\{\"keys\":\\[(\\{\"kty\":\"(RSA|EC|OKP)\",\"crv\":\"(P-256|Ed25519)\",\"(n|e|x|y)\":(\"A{0,44}\"|null|1)\\}|,|\\[\\]){0,4}\\]\\}",
        ) {
            let _ = KeySet::read(body.as_bytes(), None, &TokenAlgorithm::ALL);
        }
    }
}
