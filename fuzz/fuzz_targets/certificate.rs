//! Client certificates: one that is accepted names one caller, in a form that no other kind of name has.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tenant_gateway::access::PeerCertificate;

fuzz_target!(init: seed_is_accepted(), |der: &[u8]| fuzz(der));

/// Were it refused, little of what follows would be reached.
fn seed_is_accepted() {
    for der in [
        include_bytes!("../corpus_seed/certificate/uri").as_slice(),
        include_bytes!("../corpus_seed/certificate/dns"),
    ] {
        assert!(PeerCertificate::read(der).is_ok());
    }
}

fn fuzz(der: &[u8]) {
    let Ok(certificate) = PeerCertificate::read(der) else { return };
    let id = certificate.id();
    assert!((1..=2048).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic()));
    let host =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
    assert!(id.contains(':') || id.bytes().all(host));
    if id.to_ascii_lowercase().starts_with("spiffe:") {
        let rest = id.strip_prefix("spiffe://").expect("the scheme as it is written");
        let (domain, path) = rest.split_once('/').expect("a path");
        assert!(!domain.is_empty() && !path.is_empty());
        assert!(!rest.contains(['?', '#', '@', ':', '%']));
    }
}
