//! Client certificates: an accepted one names exactly one caller, in a form that no other kind of caller id has.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tenant_gateway::access::{CertificateRules, PeerCertificate};
use tenant_gateway_fuzz::assert_names_one_caller;

fuzz_target!(init: seed_is_accepted(), |der: &[u8]| fuzz(der));

/// A valid certificate is accepted; otherwise the fuzzer would reach little code.
fn seed_is_accepted() {
    for der in [
        include_bytes!("../corpus_seed/certificate/uri").as_slice(),
        include_bytes!("../corpus_seed/certificate/dns"),
    ] {
        assert!(PeerCertificate::read(der, &CertificateRules::default()).is_ok());
    }
}

fn fuzz(der: &[u8]) {
    let Ok(certificate) = PeerCertificate::read(der, &CertificateRules::default()) else { return };
    assert_names_one_caller(certificate.id());
}
