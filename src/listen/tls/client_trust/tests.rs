use std::sync::atomic::{AtomicUsize, Ordering};

use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, SignatureScheme,
    client::danger::HandshakeSignatureValid, server::danger::ClientCertVerified,
};

use super::*;
use crate::listen::tls::tests::Authority;

/// A verifier that counts its calls.
#[derive(Debug)]
struct Counting {
    accepts: bool,
    verified: AtomicUsize,
}

impl Counting {
    fn new(accepts: bool) -> Arc<Self> {
        Arc::new(Self { accepts, verified: AtomicUsize::new(0) })
    }

    fn verified(&self) -> usize {
        self.verified.load(Ordering::Relaxed)
    }
}

impl ClientCertVerifier for Counting {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.verified.fetch_add(1, Ordering::Relaxed);
        if self.accepts {
            Ok(ClientCertVerified::assertion())
        } else {
            Err(rustls::CertificateError::UnknownIssuer.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        unreachable!("no handshake here")
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        unreachable!("no handshake here")
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        Vec::new()
    }
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

#[test]
fn verifies_a_chain_again_only_after_a_change() {
    let (good, other) = (Counting::new(true), Counting::new(false));
    let trust = Arc::new(ClientTrust::new(good.clone()));
    // Valid from 2020-02-29 to 2049-12-31.
    let (certificate, _) = Authority::new().issue();
    let shown = ClientChain::new(&[certificate.der().clone()], Arc::clone(&trust)).unwrap();
    for _ in 0..100 {
        assert!(shown.is_trusted(at("2026-01-01T00:00:00Z")));
    }
    assert_eq!(good.verified(), 1);
    assert!(shown.is_trusted(at("2049-12-31T00:00:00Z")));
    assert_eq!(good.verified(), 1);
    assert!(shown.is_trusted(at("2049-12-31T00:00:01Z")));
    assert_eq!(good.verified(), 2, "a certificate has expired");
    assert!(shown.is_trusted(at("2026-01-01T00:00:00Z")));
    assert_eq!(good.verified(), 3, "the clock was set back");

    trust.replace(other.clone());
    for _ in 0..100 {
        assert!(!shown.is_trusted(at("2026-01-01T00:00:00Z")));
    }
    assert_eq!(other.verified(), 1);
    trust.replace(good.clone());
    assert!(shown.is_trusted(at("2026-01-01T00:00:00Z")));
    assert_eq!(shown.der(), certificate.der().as_ref());
}

#[test]
fn a_connection_without_certificates_has_no_chain() {
    let trust = Arc::new(ClientTrust::new(Counting::new(true)));
    assert!(ClientChain::new(&[], trust).is_none());
}
