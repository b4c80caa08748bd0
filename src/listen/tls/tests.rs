//! Test certificates, and tests of loading and reloading TLS files.

use std::{fs, path::Path};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use jiff::Timestamp;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, Issuer, KeyPair};

use super::{validity::Validity, *};
use crate::{listen::Protocol, ports::ManualClock};

/// A test CA.
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

    /// Writes a certificate, its key and the CA certificate to files.
    pub(in crate::listen) fn write(&self, folder: &Path) -> TlsFiles {
        let (certificate, key) = self.issue();
        let files = TlsFiles {
            listener: "grpc",
            protocol: Protocol::Http2,
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
fn reads_the_validity_in_both_time_formats() {
    let time = |text: &str| text.parse::<Timestamp>().unwrap();
    let (certificate, _) = Authority::new().issue();
    let validity = Validity::from_der(certificate.der()).unwrap();
    assert_eq!(validity.not_before, time("2020-02-29T00:00:00Z"));
    assert_eq!(validity.not_after, time("2049-12-31T00:00:00Z"));
    // From 2050 on, the year has four digits.
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.not_before = rcgen::date_time_ymd(1975, 1, 1);
    params.not_after = rcgen::date_time_ymd(4096, 1, 1);
    let validity = Validity::from_der(params.self_signed(&key).unwrap().der()).unwrap();
    assert_eq!(validity.not_before, time("1975-01-01T00:00:00Z"));
    assert_eq!(validity.not_after, time("4096-01-01T00:00:00Z"));
}

#[test]
fn invalid_certificates_have_no_validity_and_do_not_panic() {
    let (certificate, _) = Authority::new().issue();
    let der = certificate.der();
    let end_of_validity = der.windows(5).position(|w| w == b"49123").unwrap() + 12;
    for end in 0..end_of_validity {
        assert_eq!(Validity::from_der(&der[..end]), None, "{end}");
    }
    for at in 0..end_of_validity {
        let mut damaged = der.to_vec();
        damaged[at] ^= 0xff;
        let _ = Validity::from_der(&damaged);
    }
}

#[test]
fn accepts_certificates_and_keys_with_a_byte_order_mark() {
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
fn reports_all_problems_with_their_configuration_keys() {
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
    assert!(told[0].starts_with("certificate_file: is incomplete"), "{told:?}");
    assert!(told[1].starts_with("private_key_file: contains no private key"), "{told:?}");
    assert!(told[2].starts_with("client_ca_file: there is no such file"), "{told:?}");

    let alone = TlsFiles { client_ca: None, ..files.clone() };
    for (certificate, key, wanted) in [
        ("", key.as_str(), "certificate_file: contains no certificate"),
        (&key, &key, "certificate_file: contains no certificate"),
        (
            &pem("CERTIFICATE", b"x"),
            &key,
            "certificate_file: certificate 1 in the file cannot be parsed",
        ),
        (
            &whole,
            &pem("PRIVATE KEY", b"x"),
            "private_key_file: contains a key that TLS does not support",
        ),
        (&whole, &pem("ENCRYPTED PRIVATE KEY", b"x"), "private_key_file: contains no private key"),
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
async fn reloads_changed_files_only_if_they_are_stable_and_complete() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let tls = ServerTls::load(authority.write(folder.path()), clock()).unwrap();
    let generation = async || tls.reload_state.lock().await.generation;
    let first = tls.current_config();
    tls.check_files(false).await;
    assert!(Arc::ptr_eq(&first, &tls.current_config()));

    // After a single check, the file may still be incomplete.
    let files = authority.write(folder.path());
    tls.check_files(false).await;
    assert!(Arc::ptr_eq(&first, &tls.current_config()));
    tls.check_files(false).await;
    let second = tls.current_config();
    assert!(!Arc::ptr_eq(&first, &second));
    assert_eq!(generation().await, 2);

    // A certificate without its key is never loaded.
    fs::write(&files.certificate, pem("CERTIFICATE", authority.issue().0.der())).unwrap();
    for _ in 0..3 {
        tls.check_files(false).await;
    }
    tls.reload().await;
    assert!(Arc::ptr_eq(&second, &tls.current_config()));

    // An explicit reload does not wait.
    authority.write(folder.path());
    tls.reload().await;
    assert!(!Arc::ptr_eq(&second, &tls.current_config()));
    assert_eq!(generation().await, 3);
}
