//! Signatures of callers' tokens.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, ED25519,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
    RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters,
    RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm,
};

use crate::{
    domain::TokenAlgorithm,
    ports::{PublicKey, SignatureVerifier},
};

/// Verifies tokens with every algorithm of [`TokenAlgorithm`].
#[derive(Debug, Clone, Copy, Default)]
pub struct TokenSignatures;

impl SignatureVerifier for TokenSignatures {
    fn verify(
        &self,
        algorithm: TokenAlgorithm,
        key: &PublicKey,
        message: &[u8],
        signature: &[u8],
    ) -> bool {
        let rsa = |parameters: &RsaParameters| match key {
            PublicKey::Rsa { n, e } => {
                RsaPublicKeyComponents { n, e }.verify(parameters, message, signature).is_ok()
            }
            _ => false,
        };
        let plain = |parameters: &'static dyn VerificationAlgorithm, key: &[u8]| {
            UnparsedPublicKey::new(parameters, key).verify(message, signature).is_ok()
        };
        match (algorithm, key) {
            (TokenAlgorithm::Rs256, _) => rsa(&RSA_PKCS1_2048_8192_SHA256),
            (TokenAlgorithm::Rs384, _) => rsa(&RSA_PKCS1_2048_8192_SHA384),
            (TokenAlgorithm::Rs512, _) => rsa(&RSA_PKCS1_2048_8192_SHA512),
            (TokenAlgorithm::Ps256, _) => rsa(&RSA_PSS_2048_8192_SHA256),
            (TokenAlgorithm::Ps384, _) => rsa(&RSA_PSS_2048_8192_SHA384),
            (TokenAlgorithm::Ps512, _) => rsa(&RSA_PSS_2048_8192_SHA512),
            (TokenAlgorithm::Es256, PublicKey::P256(key)) => plain(&ECDSA_P256_SHA256_FIXED, key),
            (TokenAlgorithm::Es384, PublicKey::P384(key)) => plain(&ECDSA_P384_SHA384_FIXED, key),
            (TokenAlgorithm::Es512, PublicKey::P521(key)) => plain(&ECDSA_P521_SHA512_FIXED, key),
            (TokenAlgorithm::Ed25519, PublicKey::Ed25519(key)) => plain(&ED25519, key),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::{
        rand::SystemRandom,
        rsa::KeySize,
        signature::{
            ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING,
            ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
            RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384,
            RSA_PSS_SHA512, RsaKeyPair,
        },
    };

    use super::*;

    const MESSAGE: &[u8] = b"header.claims";

    fn without_zeros(number: &[u8]) -> Vec<u8> {
        number.iter().copied().skip_while(|byte| *byte == 0).collect()
    }

    /// Returns a key and a signature for every algorithm.
    fn signed() -> Vec<(TokenAlgorithm, PublicKey, Vec<u8>)> {
        let random = SystemRandom::new();
        let rsa = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let public = rsa.public_key();
        let rsa_key = PublicKey::Rsa {
            n: without_zeros(public.modulus().big_endian_without_leading_zero()),
            e: without_zeros(public.exponent().big_endian_without_leading_zero()),
        };
        let mut made = Vec::new();
        for (algorithm, encoding) in [
            (TokenAlgorithm::Rs256, &RSA_PKCS1_SHA256),
            (TokenAlgorithm::Rs384, &RSA_PKCS1_SHA384),
            (TokenAlgorithm::Rs512, &RSA_PKCS1_SHA512),
            (TokenAlgorithm::Ps256, &RSA_PSS_SHA256),
            (TokenAlgorithm::Ps384, &RSA_PSS_SHA384),
            (TokenAlgorithm::Ps512, &RSA_PSS_SHA512),
        ] {
            let mut signature = vec![0; rsa.public_modulus_len()];
            rsa.sign(encoding, &random, MESSAGE, &mut signature).unwrap();
            made.push((algorithm, rsa_key.clone(), signature));
        }
        let ec = |parameters| {
            let pair = EcdsaKeyPair::generate(parameters).unwrap();
            let signature = pair.sign(&random, MESSAGE).unwrap().as_ref().to_vec();
            (pair.public_key().as_ref().to_vec(), signature)
        };
        let (key, signature) = ec(&ECDSA_P256_SHA256_FIXED_SIGNING);
        made.push((TokenAlgorithm::Es256, PublicKey::P256(key), signature));
        let (key, signature) = ec(&ECDSA_P384_SHA384_FIXED_SIGNING);
        made.push((TokenAlgorithm::Es384, PublicKey::P384(key), signature));
        let (key, signature) = ec(&ECDSA_P521_SHA512_FIXED_SIGNING);
        made.push((TokenAlgorithm::Es512, PublicKey::P521(key), signature));
        let pair = Ed25519KeyPair::generate().unwrap();
        let key = pair.public_key().as_ref().to_vec();
        let signature = pair.sign(MESSAGE).as_ref().to_vec();
        made.push((TokenAlgorithm::Ed25519, PublicKey::Ed25519(key), signature));
        made
    }

    #[test]
    fn a_signature_verifies_only_with_its_algorithm_and_key() {
        let verify = |algorithm, key: &PublicKey, message: &[u8], signature: &[u8]| {
            TokenSignatures.verify(algorithm, key, message, signature)
        };
        let signed = signed();
        assert_eq!(signed.len(), TokenAlgorithm::ALL.len());
        for (algorithm, key, signature) in &signed {
            assert!(!verify(*algorithm, key, b"header.claimz", signature), "{algorithm}");
            assert!(!verify(*algorithm, key, MESSAGE, &[]), "{algorithm}");
            let (_, short) = signature.split_first().unwrap();
            assert!(!verify(*algorithm, key, MESSAGE, short), "{algorithm}");
            let zeros = vec![0; signature.len()];
            assert!(!verify(*algorithm, key, MESSAGE, &zeros), "{algorithm}");
            for (other, other_key, _) in &signed {
                let good = algorithm == other;
                assert_eq!(verify(*other, key, MESSAGE, signature), good, "{algorithm} {other}");
                let same_key = key == other_key;
                assert_eq!(verify(*algorithm, other_key, MESSAGE, signature), same_key);
            }
        }
    }

    #[test]
    fn a_malformed_key_does_not_verify() {
        let made = signed();
        for (algorithm, _, signature) in &made {
            for key in [
                PublicKey::Rsa { n: vec![], e: vec![] },
                PublicKey::Rsa { n: vec![0xff; 256], e: vec![0xff; 256] },
                PublicKey::P256(vec![4; 65]),
                PublicKey::P384(vec![]),
                PublicKey::P521(vec![4; 133]),
                PublicKey::Ed25519(vec![0xff; 31]),
            ] {
                assert!(!TokenSignatures.verify(*algorithm, &key, MESSAGE, signature), "{key:?}");
            }
        }
    }
}
