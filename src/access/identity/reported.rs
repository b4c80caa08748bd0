//! Whom a proxy names that has ended the TLS of a caller: for one that is believed (DESIGN rule 6.11).

use jiff::Timestamp;
use x509_parser::pem::parse_x509_pem;

use super::{
    CertificateProblem, CertificateRules, NameKind, PeerCertificate, certificate_rules::Name,
};

impl PeerCertificate {
    /// The peer of a proxy, by what the proxy tells of its certificate: the name, and the certificate itself as PEM
    /// with the escapes of URLs, or nothing. `None` if the peer has shown none.
    ///
    /// A name alone is believed as far as a certificate with this one name would be. With the certificate, what
    /// stands in it is all that counts, so that its rules hold as on our own listeners.
    ///
    /// # Errors
    /// If they do not name exactly one caller, or name two.
    pub fn reported(
        name: &str,
        pem: &str,
        rules: &CertificateRules,
    ) -> Result<Option<Self>, CertificateProblem> {
        if name.is_empty() && pem.is_empty() {
            return Ok(None);
        }
        if pem.is_empty() {
            // Whether a name is a URI, it tells itself. A common name is told with the certificate only.
            let kind = if name.contains(':') { NameKind::Uri } else { NameKind::Dns };
            let id = rules.choose(&[Name { kind, text: name }])?;
            return Ok(Some(Self::named(id, Timestamp::MIN, Timestamp::MAX)));
        }
        let unreadable = CertificateProblem::Unreadable;
        let (rest, pem) = parse_x509_pem(unescaped(pem).as_bytes())
            .map(|(rest, pem)| (rest.trim_ascii().is_empty(), pem))
            .map_err(|_| unreadable)?;
        if !rest || pem.label != "CERTIFICATE" {
            return Err(unreadable);
        }
        let certificate = Self::read(&pem.contents, rules)?;
        // Proxies tell the first name; where another one is configured to count, the certificate alone says which.
        let first_counts = *rules == CertificateRules::default();
        if first_counts && !name.is_empty() && !name.eq_ignore_ascii_case(certificate.id()) {
            return Err(CertificateProblem::Name("it is not the one that the proxy tells"));
        }
        Ok(Some(certificate))
    }
}

/// What proxies escape in PEM. Everything else would not be PEM.
fn unescaped(pem: &str) -> String {
    let escapes = [("%0A", "\n"), ("%20", " "), ("%2B", "+"), ("%2F", "/"), ("%3D", "=")];
    escapes.iter().fold(pem.to_owned(), |text, (escape, plain)| text.replace(escape, plain))
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;

    /// As Envoy writes it.
    fn escaped(uris: &[&str]) -> String {
        let mut params = CertificateParams::default();
        params.subject_alt_names =
            uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect();
        let made = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let text = BASE64_STANDARD.encode(made.der());
        let lines = text.as_bytes().chunks(64).map(|line| str::from_utf8(line).unwrap());
        let body = lines.collect::<Vec<_>>().join("\n");
        format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")
            .replace('\n', "%0A")
            .replace(' ', "%20")
            .replace('+', "%2B")
            .replace('/', "%2F")
            .replace('=', "%3D")
    }

    fn reported(name: &str, pem: &str) -> Result<Option<String>, CertificateProblem> {
        let peer = PeerCertificate::reported(name, pem, &CertificateRules::default())?;
        Ok(peer.map(|peer| peer.id().to_owned()))
    }

    #[test]
    fn a_name_alone_is_that_of_a_certificate_that_has_no_other() {
        assert_eq!(reported("", ""), Ok(None));
        for (name, id) in [
            ("spiffe://example.org/ns/a/sa/b", "spiffe://example.org/ns/a/sa/b"),
            ("A.example.org", "a.example.org"),
        ] {
            assert_eq!(reported(name, ""), Ok(Some(id.to_owned())));
        }
        for name in [
            "CN=sync",
            "CN=sync,O=shop",
            "O=shop, CN=a:b",
            "spiffe://example.org",
            "spiffe://example.org/../b",
            "system:serviceaccount:shop:sync",
            "*.example.org",
            "a b",
        ] {
            assert!(matches!(reported(name, ""), Err(CertificateProblem::Name(_))), "{name}");
        }
    }

    #[test]
    fn with_the_certificate_only_what_stands_in_it_counts() {
        let (uri, other) = ("spiffe://example.org/a", "spiffe://example.org/b");
        let one = escaped(&[uri]);
        assert_eq!(reported(uri, &one), Ok(Some(uri.to_owned())));
        assert_eq!(reported("", &one), Ok(Some(uri.to_owned())));
        assert!(matches!(reported(other, &one), Err(CertificateProblem::Name(_))));
        // A proxy names the first of them.
        assert_eq!(reported(uri, &escaped(&[uri, other])), Err(CertificateProblem::Ambiguous));
        for pem in ["x", "%0A", "-----BEGIN%20CERTIFICATE-----", &one[..one.len() / 2]] {
            assert_eq!(reported(uri, pem), Err(CertificateProblem::Unreadable), "{pem}");
        }
        let twice = format!("{one}{one}");
        assert_eq!(reported(uri, &twice), Err(CertificateProblem::Unreadable));
        let key = one.replace("CERTIFICATE", "PRIVATE%20KEY");
        assert_eq!(reported(uri, &key), Err(CertificateProblem::Unreadable));
    }
}
