//! Certificates of tests, and what is whole and what is not.

use std::{fs, path::Path};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use jiff::Timestamp;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, Issuer, KeyPair};

use super::{validity::Validity, *};
use crate::{listen::Speaks, ports::ManualClock};

/// An authority of tests.
pub(in crate::listen) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub(in crate::listen) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self { issuer: CertifiedIssuer::self_signed(params, key).unwrap() }
    }

    /// Writes a certificate and its key, and this authority.
    pub(in crate::listen) fn write(&self, folder: &Path) -> TlsFiles {
        let (certificate, key) = self.issue();
        let files = TlsFiles {
            listener: "grpc",
            speaks: Speaks::Http2,
            certificate: folder.join("tls.crt"),
            private_key: folder.join("tls.key"),
            client_ca: Some(folder.join("ca.crt")),
            client_certificate_required: true,
        };
        fs::write(&files.certificate, pem("CERTIFICATE", certificate.der())).unwrap();
        fs::write(&files.private_key, pem("PRIVATE KEY", &key.serialize_der())).unwrap();
        fs::write(folder.join("ca.crt"), pem("CERTIFICATE", self.der())).unwrap();
        files
    }

    pub(in crate::listen) fn der(&self) -> &[u8] {
        self.issuer.der()
    }

    pub(in crate::listen) fn issue(&self) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2020, 2, 29);
        params.not_after = rcgen::date_time_ymd(2049, 12, 31);
        let issuer: &Issuer<'_, KeyPair> = &self.issuer;
        (params.signed_by(&key, issuer).unwrap(), key)
    }
}

pub(in crate::listen) fn pem(label: &str, der: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(der);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(|l| str::from_utf8(l).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

pub(in crate::listen) fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new("2026-01-01T00:00:00Z".parse().unwrap()))
}

fn problems(files: &TlsFiles) -> Vec<String> {
    let problems = ServerTls::load(files.clone(), clock()).unwrap_err();
    problems.iter().map(|problem| format!("{}: {}", problem.key, problem.what)).collect()
}

#[test]
fn validity_is_read_in_both_forms_of_time() {
    let time = |text: &str| text.parse::<Timestamp>().unwrap();
    let (certificate, _) = Authority::new().issue();
    let validity = Validity::of(certificate.der()).unwrap();
    assert_eq!(validity.not_before, time("2020-02-29T00:00:00Z"));
    assert_eq!(validity.not_after, time("2049-12-31T00:00:00Z"));
    // From 2050 on the year has four digits.
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.not_before = rcgen::date_time_ymd(1975, 1, 1);
    params.not_after = rcgen::date_time_ymd(4096, 1, 1);
    let validity = Validity::of(params.self_signed(&key).unwrap().der()).unwrap();
    assert_eq!(validity.not_before, time("1975-01-01T00:00:00Z"));
    assert_eq!(validity.not_after, time("4096-01-01T00:00:00Z"));
}

#[test]
fn what_is_no_certificate_has_no_validity_and_breaks_nothing() {
    let (certificate, _) = Authority::new().issue();
    let der = certificate.der();
    let end_of_validity = der.windows(5).position(|w| w == b"49123").unwrap() + 12;
    for end in 0..end_of_validity {
        assert_eq!(Validity::of(&der[..end]), None, "{end}");
    }
    for at in 0..end_of_validity {
        let mut damaged = der.to_vec();
        damaged[at] ^= 0xff;
        let _ = Validity::of(&damaged);
    }
}

#[test]
fn a_byte_order_mark_before_a_certificate_or_key_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let files = Authority::new().write(folder.path());
    let paths = [&files.certificate, &files.private_key, files.client_ca.as_ref().unwrap()];
    for path in paths {
        let text = fs::read_to_string(path).unwrap();
        fs::write(path, format!("\u{feff}{text}")).unwrap();
    }
    ServerTls::load(files.clone(), clock()).unwrap();
    for (path, key) in
        paths.into_iter().zip(["certificate_file", "private_key_file", "client_ca_file"])
    {
        let text = fs::read(path).unwrap();
        fs::write(path, b"\xff\xfe-\0-\0").unwrap();
        let told = problems(&files);
        assert!(told[0].starts_with(key) && told[0].contains("UTF-16"), "{told:?}");
        fs::write(path, text).unwrap();
    }
}

#[test]
fn everything_that_is_wrong_is_told_with_its_key() {
    let folder = tempfile::tempdir().unwrap();
    let files = Authority::new().write(folder.path());
    ServerTls::load(files.clone(), clock()).unwrap();

    let whole = fs::read_to_string(&files.certificate).unwrap();
    let key = fs::read_to_string(&files.private_key).unwrap();
    fs::write(&files.certificate, &whole[..whole.len() / 2]).unwrap();
    fs::write(&files.private_key, &whole).unwrap();
    fs::remove_file(files.client_ca.as_ref().unwrap()).unwrap();
    let told = problems(&files);
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(told[0].starts_with("certificate_file: breaks off"), "{told:?}");
    assert!(told[1].starts_with("private_key_file: has no private key"), "{told:?}");
    assert!(told[2].starts_with("client_ca_file: there is no such file"), "{told:?}");

    let alone = TlsFiles { client_ca: None, ..files.clone() };
    for (certificate, key, wanted) in [
        ("", key.as_str(), "certificate_file: has no certificate in it"),
        (&key, &key, "certificate_file: has no certificate in it"),
        (&pem("CERTIFICATE", b"x"), &key, "certificate_file: certificate 1 in it cannot be read"),
        (&whole, &pem("PRIVATE KEY", b"x"), "private_key_file: holds no key that TLS can use"),
        (&whole, &pem("ENCRYPTED PRIVATE KEY", b"x"), "private_key_file: has no private key"),
        (&whole, "-----BEGIN PRIVATE KEY-----\nå\n", "private_key_file: "),
    ] {
        fs::write(&files.certificate, certificate).unwrap();
        fs::write(&files.private_key, key).unwrap();
        let told = problems(&alone);
        assert!(told.len() == 1 && told[0].starts_with(wanted), "{told:?} is not {wanted}");
    }

    let (_, foreign) = Authority::new().issue();
    fs::write(&files.certificate, &whole).unwrap();
    fs::write(&files.private_key, pem("PRIVATE KEY", &foreign.serialize_der())).unwrap();
    let told = problems(&alone);
    assert!(told[0].contains("is not the key of the first certificate in"), "{told:?}");
    assert!(told[0].contains("tls.crt"), "{told:?}");
}

#[tokio::test]
async fn a_change_is_taken_when_it_has_settled_and_only_if_it_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let tls = ServerTls::load(authority.write(folder.path()), clock()).unwrap();
    let generation = async || tls.looks.lock().await.generation;
    let first = tls.in_force();
    tls.look(false).await;
    assert!(Arc::ptr_eq(&first, &tls.in_force()));

    // Still being written, as far as one look can tell.
    let files = authority.write(folder.path());
    tls.look(false).await;
    assert!(Arc::ptr_eq(&first, &tls.in_force()));
    tls.look(false).await;
    let second = tls.in_force();
    assert!(!Arc::ptr_eq(&first, &second));
    assert_eq!(generation().await, 2);

    // Half of a pair, however often it is looked at.
    fs::write(&files.certificate, pem("CERTIFICATE", authority.issue().0.der())).unwrap();
    for _ in 0..3 {
        tls.look(false).await;
    }
    tls.reload().await;
    assert!(Arc::ptr_eq(&second, &tls.in_force()));

    // Who asks need not wait.
    authority.write(folder.path());
    tls.reload().await;
    assert!(!Arc::ptr_eq(&second, &tls.in_force()));
    assert_eq!(generation().await, 3);
}
