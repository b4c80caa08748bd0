//! PEM keys in PKCS#1 and PKCS#8, and errors for other kinds of PEM blocks.
//!
//! Parsed without a crate, because crates skip unknown blocks instead of reporting them.

use aws_lc_rs::rsa::KeyPair;
use base64::{Engine, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

use super::SigningKeyError;

/// The beginning of every block.
pub(super) const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";
const DASHES: &str = "-----";

/// Parses the only private key among the blocks of a text.
pub(super) fn parse(text: &str) -> Result<KeyPair, SigningKeyError> {
    let mut key = None;
    let mut refused = None;
    let mut rest = text;
    while let Some((block, after)) = next_block(rest)? {
        rest = after;
        match key_format(&block) {
            Ok(_) if key.is_some() => return Err(SigningKeyError::SeveralKeys),
            Ok(form) => key = Some((form, block)),
            // The first error is the most useful: a certificate may follow a key, and a key its parameters.
            Err(error) => {
                refused.get_or_insert(error);
            }
        }
    }
    match key {
        Some((form, block)) => decode(form, &block),
        None => Err(refused.unwrap_or(SigningKeyError::Unrecognized)),
    }
}

struct Block<'a> {
    label: &'a str,
    body: &'a str,
}

#[derive(Clone, Copy)]
enum KeyFormat {
    Pkcs1,
    Pkcs8,
}

/// Splits off the next block. White space is not required, because shells turn line breaks into spaces.
fn next_block(text: &str) -> Result<Option<(Block<'_>, &str)>, SigningKeyError> {
    let Some((_, after_begin)) = text.split_once(BEGIN) else {
        return Ok(None);
    };
    let (label, after_label) = after_begin.split_once(DASHES).ok_or(SigningKeyError::CutOff)?;
    let (body, after_body) = after_label.split_once(END).ok_or(SigningKeyError::CutOff)?;
    let after = after_body
        .strip_prefix(label)
        .and_then(|after| after.strip_prefix(DASHES))
        .ok_or(SigningKeyError::CutOff)?;
    Ok(Some((Block { label, body }, after)))
}

fn key_format(block: &Block<'_>) -> Result<KeyFormat, SigningKeyError> {
    match block.label {
        // OpenSSL's own encryption of PKCS#1, which is older than encrypted PKCS#8.
        _ if block.body.contains("4,ENCRYPTED") => Err(SigningKeyError::Encrypted),
        "ENCRYPTED PRIVATE KEY" => Err(SigningKeyError::Encrypted),
        "RSA PRIVATE KEY" => Ok(KeyFormat::Pkcs1),
        "PRIVATE KEY" => Ok(KeyFormat::Pkcs8),
        "PUBLIC KEY" | "RSA PUBLIC KEY" => Err(SigningKeyError::PublicOnly),
        "CERTIFICATE" | "X509 CERTIFICATE" | "TRUSTED CERTIFICATE" => {
            Err(SigningKeyError::Certificate)
        }
        "EC PRIVATE KEY" | "EC PARAMETERS" => Err(SigningKeyError::NotRsa("an elliptic curve key")),
        "OPENSSH PRIVATE KEY" => Err(SigningKeyError::NotRsa("a key in OpenSSH's own format")),
        "DSA PRIVATE KEY" => Err(SigningKeyError::NotRsa("a DSA key")),
        "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST" => {
            Err(SigningKeyError::NotRsa("a certificate request"))
        }
        // The label is not repeated in the message, because a damaged text may have anything here.
        _ => Err(SigningKeyError::NotRsa("PEM of an unknown kind")),
    }
}

fn decode(form: KeyFormat, block: &Block<'_>) -> Result<KeyPair, SigningKeyError> {
    let der = decode_base64(block.body).ok_or(SigningKeyError::Base64("PEM"))?;
    match form {
        KeyFormat::Pkcs1 => KeyPair::from_der(&der),
        KeyFormat::Pkcs8 => KeyPair::from_pkcs8(&der),
    }
    .map_err(|rejected| SigningKeyError::rejected(rejected, SigningKeyError::Encoding))
}

/// Decodes standard base64 with white space anywhere in it.
pub(super) fn decode_base64(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    // Both are allocated once: growing would leave copies in memory that are not zeroed.
    let mut dense = Zeroizing::new(String::with_capacity(text.len()));
    dense.extend(text.split_ascii_whitespace());
    let mut decoded = Zeroizing::new(Vec::with_capacity(dense.len()));
    STANDARD.decode_vec(dense.as_str(), &mut decoded).ok()?;
    Some(decoded)
}
