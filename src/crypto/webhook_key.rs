//! The shared secret for the webhooks of an application.

use std::fmt;

use aws_lc_rs::hmac::{self, HMAC_SHA256};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use secrecy::{ExposeSecret as _, SecretString};

use crate::ports::WebhookVerifier;

/// HMAC-SHA256 (RFC 2104) over the raw body, in base64. The key is the secret in UTF-8.
pub struct WebhookKey(hmac::Key);

impl WebhookKey {
    /// Returns the key for a secret.
    #[must_use]
    pub fn new(secret: &SecretString) -> Self {
        Self(hmac::Key::new(HMAC_SHA256, secret.expose_secret().as_bytes()))
    }
}

impl WebhookVerifier for WebhookKey {
    fn is_signature_valid(&self, body: &[u8], signature: &[u8]) -> bool {
        let Ok(tag) = STANDARD.decode(signature) else { return false };
        hmac::verify(&self.0, body, &tag).is_ok()
    }
}

/// Prints nothing of the key.
impl fmt::Debug for WebhookKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookKey")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Created with OpenSSL: `printf '{"EventId":"1"}' | openssl dgst -sha256 -hmac blåbær -binary | base64`.
    const BODY: &[u8] = br#"{"EventId":"1"}"#;
    const SIGNATURE: &str = "VN3fVyBayE2ZKw1wk87sXJ/lR6BaO9+KZ0qc0iKRJ88=";

    #[test]
    fn accepts_the_signature_of_the_body() {
        let key = WebhookKey::new(&"blåbær".to_owned().into());
        assert!(key.is_signature_valid(BODY, SIGNATURE.as_bytes()));
    }

    #[test]
    fn rejects_any_other_signature() {
        let key = WebhookKey::new(&"blåbær".to_owned().into());
        let other = WebhookKey::new(&"blabaer".to_owned().into());
        assert!(!other.is_signature_valid(BODY, SIGNATURE.as_bytes()));
        assert!(!key.is_signature_valid(&BODY[1..], SIGNATURE.as_bytes()));
        assert!(!key.is_signature_valid(b"", SIGNATURE.as_bytes()));
        let whole = STANDARD.decode(SIGNATURE).unwrap();
        let digits = |byte: &u8| format!("{byte:02x}");
        let hex: String = whole.iter().map(digits).collect();
        for wrong in [
            "",
            "=",
            "å",
            &SIGNATURE[1..],
            &SIGNATURE[..20],
            &SIGNATURE.replace('=', ""),
            &format!(" {SIGNATURE}"),
            &format!("sha256={SIGNATURE}"),
            &hex,
            &STANDARD.encode(&whole[..31]),
            &STANDARD.encode([0; 32]),
        ] {
            assert!(!key.is_signature_valid(BODY, wrong.as_bytes()), "{wrong}");
        }
    }

    #[test]
    fn debug_output_does_not_contain_the_key() {
        assert_eq!(format!("{:?}", WebhookKey::new(&"blåbær".to_owned().into())), "WebhookKey");
    }
}
