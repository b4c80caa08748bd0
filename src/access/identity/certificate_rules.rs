//! Selection of the caller's name among the names in a client certificate.

use x509_parser::prelude::{GeneralName, X509Certificate};

use super::certificate_name::{CertificateProblem, checked_common_name, checked_host, checked_uri};

/// A kind of name in a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameKind {
    /// A URI in `subjectAltName`.
    Uri,
    /// A DNS name in `subjectAltName`.
    Dns,
    /// The common name of the subject.
    CommonName,
}

/// Rules for the caller's name in a certificate, from `[callers.mtls]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CertificateRules {
    /// The kind of name that counts. Without it, exactly one URI counts, or else exactly one DNS name.
    pub identity: Option<NameKind>,
    /// Selects the one name that matches.
    pub pattern: Option<NamePattern>,
}

/// A pattern in which `*` matches any number of characters, including none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamePattern(String);

impl NamePattern {
    /// Creates a pattern from the configured text.
    #[must_use]
    pub fn new(pattern: impl Into<String>) -> Self {
        Self(pattern.into())
    }

    /// Returns whether the whole name matches.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let (pattern, name) = (self.0.as_bytes(), name.as_bytes());
        // The position after the last `*`, and the position in the name up to which that `*` matches.
        let (mut at, mut of_name, mut star) = (0, 0, None);
        while let Some(byte) = name.get(of_name) {
            match pattern.get(at) {
                Some(b'*') => {
                    at += 1;
                    star = Some((at, of_name));
                }
                Some(wanted) if wanted == byte => {
                    at += 1;
                    of_name += 1;
                }
                _ => {
                    let Some((behind, from)) = star else { return false };
                    star = Some((behind, from + 1));
                    (at, of_name) = (behind, from + 1);
                }
            }
        }
        pattern.iter().skip(at).all(|byte| *byte == b'*')
    }
}

/// A name in a certificate that could be the caller's. It is not validated yet.
#[derive(Clone, Copy)]
pub(super) struct Name<'a> {
    pub(super) kind: NameKind,
    pub(super) text: &'a str,
}

impl CertificateRules {
    /// Returns the caller's id in a certificate.
    pub(super) fn id(
        &self,
        certificate: &X509Certificate<'_>,
    ) -> Result<String, CertificateProblem> {
        if self.identity == Some(NameKind::CommonName) {
            let names: Result<Vec<_>, _> = certificate
                .subject()
                .iter_common_name()
                .map(|name| name.as_str().map_err(|_| CertificateProblem::Unreadable))
                .map(|text| text.map(|text| Name { kind: NameKind::CommonName, text }))
                .collect();
            return self.choose(&names?);
        }
        let names = certificate.subject_alternative_name();
        let names = names.map_err(|_| CertificateProblem::Unreadable)?;
        let names = names.map(|names| names.value.general_names.as_slice()).unwrap_or_default();
        // An entry that cannot be decoded could be a second name.
        if names.iter().any(|name| matches!(name, GeneralName::Invalid(..))) {
            return Err(CertificateProblem::Unreadable);
        }
        let names = names.iter().filter_map(|name| match *name {
            GeneralName::URI(text) => Some(Name { kind: NameKind::Uri, text }),
            GeneralName::DNSName(text) => Some(Name { kind: NameKind::Dns, text }),
            _ => None,
        });
        self.choose(&names.collect::<Vec<_>>())
    }

    /// Returns the id that one of the names gives.
    pub(super) fn choose(&self, names: &[Name<'_>]) -> Result<String, CertificateProblem> {
        let of_kind = |kind: NameKind| {
            let fits = move |name: &&Name<'_>| name.kind == kind;
            names.iter().filter(fits).copied().collect::<Vec<_>>()
        };
        let counting = match (self.identity, &self.pattern) {
            (Some(kind), _) => of_kind(kind),
            (None, Some(_)) => names.to_vec(),
            (None, None) => {
                let uris = of_kind(NameKind::Uri);
                if uris.is_empty() { of_kind(NameKind::Dns) } else { uris }
            }
        };
        if counting.is_empty() {
            return Err(match self.identity {
                None => CertificateProblem::NoName,
                Some(kind) => CertificateProblem::MissingName(kind.describe()),
            });
        }
        let matching: Vec<_> = counting.into_iter().filter(|name| self.matches(*name)).collect();
        match (matching.as_slice(), &self.pattern) {
            ([name], _) => name.checked(),
            ([], _) => Err(CertificateProblem::NoMatch),
            (_, Some(_)) => Err(CertificateProblem::SeveralNamesMatch),
            (_, None) => Err(CertificateProblem::Ambiguous),
        }
    }

    fn matches(&self, name: Name<'_>) -> bool {
        let Some(pattern) = &self.pattern else { return true };
        match name.kind {
            // Host names are case-insensitive.
            NameKind::Dns => {
                let pattern = NamePattern(pattern.0.to_ascii_lowercase());
                pattern.matches(&name.text.to_ascii_lowercase())
            }
            NameKind::Uri | NameKind::CommonName => pattern.matches(name.text),
        }
    }
}

impl NameKind {
    fn describe(self) -> &'static str {
        match self {
            Self::Uri => "URI in its subjectAltName",
            Self::Dns => "DNS name in its subjectAltName",
            Self::CommonName => "common name in its subject",
        }
    }
}

impl Name<'_> {
    fn checked(self) -> Result<String, CertificateProblem> {
        match self.kind {
            NameKind::Uri => checked_uri(self.text),
            NameKind::Dns => checked_host(self.text),
            NameKind::CommonName => checked_common_name(self.text),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rules(identity: Option<NameKind>, pattern: Option<&str>) -> CertificateRules {
        CertificateRules { identity, pattern: pattern.map(NamePattern::new) }
    }

    const NAMES: [Name<'static>; 5] = [
        Name { kind: NameKind::Uri, text: "spiffe://prod.example/ns/shop/sa/sync" },
        Name { kind: NameKind::Uri, text: "spiffe://test.example/ns/shop/sa/sync" },
        Name { kind: NameKind::Dns, text: "sync.shop.example" },
        Name { kind: NameKind::Dns, text: "*.shop.example" },
        Name { kind: NameKind::CommonName, text: "sync-service" },
    ];

    #[test]
    fn rejects_a_pattern_that_matches_two_names_or_none() {
        for (identity, pattern, problem) in [
            (None, Some("*"), CertificateProblem::SeveralNamesMatch),
            (None, Some("*sync*"), CertificateProblem::SeveralNamesMatch),
            (Some(NameKind::Uri), Some("spiffe://*"), CertificateProblem::SeveralNamesMatch),
            (Some(NameKind::Dns), Some("*.shop.example"), CertificateProblem::SeveralNamesMatch),
            (Some(NameKind::Uri), Some("spiffe://prod.example"), CertificateProblem::NoMatch),
            (Some(NameKind::Uri), Some("SPIFFE://prod.example/*"), CertificateProblem::NoMatch),
            (Some(NameKind::Uri), Some("sync.shop.example"), CertificateProblem::NoMatch),
            (Some(NameKind::CommonName), Some("sync"), CertificateProblem::NoMatch),
            (Some(NameKind::Uri), None, CertificateProblem::Ambiguous),
            (Some(NameKind::Dns), None, CertificateProblem::Ambiguous),
            (None, None, CertificateProblem::Ambiguous),
        ] {
            let chosen = rules(identity, pattern).choose(&NAMES);
            assert_eq!(chosen, Err(problem), "{identity:?} {pattern:?}");
        }
        for kind in [NameKind::Uri, NameKind::Dns, NameKind::CommonName] {
            let missing = rules(Some(kind), Some("*")).choose(&[]);
            assert_eq!(missing, Err(CertificateProblem::MissingName(kind.describe())));
        }
    }

    #[test]
    fn the_selected_name_is_the_callers_id() {
        for (identity, pattern, id) in [
            (None, Some("spiffe://prod.*"), "spiffe://prod.example/ns/shop/sa/sync"),
            (Some(NameKind::Uri), Some("*/prod.*"), "spiffe://prod.example/ns/shop/sa/sync"),
            (Some(NameKind::Dns), Some("SYNC.*"), "sync.shop.example"),
            (Some(NameKind::CommonName), None, "sync-service"),
            (Some(NameKind::CommonName), Some("*-service"), "sync-service"),
        ] {
            let chosen = rules(identity, pattern).choose(&NAMES);
            assert_eq!(chosen.unwrap(), id, "{identity:?} {pattern:?}");
        }
        // A name that a pattern selects is validated like any other name.
        let wildcard = rules(Some(NameKind::Dns), Some("?.shop.example")).choose(&NAMES);
        assert_eq!(wildcard, Err(CertificateProblem::NoMatch));
        let many = [Name { kind: NameKind::Dns, text: "*.shop.example" }];
        let refused = rules(None, Some("*")).choose(&many);
        assert!(matches!(refused, Err(CertificateProblem::Name(_))), "{refused:?}");
    }

    #[test]
    fn the_whole_name_must_match_a_pattern() {
        for (pattern, name, wanted) in [
            ("", "", true),
            ("", "a", false),
            ("a", "", false),
            ("*", "", true),
            ("**", "abc", true),
            ("a*c", "abbc", true),
            ("a*c", "abcd", false),
            ("*ab", "aab", true),
            ("*a*b", "xaxab", true),
            ("a*a", "a", false),
            ("abc", "ab", false),
        ] {
            assert_eq!(NamePattern::new(pattern).matches(name), wanted, "{pattern} {name}");
        }
    }

    proptest! {
        #[test]
        fn patterns_match_as_their_definition_says(pattern in "[ab*]{0,6}", name in "[ab]{0,8}") {
            fn defined(pattern: &[u8], name: &[u8]) -> bool {
                match pattern.split_first() {
                    None => name.is_empty(),
                    Some((b'*', rest)) => {
                        (0..=name.len()).any(|taken| defined(rest, &name[taken..]))
                    }
                    Some((byte, rest)) => {
                        name.first() == Some(byte) && defined(rest, &name[1..])
                    }
                }
            }
            let wanted = defined(pattern.as_bytes(), name.as_bytes());
            prop_assert_eq!(NamePattern::new(pattern).matches(&name), wanted);
        }
    }
}
