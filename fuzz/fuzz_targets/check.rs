//! What a proxy tells of a request that it holds: whoever it names has a name as on our own listeners.
#![no_main]

use base64::{Engine as _, engine::general_purpose::STANDARD};
use libfuzzer_sys::fuzz_target;
use tenant_gateway::{access::{CertificateRules, PeerCertificate}, fuzzing::Question};
use tenant_gateway_fuzz::assert_names_one_caller;

fuzz_target!(init: seeds_are_accepted(), |data: &[u8]| fuzz(data));

/// Were they refused, little of what follows would be reached.
fn seeds_are_accepted() {
    for question in [
        include_bytes!("../corpus_seed/check/certificate").as_slice(),
        include_bytes!("../corpus_seed/check/certificate_dns"),
        include_bytes!("../corpus_seed/check/name"),
        include_bytes!("../corpus_seed/check/raw_headers"),
    ] {
        let question = Question::read(question).expect("a question");
        assert!(question.caller.is_some() && question.target.is_some());
    }
}

/// A question, or the certificate in one.
fn fuzz(data: &[u8]) {
    let id = |peer: PeerCertificate| peer.id().to_owned();
    let reported = PeerCertificate::reported("", &escaped(data), &CertificateRules::default());
    let reported = reported.map(|peer| id(peer.expect("one was shown")));
    assert_eq!(reported, PeerCertificate::read(data, &CertificateRules::default()).map(id));

    let Some(Question { caller, path, target }) = Question::read(data) else { return };
    if let Some(caller) = caller {
        assert_names_one_caller(&caller);
    }
    if let Some((tenant, below)) = target {
        let place = format!("/{}/{}/", tenant.application, tenant.tenant);
        assert!(path.starts_with(&place) && below.decided().starts_with("/api"));
    }
}

/// As Envoy writes it.
fn escaped(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines = text.as_bytes().chunks(64).map(|line| str::from_utf8(line).expect("ASCII"));
    let body = lines.collect::<Vec<_>>().join("\n");
    let pem = format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n");
    let escapes = [("\n", "%0A"), (" ", "%20"), ("+", "%2B"), ("/", "%2F"), ("=", "%3D")];
    escapes.iter().fold(pem, |text, (plain, escape)| text.replace(plain, escape))
}
