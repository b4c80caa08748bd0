//! Issuers of tests: keys that are made here, and tokens that say whatever a test wants.

use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use jsonwebtoken::{Algorithm, EncodingKey};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::ports::{JwksError, JwksSource, Random};

pub(in crate::access) const RSA_PEM: &str =
    include_str!("../../../../tests/fixtures/keys/rsa-2048.pkcs1.pem");
const RSA_XML: &str = include_str!("../../../../tests/fixtures/keys/rsa-2048.xml");

/// One key of an issuer.
pub(in crate::access) struct Forge {
    algorithm: Algorithm,
    key: EncodingKey,
    /// The public half.
    pub(in crate::access) jwk: Value,
}

impl Forge {
    pub(in crate::access) fn rsa(kid: &str) -> Self {
        let number = |name: &str| {
            let (_, after) = RSA_XML.split_once(&format!("<{name}>")).unwrap();
            URL_SAFE_NO_PAD.encode(STANDARD.decode(after.split_once('<').unwrap().0).unwrap())
        };
        let (n, e) = (number("Modulus"), number("Exponent"));
        Self {
            algorithm: Algorithm::RS256,
            key: EncodingKey::from_rsa_pem(RSA_PEM.as_bytes()).unwrap(),
            jwk: json!({ "kty": "RSA", "use": "sig", "alg": "RS256", "kid": kid, "n": n, "e": e }),
        }
    }

    pub(in crate::access) fn ec(kid: &str) -> Self {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let (x, y) = pair.public_key_raw()[1..].split_at(32);
        let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
        Self {
            algorithm: Algorithm::ES256,
            key: EncodingKey::from_ec_der(&pair.serialize_der()),
            jwk: json!({ "kty": "EC", "crv": "P-256", "kid": kid, "x": x, "y": y }),
        }
    }

    pub(in crate::access) fn ed(kid: &str) -> Self {
        let pair = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let x = URL_SAFE_NO_PAD.encode(pair.public_key_raw());
        Self {
            algorithm: Algorithm::EdDSA,
            key: EncodingKey::from_ed_der(&pair.serialize_der()),
            jwk: json!({ "kty": "OKP", "crv": "Ed25519", "kid": kid, "x": x }),
        }
    }

    pub(in crate::access) fn header(&self) -> Value {
        json!({ "alg": format!("{:?}", self.algorithm), "typ": "JWT", "kid": self.jwk["kid"] })
    }

    pub(in crate::access) fn sign(&self, claims: &Value) -> String {
        self.sign_text(&self.header().to_string(), &claims.to_string())
    }

    /// Signs with this key whatever the header says.
    pub(in crate::access) fn sign_text(&self, header: &str, claims: &str) -> String {
        let signed =
            format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature =
            jsonwebtoken::crypto::sign(signed.as_bytes(), &self.key, self.algorithm).unwrap();
        format!("{signed}.{signature}")
    }
}

pub(in crate::access) fn set(keys: &[&Forge]) -> String {
    let keys: Vec<_> = keys.iter().map(|key| &key.jwk).collect();
    json!({ "keys": keys }).to_string()
}

/// A source that says what it is told, and counts.
pub(in crate::access) struct Published {
    body: Mutex<Result<Vec<u8>, JwksError>>,
    begun: AtomicUsize,
    open: watch::Sender<bool>,
    local: bool,
}

impl Published {
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

    /// Whether fetches end, or hang.
    pub(in crate::access) fn open(&self, open: bool) {
        self.open.send_replace(open);
    }

    pub(in crate::access) fn begun(&self) -> usize {
        self.begun.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl JwksSource for Published {
    async fn fetch(&self) -> Result<Vec<u8>, JwksError> {
        self.begun.fetch_add(1, Ordering::Relaxed);
        // What was there when it was asked.
        let body = self.body.lock().unwrap().clone();
        let _ = self.open.subscribe().wait_for(|open| *open).await;
        body
    }

    fn is_local(&self) -> bool {
        self.local
    }
}

/// Jitter of hardly anything, and never more than asked for.
pub(in crate::access) struct NoJitter;

impl Random for NoJitter {
    fn bytes(&self) -> [u8; 16] {
        let mut bytes = [0xff; 16];
        bytes[0] = 0x7f;
        bytes
    }
}
