//! Client certificates that a trusted proxy, which terminated TLS, reports for its peer.

use jiff::Timestamp;
use x509_parser::pem::parse_x509_pem;

use super::{
    CertificateProblem, CertificateRules, NameKind, PeerCertificate, certificate_rules::Name,
};

impl PeerCertificate {
    /// Returns the proxy's peer from the reported certificate: its name, and optionally the certificate as URL-encoded
    /// PEM. Returns `None` if the peer presented no certificate.
    ///
    /// A name without certificate is treated like a certificate with only this name. With the certificate, only the
    /// certificate's content counts, so that the same rules apply as on our own listeners.
    ///
    /// # Errors
    /// Returns an error if name and certificate do not name exactly one caller, or contradict each other.
    pub fn forwarded(
        name: &str,
        pem: &str,
        rules: &CertificateRules,
    ) -> Result<Option<Self>, CertificateProblem> {
        if name.is_empty() && pem.is_empty() {
            return Ok(None);
        }
        if pem.is_empty() {
            // A colon means that the name is a URI. A common name is reported only with the certificate.
            let kind = if name.contains(':') { NameKind::Uri } else { NameKind::Dns };
            let id = rules.choose(&[Name { kind, text: name }])?;
            return Ok(Some(Self::from_id(id, Timestamp::MIN, Timestamp::MAX)));
        }
        let unreadable = CertificateProblem::Unreadable;
        let (rest, pem) = parse_x509_pem(unescaped(pem).as_bytes())
            .map(|(rest, pem)| (rest.trim_ascii().is_empty(), pem))
            .map_err(|_| unreadable)?;
        if !rest || pem.label != "CERTIFICATE" {
            return Err(unreadable);
        }
        let certificate = Self::read(&pem.contents, rules)?;
        // Proxies report the first name. If the configuration selects another one, only the certificate counts.
        let first_counts = *rules == CertificateRules::default();
        if first_counts && !name.is_empty() && !name.eq_ignore_ascii_case(certificate.id()) {
            return Err(CertificateProblem::Name("it is not the name that the proxy reports"));
        }
        Ok(Some(certificate))
    }
}

/// Decodes the percent-encoded characters of PEM. Any other escape would not be PEM.
fn unescaped(pem: &str) -> String {
    let escapes = [("%0A", "\n"), ("%20", " "), ("%2B", "+"), ("%2F", "/"), ("%3D", "=")];
    escapes.iter().fold(pem.to_owned(), |text, (escape, plain)| text.replace(escape, plain))
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;

    /// Formats a certificate as Envoy does.
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
        let peer = PeerCertificate::forwarded(name, pem, &CertificateRules::default())?;
        Ok(peer.map(|peer| peer.id().to_owned()))
    }

    #[test]
    fn treats_a_name_alone_as_a_certificate_with_only_this_name() {
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
    fn only_the_content_of_a_reported_certificate_counts() {
        let (uri, other) = ("spiffe://example.org/a", "spiffe://example.org/b");
        let one = escaped(&[uri]);
        assert_eq!(reported(uri, &one), Ok(Some(uri.to_owned())));
        assert_eq!(reported("", &one), Ok(Some(uri.to_owned())));
        assert!(matches!(reported(other, &one), Err(CertificateProblem::Name(_))));
        // The proxy reports the first of two names.
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
