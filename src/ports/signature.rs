//! Verifying signatures of tokens.

use crate::domain::TokenAlgorithm;

/// A public key of an issuer, as its key set publishes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublicKey {
    /// An RSA key: modulus and exponent, big-endian, without leading zeros.
    Rsa {
        /// The modulus.
        n: Vec<u8>,
        /// The exponent.
        e: Vec<u8>,
    },
    /// A point on P-256, uncompressed (SEC 1 section 2.3.3).
    P256(Vec<u8>),
    /// A point on P-384, uncompressed.
    P384(Vec<u8>),
    /// A point on P-521, uncompressed.
    P521(Vec<u8>),
    /// An Ed25519 key (RFC 8032 section 5.1.5).
    Ed25519(Vec<u8>),
}

impl PublicKey {
    /// Returns the algorithms that this kind of key can verify.
    #[must_use]
    pub fn algorithms(&self) -> &'static [TokenAlgorithm] {
        use TokenAlgorithm::{
            Ed25519, Es256, Es384, Es512, Ps256, Ps384, Ps512, Rs256, Rs384, Rs512,
        };
        match self {
            Self::Rsa { .. } => &[Rs256, Rs384, Rs512, Ps256, Ps384, Ps512],
            Self::P256(_) => &[Es256],
            Self::P384(_) => &[Es384],
            Self::P521(_) => &[Es512],
            Self::Ed25519(_) => &[Ed25519],
        }
    }
}

/// Verifies signatures in the form of RFC 7518 section 3.
pub trait SignatureVerifier: Send + Sync {
    /// Returns whether `key` made `signature` over `message` with `algorithm`. Returns `false` for a key of another
    /// kind, a malformed key and a malformed signature.
    fn verify(
        &self,
        algorithm: TokenAlgorithm,
        key: &PublicKey,
        message: &[u8],
        signature: &[u8],
    ) -> bool;
}
