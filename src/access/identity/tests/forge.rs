//! Test issuers: generated keys, and tokens with arbitrary content.

use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use aws_lc_rs::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING,
        ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair,
        KeyPair as _, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256,
        RSA_PSS_SHA384, RSA_PSS_SHA512, RsaKeyPair, RsaSignatureEncoding,
    },
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::{
    domain::TokenAlgorithm,
    ports::{JwksError, JwksSource, Random},
};

pub(in crate::access) const RSA_PEM: &str =
    include_str!("../../../../tests/fixtures/keys/rsa-2048.pkcs1.pem");
const RSA_XML: &str = include_str!("../../../../tests/fixtures/keys/rsa-2048.xml");

/// One key of an issuer.
pub(in crate::access) struct TestKey {
    /// The algorithm name in the header of its tokens.
    algorithm: &'static str,
    key: Key,
    /// The public half.
    pub(in crate::access) jwk: Value,
}

enum Key {
    Rsa(RsaKeyPair, &'static RsaSignatureEncoding),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

impl TestKey {
    pub(in crate::access) fn of(algorithm: TokenAlgorithm, kid: &str) -> Self {
        let encoding = match algorithm {
            TokenAlgorithm::Rs256 => &RSA_PKCS1_SHA256,
            TokenAlgorithm::Rs384 => &RSA_PKCS1_SHA384,
            TokenAlgorithm::Rs512 => &RSA_PKCS1_SHA512,
            TokenAlgorithm::Ps256 => &RSA_PSS_SHA256,
            TokenAlgorithm::Ps384 => &RSA_PSS_SHA384,
            TokenAlgorithm::Ps512 => &RSA_PSS_SHA512,
            TokenAlgorithm::Es256 => {
                return Self::curve(kid, "ES256", "P-256", &ECDSA_P256_SHA256_FIXED_SIGNING);
            }
            TokenAlgorithm::Es384 => {
                return Self::curve(kid, "ES384", "P-384", &ECDSA_P384_SHA384_FIXED_SIGNING);
            }
            TokenAlgorithm::Es512 => {
                return Self::curve(kid, "ES512", "P-521", &ECDSA_P521_SHA512_FIXED_SIGNING);
            }
            TokenAlgorithm::Ed25519 => return Self::ed(kid),
        };
        let number = |name: &str| {
            let (_, after) = RSA_XML.split_once(&format!("<{name}>")).unwrap();
            URL_SAFE_NO_PAD.encode(STANDARD.decode(after.split_once('<').unwrap().0).unwrap())
        };
        let (n, e) = (number("Modulus"), number("Exponent"));
        let lines = RSA_PEM.lines().filter(|line| !line.starts_with('-'));
        let der = STANDARD.decode(lines.collect::<String>()).unwrap();
        let name = algorithm.as_str();
        Self {
            algorithm: name,
            key: Key::Rsa(RsaKeyPair::from_der(&der).unwrap(), encoding),
            jwk: json!({ "kty": "RSA", "use": "sig", "alg": name, "kid": kid, "n": n, "e": e }),
        }
    }

    fn curve(
        kid: &str,
        algorithm: &'static str,
        curve: &str,
        signing: &'static EcdsaSigningAlgorithm,
    ) -> Self {
        let pair = EcdsaKeyPair::generate(signing).unwrap();
        let point = &pair.public_key().as_ref()[1..];
        let (x, y) = point.split_at(point.len() / 2);
        let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
        let jwk = json!({ "kty": "EC", "crv": curve, "kid": kid, "x": x, "y": y });
        Self { algorithm, key: Key::Ec(pair), jwk }
    }

    pub(in crate::access) fn rsa(kid: &str) -> Self {
        Self::of(TokenAlgorithm::Rs256, kid)
    }

    pub(in crate::access) fn ec(kid: &str) -> Self {
        Self::of(TokenAlgorithm::Es256, kid)
    }

    pub(in crate::access) fn ed(kid: &str) -> Self {
        let pair = Ed25519KeyPair::generate().unwrap();
        let x = URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
        let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "kid": kid, "x": x });
        Self { algorithm: "EdDSA", key: Key::Ed(pair), jwk }
    }

    pub(in crate::access) fn header(&self) -> Value {
        json!({ "alg": self.algorithm, "typ": "JWT", "kid": self.jwk["kid"] })
    }

    pub(in crate::access) fn sign(&self, claims: &Value) -> String {
        self.sign_text(&self.header().to_string(), &claims.to_string())
    }

    /// Signs with this key, regardless of the header.
    pub(in crate::access) fn sign_text(&self, header: &str, claims: &str) -> String {
        let signed =
            format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let random = SystemRandom::new();
        let signature = match &self.key {
            Key::Rsa(pair, encoding) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(*encoding, &random, signed.as_bytes(), &mut signature).unwrap();
                signature
            }
            Key::Ec(pair) => pair.sign(&random, signed.as_bytes()).unwrap().as_ref().to_vec(),
            Key::Ed(pair) => pair.sign(signed.as_bytes()).as_ref().to_vec(),
        };
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

pub(in crate::access) fn set(keys: &[&TestKey]) -> String {
    let keys: Vec<_> = keys.iter().map(|key| &key.jwk).collect();
    json!({ "keys": keys }).to_string()
}

/// A key source that returns the configured answer and counts fetches.
pub(in crate::access) struct TestKeySource {
    body: Mutex<Result<Vec<u8>, JwksError>>,
    begun: AtomicUsize,
    open: watch::Sender<bool>,
    local: bool,
}

impl TestKeySource {
    pub(in crate::access) fn new(body: &str, local: bool) -> Self {
        let body = Mutex::new(Ok(body.as_bytes().to_vec()));
        Self { body, begun: AtomicUsize::new(0), open: watch::Sender::new(true), local }
    }

    pub(in crate::access) fn publish(&self, body: &str) {
        *self.body.lock().unwrap() = Ok(body.as_bytes().to_vec());
    }

    pub(in crate::access) fn fail(&self) {
        *self.body.lock().unwrap() = Err(JwksError("out of order".to_owned()));
    }

    /// Lets fetches complete, or blocks them.
    pub(in crate::access) fn open(&self, open: bool) {
        self.open.send_replace(open);
    }

    pub(in crate::access) fn begun(&self) -> usize {
        self.begun.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl JwksSource for TestKeySource {
    async fn fetch(&self) -> Result<Vec<u8>, JwksError> {
        self.begun.fetch_add(1, Ordering::Relaxed);
        // Returns the answer that was configured when the fetch started.
        let body = self.body.lock().unwrap().clone();
        let _ = self.open.subscribe().wait_for(|open| *open).await;
        body
    }

    fn is_local(&self) -> bool {
        self.local
    }
}

/// Almost no jitter, and never a longer wait than requested.
pub(in crate::access) struct NoJitter;

impl Random for NoJitter {
    fn bytes(&self) -> [u8; 16] {
        let mut bytes = [0xff; 16];
        bytes[0] = 0x7f;
        bytes
    }
}
