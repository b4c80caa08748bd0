//! Reads the caller's name (RFC 5280, 4.2.1.6) and the validity of a client certificate.
//!
//! TLS verifies the chain and the purpose.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{
    super::caller::{Caller, CallerMethod, Identity},
    certificate_name::CertificateProblem,
    certificate_rules::CertificateRules,
};
use crate::ports::PresentedCertificate;

/// The client certificate of a connection, verified by TLS. It is read once for each connection.
#[derive(Debug, Clone)]
pub struct PeerCertificate {
    caller: Caller,
    not_before: Timestamp,
    /// The second after `notAfter`, because `notAfter` itself is still valid.
    end: Timestamp,
}

impl PeerCertificate {
    /// Reads the certificate that a client presented on a connection of ours.
    ///
    /// # Errors
    /// Returns an error if the certificate does not name exactly one caller by `rules`.
    pub fn from_connection(
        certificate: Arc<dyn PresentedCertificate>,
        rules: &CertificateRules,
    ) -> Result<Self, CertificateProblem> {
        let mut peer = Self::read(certificate.der(), rules)?;
        let mut identity = peer.caller.identity().clone();
        identity.connection_certificate = Some(certificate);
        peer.caller = Caller::from_identity(identity);
        Ok(peer)
    }

    /// Reads a certificate in DER, whose trust was verified elsewhere.
    ///
    /// # Errors
    /// Returns an error if the certificate does not name exactly one caller by `rules`.
    pub fn read(der: &[u8], rules: &CertificateRules) -> Result<Self, CertificateProblem> {
        let unreadable = CertificateProblem::Unreadable;
        let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| unreadable)?;
        if !rest.is_empty() {
            return Err(unreadable);
        }
        let id = rules.id(&certificate)?;
        let validity = certificate.validity();
        let instant = |seconds| Timestamp::from_second(seconds).map_err(|_| unreadable);
        let not_before = instant(validity.not_before.timestamp())?;
        let last = instant(validity.not_after.timestamp())?;
        let end = last.saturating_add(SignedDuration::from_secs(1)).unwrap_or(Timestamp::MAX);
        Ok(Self::from_id(id, not_before, end))
    }

    /// Creates the certificate of a caller with this valid id.
    pub(super) fn from_id(id: String, not_before: Timestamp, end: Timestamp) -> Self {
        let caller = Caller::from_identity(Identity {
            id: id.into(),
            method: CallerMethod::Mtls,
            issuer: None,
            certificate: None,
            valid_until: Some(end),
            key: None,
            connection_certificate: None,
        });
        Self { caller, not_before, end }
    }

    /// Returns the caller's id.
    #[must_use]
    pub fn id(&self) -> &str {
        self.caller.id()
    }

    /// Returns whether the certificate is valid at `now`. The first and the last second are included.
    pub(super) fn is_valid(&self, now: Timestamp) -> bool {
        self.not_before <= now && now < self.end
    }

    /// Returns the certificate of the connection, if the client presented it on a connection of ours.
    pub(super) fn connection_certificate(&self) -> Option<&Arc<dyn PresentedCertificate>> {
        self.caller.identity().connection_certificate.as_ref()
    }

    /// Returns whether its chain is still trusted.
    pub(super) fn is_trusted(&self, now: Timestamp) -> bool {
        self.connection_certificate().is_none_or(|shown| shown.is_trusted(now))
    }

    /// Returns the time from which the certificate is no longer valid.
    pub(super) fn end(&self) -> Timestamp {
        self.end
    }

    /// Returns the caller that the certificate names.
    pub(super) fn caller(&self) -> &Caller {
        &self.caller
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::{super::certificate_rules::NameKind, *};

    fn uri(text: &str) -> SanType {
        SanType::URI(text.try_into().unwrap())
    }

    fn dns(text: &str) -> SanType {
        SanType::DnsName(text.try_into().unwrap())
    }

    fn der(names: Vec<SanType>) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "common.example.org");
        params.subject_alt_names = names;
        params.not_before = rcgen::date_time_ymd(2026, 1, 1);
        params.not_after = rcgen::date_time_ymd(2026, 2, 1);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    fn read(names: Vec<SanType>) -> Result<String, CertificateProblem> {
        PeerCertificate::read(&der(names), &CertificateRules::default())
            .map(|certificate| certificate.id().to_owned())
    }

    #[test]
    fn rejects_a_certificate_without_exactly_one_name() {
        let other = || SanType::IpAddress("10.0.0.1".parse().unwrap());
        let mail = || SanType::Rfc822Name("a@example.org".try_into().unwrap());
        // All these certificates also have the common name.
        assert_eq!(read(vec![]), Err(CertificateProblem::NoName));
        assert_eq!(read(vec![other(), mail()]), Err(CertificateProblem::NoName));
        for names in [
            vec![uri("spiffe://a/b"), uri("spiffe://a/c")],
            vec![uri("spiffe://a/b"), uri("spiffe://a/b")],
            vec![uri("spiffe://a/b"), uri("spiffe://a/c"), dns("a.example.org")],
            vec![dns("a.example.org"), dns("b.example.org")],
            vec![dns("a.example.org"), other(), dns("a.example.org")],
        ] {
            assert_eq!(read(names), Err(CertificateProblem::Ambiguous));
        }
        assert_eq!(read(vec![dns("A.Example.org"), other(), mail()]).unwrap(), "a.example.org");
        let names = vec![dns("a.example.org"), uri("spiffe://a/b"), dns("b.example.org")];
        assert_eq!(read(names).unwrap(), "spiffe://a/b");
    }

    #[test]
    fn rejects_wildcards_and_misleading_names() {
        for host in [
            "*.example.org",
            "*",
            "",
            ".",
            "a..b",
            "a.example.org.",
            "-a",
            "a-",
            "a_b",
            "a b",
            "a:b",
            "a/b",
            "cli:root",
        ] {
            assert!(matches!(read(vec![dns(host)]), Err(CertificateProblem::Name(_))), "{host}");
        }
        for text in [
            "",
            "a",
            "//a/b",
            ":a",
            "1a:b",
            "a b:c",
            "SPIFFE://a/b",
            "spiffe:a",
            "spiffe://a",
            "spiffe://a/",
            "spiffe://A/b",
            "spiffe://a/b?c",
            "spiffe://a:1/b",
            "spiffe://u@a/b",
            "spiffe://a/../b",
            "https://a/ b",
            "https://a/\n",
            "system:serviceaccount:shop:sync",
        ] {
            assert!(matches!(read(vec![uri(text)]), Err(CertificateProblem::Name(_))), "{text}");
        }
        for text in ["spiffe://example.org/ns/a/sa/b", "https://example.org/a?b", "urn:uuid:1"] {
            assert_eq!(read(vec![uri(text)]).unwrap(), text);
        }
    }

    #[test]
    fn a_common_name_counts_only_if_configured_and_must_be_plain() {
        let rules = |identity| CertificateRules { identity: Some(identity), pattern: None };
        let common = |names: &[&str]| {
            let mut params = CertificateParams::default();
            params.distinguished_name = rcgen::DistinguishedName::new();
            params.distinguished_name.push(DnType::OrganizationName, "shop");
            for name in names {
                params.distinguished_name.push(DnType::CommonName, *name);
            }
            params.subject_alt_names = vec![dns("a.example.org"), dns("b.example.org")];
            let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
            let read = PeerCertificate::read(certificate.der(), &rules(NameKind::CommonName));
            read.map(|certificate| certificate.id().to_owned())
        };
        for name in ["", "sync service", "syn\u{441}", "*.example.org", "spiffe://a/b", "SYSTEM:x"]
        {
            assert!(matches!(common(&[name]), Err(CertificateProblem::Name(_))), "{name}");
        }
        assert!(matches!(common(&[]), Err(CertificateProblem::MissingName(_))));
        assert_eq!(common(&["Sync-1.example.org"]).unwrap(), "Sync-1.example.org");
        let named = der(vec![dns("a.example.org"), dns("b.example.org")]);
        let read = |identity| PeerCertificate::read(&named, &rules(identity));
        assert_eq!(read(NameKind::CommonName).unwrap().id(), "common.example.org");
        assert_eq!(read(NameKind::Dns).unwrap_err(), CertificateProblem::Ambiguous);
        assert!(matches!(read(NameKind::Uri), Err(CertificateProblem::MissingName(_))));
    }

    #[test]
    fn it_is_valid_from_its_first_second_to_its_last() {
        let certificate =
            PeerCertificate::read(&der(vec![dns("a")]), &CertificateRules::default()).unwrap();
        let valid = |time: &str| certificate.is_valid(time.parse().unwrap());
        assert!(!valid("2025-12-31T23:59:59.9Z"));
        assert!(valid("2026-01-01T00:00:00Z"));
        assert!(valid("2026-02-01T00:00:00.9Z"));
        assert!(!valid("2026-02-01T00:00:01Z"));
    }

    #[test]
    fn rejects_truncated_certificates_and_trailing_bytes() {
        let whole = der(vec![dns("a")]);
        for end in 0..whole.len() {
            let problem =
                PeerCertificate::read(&whole[..end], &CertificateRules::default()).unwrap_err();
            assert_eq!(problem, CertificateProblem::Unreadable);
        }
        let mut longer = whole;
        longer.push(0);
        assert_eq!(
            PeerCertificate::read(&longer, &CertificateRules::default()).unwrap_err(),
            CertificateProblem::Unreadable
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn reading_random_bytes_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = PeerCertificate::read(&bytes, &CertificateRules::default());
        }

        #[test]
        fn reading_a_damaged_certificate_never_panics(at in any::<prop::sample::Index>(), flip in 1_u8..) {
            static WHOLE: std::sync::LazyLock<Vec<u8>> =
                std::sync::LazyLock::new(|| der(vec![uri("spiffe://a/b"), dns("a.example.org")]));
            let mut bytes = WHOLE.clone();
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            if let Ok(certificate) = PeerCertificate::read(&bytes, &CertificateRules::default()) {
                prop_assert!(certificate.id().bytes().all(|byte| byte.is_ascii_graphic()));
            }
        }
    }
}
