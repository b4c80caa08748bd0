//! The public keys of an issuer (RFC 7517).

use std::sync::atomic::{AtomicU64, Ordering};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::DecodingKey;
use serde::Deserialize;
use serde_json::Value;

use super::token::{Algorithm, Unverified};

/// More than this is no key set.
const MAX_BYTES: usize = 256 * 1024;

/// An issuer has a handful of keys. One that publishes more is refused, so that no key is passed over in silence.
const MAX_KEYS: usize = 64;

/// Bits of an RSA modulus: no less is safe (NIST SP 800-131A), and no more can be used.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// Bytes of a coordinate of P-256, and of an Ed25519 key.
const COORDINATE_BYTES: usize = 32;

/// The number of the next key that was not seen before.
static NEXT_NUMBER: AtomicU64 = AtomicU64::new(1);

/// The keys of one issuer that can be used: at least one.
#[derive(Debug)]
pub(crate) struct KeySet {
    keys: Vec<Key>,
}

/// Why a key set is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum KeySetProblem {
    /// It is no key set.
    #[error("what was read is no JSON Web Key Set: {0}")]
    Unreadable(&'static str),
    /// It is one, and all keys that could be believed are gone.
    #[error(
        "the key set has no key that can be used: RSA of 2048 bits or more, EC P-256 or Ed25519, for signatures"
    )]
    NoUsableKey,
}

#[derive(Debug)]
struct Key {
    /// Dies with the key: a set that is read again gives the same key the same number, and any other another.
    number: u64,
    kid: Option<String>,
    material: Material,
    decoding: DecodingKey,
}

/// Why no key of a set signed a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotSigned {
    /// The key may have been published since.
    Unknown(&'static str),
    /// The key is known.
    Wrong(&'static str),
}

impl NotSigned {
    pub(super) fn why(self) -> &'static str {
        let (Self::Unknown(why) | Self::Wrong(why)) = self;
        why
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Material {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    P256([u8; COORDINATE_BYTES], [u8; COORDINATE_BYTES]),
    Ed25519([u8; COORDINATE_BYTES]),
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
    /// Reads a key set. Keys that cannot be used are passed over; those that were in `before` keep their numbers.
    pub(crate) fn read(body: &[u8], before: Option<&Self>) -> Result<Self, KeySetProblem> {
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
        let keys: Vec<Key> =
            wire.keys.into_iter().filter_map(|key| Key::read(key, known)).collect();
        if keys.is_empty() { Err(KeySetProblem::NoUsableKey) } else { Ok(Self { keys }) }
    }

    /// How many keys can be used.
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether the key of this number is in it.
    pub(super) fn contains(&self, number: u64) -> bool {
        self.keys.iter().any(|key| key.number == number)
    }

    /// The number of the key that signed a token: one that its header names, or the only one for its algorithm.
    pub(super) fn signed_by(&self, token: &Unverified<'_>) -> Result<u64, NotSigned> {
        let named = self.keys.iter().filter(|key| token.kid.is_none() || key.kid == token.kid);
        let named: Vec<_> = named.collect();
        // A name is meant for one key, but several may share one (RFC 7517, 4.5).
        let fits = |key: &&Key| key.material.algorithm() == token.algorithm;
        let fitting: Vec<_> = named.iter().copied().filter(fits).collect();
        let wrong = match (&token.kid, named.len(), fitting.len()) {
            (Some(_), 0, _) => return Err(NotSigned::Unknown("it is signed by an unknown key")),
            (None, _, 0 | 2..) => {
                let why = "it names no key, and not exactly one key can be meant";
                return Err(NotSigned::Unknown(why));
            }
            (Some(_), _, 0) => NotSigned::Wrong("its key is for another algorithm"),
            (Some(_), ..) => NotSigned::Wrong("its signature is wrong"),
            // Without a name, a key that was replaced is known by its signature only.
            (None, ..) => NotSigned::Unknown("its signature is wrong"),
        };
        let signed = fitting.into_iter().find(|key| key.signed(token));
        signed.map(|key| key.number).ok_or(wrong)
    }
}

impl Key {
    /// `None` for a key that is for something else, is weak, or is none.
    fn read(wire: Value, known: &[Self]) -> Option<Self> {
        if !wire.is_object() {
            return None;
        }
        let wire: WireKey = serde_json::from_value(wire).ok()?;
        let signs = wire.usage.as_deref().is_none_or(|usage| usage == "sig");
        let verifies = wire.key_ops.as_ref().is_none_or(|ops| ops.iter().any(|op| op == "verify"));
        if !signs || !verifies {
            return None;
        }
        let (material, decoding) = Material::read(&wire)?;
        let algorithm = material.algorithm();
        if wire.alg.as_deref().is_some_and(|alg| Algorithm::from_name(alg) != Some(algorithm)) {
            return None;
        }
        let same = known.iter().find(|key| key.kid == wire.kid && key.material == material);
        let number =
            same.map_or_else(|| NEXT_NUMBER.fetch_add(1, Ordering::Relaxed), |key| key.number);
        Some(Self { number, kid: wire.kid, material, decoding })
    }

    fn signed(&self, token: &Unverified<'_>) -> bool {
        let algorithm = match self.material.algorithm() {
            Algorithm::Rs256 => jsonwebtoken::Algorithm::RS256,
            Algorithm::Es256 => jsonwebtoken::Algorithm::ES256,
            Algorithm::EdDsa => jsonwebtoken::Algorithm::EdDSA,
        };
        let message = token.signed.as_bytes();
        jsonwebtoken::crypto::verify(token.signature, message, &self.decoding, algorithm)
            .unwrap_or(false)
    }
}

impl Material {
    fn read(wire: &WireKey) -> Option<(Self, DecodingKey)> {
        let bytes = |text: &Option<String>| URL_SAFE_NO_PAD.decode(text.as_deref()?).ok();
        let coordinate = |text: &Option<String>| bytes(text)?.try_into().ok();
        match (wire.kty.as_str(), wire.crv.as_deref()) {
            ("RSA", _) => {
                let (n, e) = (without_zeros(&bytes(&wire.n)?), without_zeros(&bytes(&wire.e)?));
                let odd = |number: &[u8]| number.last().is_some_and(|byte| byte & 1 == 1);
                if !RSA_BITS.contains(&bits(&n)) || !odd(&n) || !odd(&e) || e == [1] {
                    return None;
                }
                let decoding = DecodingKey::from_rsa_raw_components(&n, &e);
                Some((Self::Rsa { n, e }, decoding))
            }
            ("EC", Some("P-256")) => {
                let (x, y) = (coordinate(&wire.x)?, coordinate(&wire.y)?);
                let decoding =
                    DecodingKey::from_ec_components(wire.x.as_deref()?, wire.y.as_deref()?).ok()?;
                Some((Self::P256(x, y), decoding))
            }
            ("OKP", Some("Ed25519")) => {
                let x = coordinate(&wire.x)?;
                let decoding = DecodingKey::from_ed_components(wire.x.as_deref()?).ok()?;
                Some((Self::Ed25519(x), decoding))
            }
            _ => None,
        }
    }

    fn algorithm(&self) -> Algorithm {
        match self {
            Self::Rsa { .. } => Algorithm::Rs256,
            Self::P256(..) => Algorithm::Es256,
            Self::Ed25519(_) => Algorithm::EdDsa,
        }
    }
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
        KeySet::read(json!({ "keys": [jwk] }).to_string().as_bytes(), None)
    }

    #[test]
    fn what_is_no_key_set_is_refused() {
        let many = json!({ "keys": vec![Forge::ed("1").jwk; 65] }).to_string();
        let big = json!({ "keys": [], "more": "x".repeat(MAX_BYTES) }).to_string();
        for body in ["", "{}", "[]", "[[]]", "{\"keys\":5}", "{\"keys\":[", "null", &many, &big] {
            assert!(matches!(
                KeySet::read(body.as_bytes(), None),
                Err(KeySetProblem::Unreadable(_))
            ));
        }
        for body in ["{\"keys\":[]}", "{\"keys\":[1,[],{},null]}"] {
            assert_eq!(
                KeySet::read(body.as_bytes(), None).unwrap_err(),
                KeySetProblem::NoUsableKey
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
            (&rsa, "alg", json!("RS512")),
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
            assert_eq!(problem, KeySetProblem::NoUsableKey, "{name}: {value}");
        }
        for (forge, name, value) in [
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
        let read = |text: String, before| KeySet::read(text.as_bytes(), before).unwrap();
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
            let _ = KeySet::read(body.as_bytes(), None);
        }
    }
}
