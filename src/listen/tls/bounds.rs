//! What a stranger may show as its certificate chain, before anything is computed.
//!
//! Path building is a search: each certificate can have several issuers among those shown, and each issuer again. A
//! client needs no credential to make the search long (91 certificates with one name took 3.3 s). These limits are
//! checked first, and they leave a search of a few steps.

use std::{fmt, sync::Arc};

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    pki_types::{CertificateDer, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use x509_parser::prelude::{FromDer as _, ParsedExtension, X509Certificate};

/// Certificates in a chain, the client's own included. Public chains have four at most, deep corporate ones six.
const MAX_CHAIN: usize = 8;

/// Bytes of all of them.
const MAX_CHAIN_BYTES: usize = 32 * 1024;

/// Certificates with one subject: an authority that is signed by its old and by its new root has two.
const MAX_OF_ONE_NAME: usize = 2;

/// Comparisons of a name in a certificate with a constraint of an authority on names. Real authorities constrain a
/// handful of names.
const MAX_COMPARISONS: usize = 10_000;

/// Why a chain is refused unseen.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum ChainRefused {
    #[error(
        "the client shows more than 8 certificates; let it send its own and the intermediate ones only"
    )]
    TooMany,
    #[error(
        "the client shows more than 32 KiB of certificates; let it send its own and the intermediate ones only"
    )]
    TooLarge,
    #[error(
        "the client shows more than 2 certificates with the same subject; let it send one path to the authority"
    )]
    SameName,
    #[error(
        "the client shows a certificate with more names than can be compared with the constraints of its authority"
    )]
    TooManyNames,
    #[error("a certificate that the client shows cannot be read")]
    Unreadable,
}

/// What the TLS library prints in the log.
impl fmt::Debug for ChainRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Checks a chain by its size, and by its names.
pub(super) fn check_chain(
    own: &CertificateDer<'_>,
    others: &[CertificateDer<'_>],
) -> Result<(), ChainRefused> {
    if others.len() >= MAX_CHAIN {
        return Err(ChainRefused::TooMany);
    }
    if own.len() + others.iter().map(|der| der.len()).sum::<usize>() > MAX_CHAIN_BYTES {
        return Err(ChainRefused::TooLarge);
    }
    let mut names = Names::default();
    names.add(&read(own)?);
    let mut subjects: Vec<&[u8]> = Vec::with_capacity(others.len());
    for der in others {
        let certificate = read(der)?;
        let subject = certificate.tbs_certificate.subject.as_raw();
        if subjects.iter().filter(|other| **other == subject).count() >= MAX_OF_ONE_NAME {
            return Err(ChainRefused::SameName);
        }
        subjects.push(subject);
        names.add(&certificate);
    }
    if names.shown.saturating_mul(names.constraints) > MAX_COMPARISONS {
        return Err(ChainRefused::TooManyNames);
    }
    Ok(())
}

fn read<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, ChainRefused> {
    let read = X509Certificate::from_der(der);
    read.map(|(_, certificate)| certificate).map_err(|_| ChainRefused::Unreadable)
}

/// Counts what is compared with each other.
#[derive(Default)]
struct Names {
    shown: usize,
    constraints: usize,
}

impl Names {
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

/// Verifies chains that are within the limits, and refuses all others.
#[derive(Debug)]
pub(super) struct BoundedVerifier(pub(super) Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for BoundedVerifier {
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
