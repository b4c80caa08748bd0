//! A private key in the formats that application developers receive.

use std::fmt::Write as _;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::KeyPair as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::der::Reader;
use super::pem::write_pem;

/// The children of `RSAKeyValue` in the order that .NET writes, each with its index among the
/// integers of a PKCS #1 private key.
const XML_CHILDREN: [(&str, usize); 8] = [
    ("Modulus", 0),
    ("Exponent", 1),
    ("P", 3),
    ("Q", 4),
    ("DP", 5),
    ("DQ", 6),
    ("InverseQ", 7),
    ("D", 2),
];

pub(crate) struct PrivateKey {
    pair: KeyPair,
    pkcs8: Pkcs8V1Der<'static>,
}

impl PrivateKey {
    pub(crate) fn generate() -> Result<Self, Unspecified> {
        let pair = KeyPair::generate(KeySize::Rsa2048)?;
        let pkcs8 = pair.as_der()?;
        Ok(Self { pair, pkcs8 })
    }

    /// Returns the key as PKCS #8 in PEM.
    pub(crate) fn pem(&self) -> String {
        write_pem("PRIVATE KEY", self.pkcs8.as_ref())
    }

    /// Returns the key as `RSAKeyValue`, the format of the developer portal.
    pub(crate) fn xml(&self) -> Result<String, Unspecified> {
        let integers = integers(self.pkcs8.as_ref()).ok_or(Unspecified)?;
        let mut xml = String::from("<RSAKeyValue>");
        for (name, place) in XML_CHILDREN {
            let value = STANDARD.encode(integers.get(place).ok_or(Unspecified)?);
            // Writing to a string cannot fail.
            let _ = write!(xml, "<{name}>{value}</{name}>");
        }
        xml.push_str("</RSAKeyValue>");
        Ok(xml)
    }

    pub(crate) fn public_pem(&self) -> Result<String, Unspecified> {
        let der: PublicKeyX509Der<'_> = self.pair.public_key().as_der()?;
        Ok(write_pem("PUBLIC KEY", der.as_ref()))
    }
}

/// Returns the integers n, e, d, p, q, dP, dQ, qInv of a PKCS #8 key.
fn integers(pkcs8: &[u8]) -> Option<Vec<&[u8]>> {
    let mut outer = Reader::new(pkcs8).sequence()?;
    outer.integer()?; // version
    outer.sequence()?; // algorithm
    let mut key = outer.octet_string()?.sequence()?;
    key.integer()?; // version
    (0..XML_CHILDREN.len()).map(|_| key.integer()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::PublicKey;

    #[test]
    fn xml_and_pem_describe_the_same_public_key() {
        let key = PrivateKey::generate().unwrap();
        let mut signature = vec![0; 256];
        let random = aws_lc_rs::rand::SystemRandom::new();
        let padding = &aws_lc_rs::signature::RSA_PKCS1_SHA256;
        key.pair.sign(padding, &random, b"message", &mut signature).unwrap();
        let decorated = format!("\u{feff}<?xml version=\"1.0\"?>\n{}", key.xml().unwrap());
        for text in [key.public_pem().unwrap(), key.xml().unwrap(), decorated] {
            assert!(PublicKey::read(&text).unwrap().verifies(b"message", &signature));
        }
        assert!(PublicKey::read(&key.pem()).is_err());
    }
}
