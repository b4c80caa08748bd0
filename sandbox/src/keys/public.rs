//! The public key that an application registers.

use std::sync::Arc;

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rsa::PublicKeyComponents;
use aws_lc_rs::signature::{ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The error for a text that is not an RSA public key.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("not an RSA public key of 2048 bits or more, in PEM or RSAKeyValue XML")]
pub(crate) struct KeyFormatError;

#[derive(Clone, Debug)]
pub(crate) struct PublicKey(Arc<ParsedPublicKey>);

impl PublicKey {
    /// Parses PEM (`PUBLIC KEY`, `RSA PUBLIC KEY`) or `RSAKeyValue` XML.
    pub(crate) fn read(text: &str) -> Result<Self, KeyFormatError> {
        let der = if text.contains("<RSAKeyValue") { read_xml(text) } else { read_pem(text) };
        let der = der.ok_or(KeyFormatError)?;
        ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, der)
            .map(|key| Self(Arc::new(key)))
            .map_err(|_| KeyFormatError)
    }

    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.0.verify_sig(message, signature).is_ok()
    }
}

fn read_pem(text: &str) -> Option<Vec<u8>> {
    let body = ["PUBLIC KEY", "RSA PUBLIC KEY"].iter().find_map(|label| {
        let (_, rest) = text.split_once(&format!("-----BEGIN {label}-----"))?;
        let (body, _) = rest.split_once(&format!("-----END {label}-----"))?;
        Some(body)
    })?;
    decode(body)
}

fn read_xml(text: &str) -> Option<Vec<u8>> {
    let components =
        PublicKeyComponents { n: child(text, "Modulus")?, e: child(text, "Exponent")? };
    let der: PublicKeyX509Der<'_> = components.as_der().ok()?;
    Some(der.as_ref().to_vec())
}

fn child(text: &str, name: &str) -> Option<Vec<u8>> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    let (value, _) = rest.split_once(&format!("</{name}>"))?;
    let bytes = decode(value)?;
    let leading_zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    bytes.get(leading_zeros..).map(<[u8]>::to_vec)
}

/// Decodes base64 that may contain line breaks.
fn decode(text: &str) -> Option<Vec<u8>> {
    let letters: String = text.chars().filter(|letter| !letter.is_whitespace()).collect();
    STANDARD.decode(letters).ok()
}
