//! The signature algorithms of callers' tokens.

use std::fmt;

/// A signature algorithm of tokens (RFC 7518 section 3.1, RFC 8037 section 3.1, RFC 9864).
///
/// All are asymmetric. `none` and HMAC are not supported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TokenAlgorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    Rs384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    Rs512,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// RSASSA-PSS with SHA-384.
    Ps384,
    /// RSASSA-PSS with SHA-512.
    Ps512,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// ECDSA on P-521 with SHA-512.
    Es512,
    /// `EdDSA` with Ed25519.
    Ed25519,
}

/// The older name of Ed25519. RFC 9864 deprecates it, but most issuers still use it.
const ED_DSA: &str = "EdDSA";

impl TokenAlgorithm {
    /// Every supported algorithm.
    pub const ALL: [Self; 10] = [
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Es256,
        Self::Es384,
        Self::Es512,
        Self::Ed25519,
    ];

    /// Returns the name in token headers and key sets.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Es512 => "ES512",
            Self::Ed25519 => "Ed25519",
        }
    }

    /// Returns the algorithm with this name. Names are case-sensitive (RFC 7515 section 4.1.1).
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        if name == ED_DSA {
            return Some(Self::Ed25519);
        }
        Self::ALL.into_iter().find(|algorithm| algorithm.as_str() == name)
    }

    /// Formats names for a message: "RS256, ES256 or Ed25519".
    #[must_use]
    pub fn list(algorithms: &[Self]) -> String {
        let names: Vec<_> = algorithms.iter().map(|algorithm| algorithm.as_str()).collect();
        match names.as_slice() {
            [first @ .., last] if !first.is_empty() => format!("{} or {last}", first.join(", ")),
            names => names.concat(),
        }
    }
}

impl fmt::Display for TokenAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejects_unlisted_algorithm_names() {
        for name in
            ["", "none", "None", "HS256", "HS512", "rs256", "RS1", "ES256K", "Ed448", "eddsa"]
        {
            assert_eq!(TokenAlgorithm::from_name(name), None, "{name}");
        }
        for algorithm in TokenAlgorithm::ALL {
            assert_eq!(TokenAlgorithm::from_name(algorithm.as_str()), Some(algorithm));
        }
        assert_eq!(TokenAlgorithm::from_name("EdDSA"), Some(TokenAlgorithm::Ed25519));
    }

    #[test]
    fn a_list_reads_as_a_sentence() {
        assert_eq!(TokenAlgorithm::list(&[]), "");
        assert_eq!(TokenAlgorithm::list(&[TokenAlgorithm::Es512]), "ES512");
        assert_eq!(
            TokenAlgorithm::list(&[
                TokenAlgorithm::Rs256,
                TokenAlgorithm::Es256,
                TokenAlgorithm::Ed25519
            ]),
            "RS256, ES256 or Ed25519"
        );
    }
}
