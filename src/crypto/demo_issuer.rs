//! A token issuer for the command `dev`. Its key lives as long as the process.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use secrecy::SecretString;
use serde_json::json;

use crate::ports::SignError;

/// The id of the only key.
const KEY_ID: &str = "demo";

/// Signs tokens with a new Ed25519 key (RFC 8037).
pub struct DemoIssuer {
    key: Ed25519KeyPair,
    issuer: &'static str,
}

impl DemoIssuer {
    /// Generates the key.
    ///
    /// # Errors
    /// If the system provides no random bytes.
    pub fn generate(issuer: &'static str) -> Result<Self, SignError> {
        let key = Ed25519KeyPair::generate().map_err(|_| SignError)?;
        Ok(Self { key, issuer })
    }

    /// Returns the public key as a JWK set (RFC 7517).
    #[must_use]
    pub fn jwks(&self) -> String {
        let x = URL_SAFE_NO_PAD.encode(self.key.public_key().as_ref());
        json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": KEY_ID, "x": x }] })
            .to_string()
    }

    /// Returns a token for a subject (RFC 7519).
    #[must_use]
    pub fn token(
        &self,
        subject: &str,
        audience: &str,
        now: Timestamp,
        expire_time: Timestamp,
    ) -> SecretString {
        let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let header = part(json!({ "alg": "EdDSA", "typ": "JWT", "kid": KEY_ID }));
        let claims = part(json!({
            "iss": self.issuer,
            "sub": subject,
            "aud": audience,
            "iat": now.as_second(),
            "exp": expire_time.as_second(),
        }));
        let signed = format!("{header}.{claims}");
        let signature = URL_SAFE_NO_PAD.encode(self.key.sign(signed.as_bytes()));
        format!("{signed}.{signature}").into()
    }
}
