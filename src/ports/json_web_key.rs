//! Reads the keys of a JSON Web Key Set (RFC 7517).

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use serde_json::Value;

use super::signature::PublicKey;
use crate::domain::TokenAlgorithm;

/// Accepted size of an RSA modulus, in bits: less is unsafe (NIST SP 800-131A), more is not supported.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// Size of a P-256 coordinate and of an Ed25519 key, in bytes.
const P256_BYTES: usize = 32;

/// Size of a P-384 coordinate, in bytes.
const P384_BYTES: usize = 48;

/// Size of a P-521 coordinate, in bytes (RFC 7518 section 6.2.1.2).
const P521_BYTES: usize = 66;

/// Maximum number of characters of a name in a message.
const MAX_NAME_CHARS: usize = 32;

/// First byte of an uncompressed point (SEC 1 section 2.3.3).
const UNCOMPRESSED: u8 = 4;

/// A key set as its issuer publishes it.
#[derive(Debug, Deserialize)]
pub struct JsonWebKeySet {
    /// The entries. [`JsonWebKey::read`] reads one, so that an unsupported key does not affect the others.
    pub keys: Vec<Value>,
}

/// A public key that verifies tokens.
#[derive(Debug)]
pub struct JsonWebKey {
    /// The key id.
    pub kid: Option<String>,
    /// The thumbprint of the key's certificate.
    pub x5t: Option<String>,
    /// The key.
    pub public: PublicKey,
    /// The algorithms of tokens that it signs: those of its key type, or the one that the key set names.
    pub algorithms: Vec<TokenAlgorithm>,
}

#[derive(Deserialize)]
struct WireKey {
    kty: String,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    kid: Option<String>,
    #[serde(default)]
    x5t: Value,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl JsonWebKey {
    /// Reads an entry of a key set.
    ///
    /// # Errors
    /// Returns a description of the key if it cannot be used.
    pub fn read(entry: Value) -> Result<Self, String> {
        let unreadable = || "an entry that is not a key".to_owned();
        if !entry.is_object() {
            return Err(unreadable());
        }
        let wire: WireKey = serde_json::from_value(entry).map_err(|_| unreadable())?;
        let signs = wire.usage.as_deref().is_none_or(|usage| usage == "sig");
        let verifies = wire.key_ops.as_ref().is_none_or(|ops| ops.iter().any(|op| op == "verify"));
        if !signs || !verifies {
            return Err(format!(
                "a key of kind {} that is not for signatures",
                printable(&wire.kty)
            ));
        }
        let public = wire.public_key()?;
        let mut algorithms = public.algorithms().to_vec();
        if let Some(name) = wire.alg.as_deref() {
            let named = TokenAlgorithm::from_name(name);
            algorithms.retain(|algorithm| Some(*algorithm) == named);
            if algorithms.is_empty() {
                return Err(format!(
                    "a key of kind {} for algorithm {}",
                    printable(&wire.kty),
                    printable(name)
                ));
            }
        }
        let x5t = wire.x5t.as_str().map(str::to_owned);
        Ok(Self { kid: wire.kid, x5t, public, algorithms })
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
            ("EC" | "OKP", Some(curve)) => Err(format!("a key on curve {}", printable(curve))),
            ("EC" | "OKP", None) => Err("a key without a curve".to_owned()),
            ("oct", _) => Err("a symmetric key, which must not be published".to_owned()),
            (kind, _) => Err(format!("a key of kind {}", printable(kind))),
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

/// Formats a name from a key set for a message: its first visible characters.
fn printable(name: &str) -> String {
    let visible = name.chars().filter(char::is_ascii_graphic);
    format!("{:?}", visible.take(MAX_NAME_CHARS).collect::<String>())
}

fn without_zeros(number: &[u8]) -> Vec<u8> {
    number.iter().copied().skip_while(|byte| *byte == 0).collect()
}

/// Returns the number of bits of a number without leading zeros.
fn bits(number: &[u8]) -> usize {
    let unused = number.first().map_or(0, |byte| byte.leading_zeros());
    number.len() * 8 - usize::try_from(unused).unwrap_or(0)
}
