//! Limits for client certificate chains, checked before any cryptography.
//!
//! Path building is a search: each certificate can have several issuers in the chain, and each issuer again. A client
//! needs no credential to make the search long (91 certificates with one name took 3.3 s). These limits are checked
//! first and keep the search short.

use std::{fmt, sync::Arc};

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    pki_types::{CertificateDer, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use x509_parser::prelude::{FromDer as _, ParsedExtension, X509Certificate};

/// The maximum number of certificates in a chain. Public chains have at most four, deep corporate ones six.
const MAX_CHAIN: usize = 8;

/// The maximum size of all certificates together.
const MAX_CHAIN_BYTES: usize = 32 * 1024;

/// The maximum number of certificates with the same subject. A CA that is signed by its old and its new root has two.
const MAX_SAME_SUBJECT: usize = 2;

/// The maximum number of comparisons between names and name constraints. Real CAs constrain only a few names.
const MAX_COMPARISONS: usize = 10_000;

/// The reason why a chain is rejected before verification.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum ChainError {
    #[error(
        "the client sent more than 8 certificates; it must send only its own and the intermediate ones"
    )]
    TooMany,
    #[error(
        "the client sent more than 32 KiB of certificates; it must send only its own and the intermediate ones"
    )]
    TooLarge,
    #[error(
        "the client sent more than 2 certificates with the same subject; it must send one path to the CA"
    )]
    TooManySameSubject,
    #[error(
        "the client sent a certificate with too many names to compare with the name constraints of its CA"
    )]
    TooManyNames,
    #[error("the client sent a certificate that cannot be parsed")]
    Unreadable,
}

/// The TLS library logs errors with `Debug`.
impl fmt::Debug for ChainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Checks the size and the names of a chain.
pub(super) fn check_chain(
    own: &CertificateDer<'_>,
    others: &[CertificateDer<'_>],
) -> Result<(), ChainError> {
    if others.len() >= MAX_CHAIN {
        return Err(ChainError::TooMany);
    }
    if own.len() + others.iter().map(|der| der.len()).sum::<usize>() > MAX_CHAIN_BYTES {
        return Err(ChainError::TooLarge);
    }
    let mut names = NameCounts::default();
    names.add(&read(own)?);
    let mut subjects: Vec<&[u8]> = Vec::with_capacity(others.len());
    for der in others {
        let certificate = read(der)?;
        let subject = certificate.tbs_certificate.subject.as_raw();
        if subjects.iter().filter(|other| **other == subject).count() >= MAX_SAME_SUBJECT {
            return Err(ChainError::TooManySameSubject);
        }
        subjects.push(subject);
        names.add(&certificate);
    }
    if names.shown.saturating_mul(names.constraints) > MAX_COMPARISONS {
        return Err(ChainError::TooManyNames);
    }
    Ok(())
}

fn read<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, ChainError> {
    let read = X509Certificate::from_der(der);
    read.map(|(_, certificate)| certificate).map_err(|_| ChainError::Unreadable)
}

/// Counts names and name constraints, which are compared with each other.
#[derive(Default)]
struct NameCounts {
    shown: usize,
    constraints: usize,
}

impl NameCounts {
    fn add(&mut self, certificate: &X509Certificate<'_>) {
        for extension in certificate.extensions() {
            match extension.parsed_extension() {
                ParsedExtension::SubjectAlternativeName(names) => {
                    self.shown += names.general_names.len();
                }
                ParsedExtension::NameConstraints(names) => {
                    let kinds = [&names.permitted_subtrees, &names.excluded_subtrees];
                    self.constraints += kinds.into_iter().flatten().map(Vec::len).sum::<usize>();
                }
                _ => {}
            }
        }
    }
}

/// Verifies chains within the limits, and rejects all others.
#[derive(Debug)]
pub(super) struct ChainLimitVerifier(pub(super) Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for ChainLimitVerifier {
    fn offer_client_auth(&self) -> bool {
        self.0.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.0.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        check_chain(end_entity, intermediates)
            .map_err(|refused| CertificateError::Other(OtherError(Arc::new(refused))))?;
        self.0.verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }

    fn requires_raw_public_keys(&self) -> bool {
        self.0.requires_raw_public_keys()
    }
}

#[cfg(test)]
mod tests;
