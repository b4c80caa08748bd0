//! Envoy's `CheckRequest`: a caller id in it has the same form as on the gateway's own listeners.
#![no_main]

use base64::{Engine as _, engine::general_purpose::STANDARD};
use libfuzzer_sys::fuzz_target;
use tenant_gateway::{
    access::{CertificateRules, PeerCertificate},
    fuzzing::ExtAuthzCheck,
};
use tenant_gateway_fuzz::assert_names_one_caller;

fuzz_target!(init: seeds_are_accepted(), |data: &[u8]| fuzz(data));

/// Valid messages are accepted; otherwise the fuzzer would reach little code.
fn seeds_are_accepted() {
    for message in [
        include_bytes!("../corpus_seed/check/certificate").as_slice(),
        include_bytes!("../corpus_seed/check/certificate_dns"),
        include_bytes!("../corpus_seed/check/name"),
        include_bytes!("../corpus_seed/check/raw_headers"),
    ] {
        let check = ExtAuthzCheck::read(message).expect("a CheckRequest");
        assert!(check.caller.is_some() && check.target.is_some());
    }
}

/// Inputs: an encoded `CheckRequest`, or the certificate in one.
fn fuzz(data: &[u8]) {
    let id = |peer: PeerCertificate| peer.id().to_owned();
    let reported = PeerCertificate::forwarded("", &escaped(data), &CertificateRules::default());
    let reported = reported.map(|peer| id(peer.expect("a certificate")));
    assert_eq!(reported, PeerCertificate::read(data, &CertificateRules::default()).map(id));

    let Some(ExtAuthzCheck { caller, path, target }) = ExtAuthzCheck::read(data) else { return };
    if let Some(caller) = caller {
        assert_names_one_caller(&caller);
    }
    if let Some((tenant, below)) = target {
        let place = format!("/{}/{}/", tenant.application, tenant.tenant);
        assert!(path.starts_with(&place) && below.normal_form().starts_with("/api"));
    }
}

/// Encodes a certificate like Envoy: URL-encoded PEM.
fn escaped(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines = text.as_bytes().chunks(64).map(|line| str::from_utf8(line).expect("ASCII"));
    let body = lines.collect::<Vec<_>>().join("\n");
    let pem = format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n");
    let escapes = [("\n", "%0A"), (" ", "%20"), ("+", "%2B"), ("/", "%2F"), ("=", "%3D")];
    escapes.iter().fold(pem, |text, (plain, escape)| text.replace(plain, escape))
}
