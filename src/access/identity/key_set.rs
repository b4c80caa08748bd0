//! The public keys of an issuer (RFC 7517).

use std::{
    borrow::Cow,
    sync::atomic::{AtomicU64, Ordering},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use serde_json::Value;

use super::token::Unverified;
use crate::{
    domain::TokenAlgorithm,
    ports::{PublicKey, SignatureVerifier},
};

/// More than this is no key set.
const MAX_BYTES: usize = 256 * 1024;

/// An issuer has a handful of keys. One that publishes more is refused, so that no key is passed over in silence.
const MAX_KEYS: usize = 64;

/// Bits of an RSA modulus: no less is safe (NIST SP 800-131A), and no more can be used.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// Bytes of a coordinate of P-256, and of an Ed25519 key.
const P256_BYTES: usize = 32;

/// Bytes of a coordinate of P-384.
const P384_BYTES: usize = 48;

/// Bytes of a coordinate of P-521 (RFC 7518 section 6.2.1.2).
const P521_BYTES: usize = 66;

/// Keys that are tried for one token. A token names its key; issuers that let it be guessed have two or three, during
/// a rollover. Each try costs up to half a millisecond, before anybody knows who calls.
const MAX_TRIED: usize = 8;

/// Reasons that are told of keys that cannot be used.
const MAX_TOLD: usize = 8;

/// Characters of a name that is told.
const MAX_NAME_CHARS: usize = 32;

/// The first byte of an uncompressed point (SEC 1 section 2.3.3).
const UNCOMPRESSED: u8 = 4;

/// The number of the next key that was not seen before.
static NEXT_NUMBER: AtomicU64 = AtomicU64::new(1);

/// The keys of one issuer that can be used.
#[derive(Debug)]
pub(crate) struct KeySet {
    keys: Vec<Key>,
    /// Why other keys in the set cannot be used, each reason once.
    passed_over: Vec<String>,
}

/// Why a key set is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum KeySetProblem {
    /// The text is no key set.
    #[error("what was read is no JSON Web Key Set: {0}")]
    Unreadable(&'static str),
    /// The set is empty.
    #[error("the key set has no key that can be used: it is empty")]
    Empty,
    /// The set holds keys, and none can be used; describes them.
    #[error("the key set has no key that can be used: {0}")]
    NoUsableKey(String),
}

#[derive(Debug)]
struct Key {
    /// Dies with the key: a set that is read again gives the same key the same number, and any other another.
    number: u64,
    kid: Option<String>,
    public: PublicKey,
    /// The algorithms of its tokens: those of its kind, or the one that the key set names.
    algorithms: Vec<TokenAlgorithm>,
}

/// Why no key of a set signed a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NotSigned {
    /// The key may have been published since.
    Unknown(Cow<'static, str>),
    /// The key is known.
    Wrong(Cow<'static, str>),
}

impl NotSigned {
    pub(super) fn why(self) -> Cow<'static, str> {
        let (Self::Unknown(why) | Self::Wrong(why)) = self;
        why
    }
}

#[derive(Deserialize)]
struct WireKeys {
    keys: Vec<Value>,
}

#[derive(Deserialize)]
struct WireKey {
    kty: String,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    kid: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl KeySet {
    /// Reads a key set. Keys that cannot be used with `algorithms` are passed over; those that were in `before` keep
    /// their numbers.
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
            return unreadable("it is no JSON object");
        }
        let Ok(wire) = serde_json::from_slice::<WireKeys>(body) else {
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
                Err(why) if set.passed_over.contains(&why) => {}
                Err(why) => set.passed_over.push(why),
            }
        }
        if set.keys.is_empty() {
            return Err(set.passed_over().map_or(KeySetProblem::Empty, KeySetProblem::NoUsableKey));
        }
        Ok(set)
    }

    /// A set of an issuer that publishes no key that can be used.
    pub(super) fn without_keys(passed_over: Vec<String>) -> Self {
        Self { keys: Vec::new(), passed_over }
    }

    /// How many keys can be used.
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// Describes the keys that cannot be used, if there are any.
    pub(super) fn passed_over(&self) -> Option<String> {
        let told = self.passed_over.iter().take(MAX_TOLD).map(String::as_str);
        let told: Vec<_> = told.collect();
        (!told.is_empty()).then(|| told.join(", "))
    }

    /// Whether the key of this number is in it.
    pub(super) fn contains(&self, number: u64) -> bool {
        self.keys.iter().any(|key| key.number == number)
    }

    /// Returns the number of the key that signed a token: of the keys that its header names, or, if it names none, of
    /// all keys for its algorithm.
    pub(super) fn signed_by(
        &self,
        token: &Unverified<'_>,
        signatures: &dyn SignatureVerifier,
    ) -> Result<u64, NotSigned> {
        if self.keys.is_empty() {
            let found = self.passed_over().unwrap_or_default();
            let why = format!("its issuer publishes only keys that cannot be used: {found}");
            return Err(NotSigned::Wrong(why.into()));
        }
        let named = self.keys.iter().filter(|key| token.kid.is_none() || key.kid == token.kid);
        let named: Vec<_> = named.collect();
        // A name is meant for one key, but several may share one (RFC 7517, 4.5).
        let fits = |key: &&Key| key.algorithms.contains(&token.algorithm);
        let fitting: Vec<_> = named.iter().copied().filter(fits).collect();
        let wrong = match (&token.kid, named.len(), fitting.len()) {
            (Some(_), 0, _) => NotSigned::Unknown("it is signed by an unknown key".into()),
            (None, _, 0) => NotSigned::Unknown("no key of its issuer is for its algorithm".into()),
            (Some(_), _, 0) => NotSigned::Wrong("its key is for another algorithm".into()),
            (_, _, count) if count > MAX_TRIED => {
                let why = "more than 8 keys of its issuer can be meant; have the issuer write the key's name (kid)";
                return Err(NotSigned::Wrong(why.into()));
            }
            (Some(_), ..) => NotSigned::Wrong("its signature is wrong".into()),
            // Without a name, a key that was replaced is known by its signature only.
            (None, ..) => NotSigned::Unknown("its signature is wrong".into()),
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
    /// If it cannot be used: says what it is.
    fn read(wire: Value, known: &[Self], allowed: &[TokenAlgorithm]) -> Result<Self, String> {
        let unreadable = || "an entry that is no key".to_owned();
        if !wire.is_object() {
            return Err(unreadable());
        }
        let wire: WireKey = serde_json::from_value(wire).map_err(|_| unreadable())?;
        let signs = wire.usage.as_deref().is_none_or(|usage| usage == "sig");
        let verifies = wire.key_ops.as_ref().is_none_or(|ops| ops.iter().any(|op| op == "verify"));
        if !signs || !verifies {
            return Err(format!("a key of kind {} that is not for signatures", told(&wire.kty)));
        }
        let public = wire.public_key()?;
        let mut algorithms = public.algorithms().to_vec();
        if let Some(name) = wire.alg.as_deref() {
            let named = TokenAlgorithm::from_name(name);
            algorithms.retain(|algorithm| Some(*algorithm) == named);
            if algorithms.is_empty() {
                return Err(format!(
                    "a key of kind {} for algorithm {}",
                    told(&wire.kty),
                    told(name)
                ));
            }
        }
        let fitting: Vec<_> =
            algorithms.iter().copied().filter(|algorithm| allowed.contains(algorithm)).collect();
        if fitting.is_empty() {
            let names = TokenAlgorithm::list(&algorithms);
            return Err(format!("a key for {names}, which `algorithms` does not list"));
        }
        let same = known.iter().find(|key| key.kid == wire.kid && key.public == public);
        let number =
            same.map_or_else(|| NEXT_NUMBER.fetch_add(1, Ordering::Relaxed), |key| key.number);
        Ok(Self { number, kid: wire.kid, public, algorithms: fitting })
    }
}

impl WireKey {
    fn public_key(&self) -> Result<PublicKey, String> {
        let bytes = |text: &Option<String>| URL_SAFE_NO_PAD.decode(text.as_deref()?).ok();
        let point = |length: usize| {
            let coordinate = |text| bytes(text).filter(|bytes| bytes.len() == length);
            let (x, y) = coordinate(&self.x)
                .zip(coordinate(&self.y))
                .ok_or("an EC key that is malformed")?;
            Ok([&[UNCOMPRESSED][..], &x, &y].concat())
        };
        match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", _) => self.rsa(),
            ("EC", Some("P-256")) => point(P256_BYTES).map(PublicKey::P256),
            ("EC", Some("P-384")) => point(P384_BYTES).map(PublicKey::P384),
            ("EC", Some("P-521")) => point(P521_BYTES).map(PublicKey::P521),
            ("OKP", Some("Ed25519")) => {
                let key = bytes(&self.x).filter(|key| key.len() == P256_BYTES);
                key.map(PublicKey::Ed25519)
                    .ok_or_else(|| "an Ed25519 key that is malformed".to_owned())
            }
            ("EC" | "OKP", Some(curve)) => Err(format!("a key on curve {}", told(curve))),
            ("EC" | "OKP", None) => Err("a key without a curve".to_owned()),
            ("oct", _) => Err("a symmetric key, which must not be published".to_owned()),
            (kind, _) => Err(format!("a key of kind {}", told(kind))),
        }
    }

    fn rsa(&self) -> Result<PublicKey, String> {
        let number = |text: &Option<String>| {
            let bytes = URL_SAFE_NO_PAD.decode(text.as_deref()?).ok()?;
            Some(without_zeros(&bytes))
        };
        let malformed = || "an RSA key that is malformed".to_owned();
        let (n, e) = number(&self.n).zip(number(&self.e)).ok_or_else(malformed)?;
        if !RSA_BITS.contains(&bits(&n)) {
            return Err(format!("an RSA key of {} bits", bits(&n)));
        }
        let odd = |number: &[u8]| number.last().is_some_and(|byte| byte & 1 == 1);
        if !odd(&n) || !odd(&e) || e == [1] {
            return Err(malformed());
        }
        Ok(PublicKey::Rsa { n, e })
    }
}

/// A name from a key set, for a message: its first visible characters.
fn told(name: &str) -> String {
    let visible = name.chars().filter(char::is_ascii_graphic);
    format!("{:?}", visible.take(MAX_NAME_CHARS).collect::<String>())
}

fn without_zeros(number: &[u8]) -> Vec<u8> {
    number.iter().copied().skip_while(|byte| *byte == 0).collect()
}

/// Of a number without leading zeros.
fn bits(number: &[u8]) -> usize {
    let unused = number.first().map_or(0, |byte| byte.leading_zeros());
    number.len() * 8 - usize::try_from(unused).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::access::identity::tests::forge::{Forge, set};

    fn altered(forge: &Forge, name: &str, value: Value) -> Result<KeySet, KeySetProblem> {
        let mut jwk = forge.jwk.clone();
        jwk[name] = value;
        KeySet::read(json!({ "keys": [jwk] }).to_string().as_bytes(), None, &TokenAlgorithm::ALL)
    }

    #[test]
    fn what_is_no_key_set_is_refused() {
        let many = json!({ "keys": vec![Forge::ed("1").jwk; 65] }).to_string();
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
    fn keys_that_are_weak_or_for_something_else_are_passed_over() {
        let (rsa, ec, ed) = (Forge::rsa("r"), Forge::ec("e"), Forge::ed("d"));
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
        for (forge, name, value, told) in [
            (&rsa, "n", json!(weak), "an RSA key of 2040 bits"),
            (&rsa, "kty", json!("oct"), "a symmetric key"),
            (&rsa, "use", json!("enc"), "not for signatures"),
            (&rsa, "alg", json!("HS256"), "for algorithm \"HS256\""),
            (&ec, "crv", json!("secp256k1"), "curve \"secp256k1\""),
            (&ed, "crv", json!("Ed448\u{1b}[2J\n"), "curve \"Ed448[2J\""),
        ] {
            let problem = altered(forge, name, value).unwrap_err().to_string();
            assert!(problem.contains(told), "{problem} is not {told}");
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
    fn a_key_keeps_its_number_as_long_as_it_stays_the_same() {
        let (one, two) = (Forge::ec("1"), Forge::ed("2"));
        let read = |text: String, before| {
            KeySet::read(text.as_bytes(), before, &TokenAlgorithm::ALL).unwrap()
        };
        let first = read(set(&[&one]), None);
        let number = first.keys[0].number;
        let second = read(set(&[&two, &one]), Some(&first));
        assert!(second.contains(number));
        assert_ne!(second.keys[0].number, number);
        assert!(!read(set(&[&two]), Some(&second)).contains(number));
        assert!(!read(set(&[&Forge::ec("1")]), Some(&second)).contains(number));
        assert!(!read(set(&[&one]), None).contains(number));
    }

    proptest! {
        #[test]
        fn no_body_breaks_the_reading(
            body in "\\PC{0,60}|\\{\"keys\":\\[(\\{\"kty\":\"(RSA|EC|OKP)\",\"crv\":\"(P-256|Ed25519)\",\"(n|e|x|y)\":(\"A{0,44}\"|null|1)\\}|,|\\[\\]){0,4}\\]\\}",
        ) {
            let _ = KeySet::read(body.as_bytes(), None, &TokenAlgorithm::ALL);
        }
    }
}
