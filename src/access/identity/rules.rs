//! Which ids a credential may give.

use std::{borrow::Cow, time::Duration};

use jiff::SignedDuration;

use crate::domain::{TokenAlgorithm, begins_with, claims_spiffe, is_reserved_caller, trust_domain};

/// The claim that names the caller, unless another one is configured.
pub(super) const SUBJECT: &str = "sub";

/// How far an issuer's clock and ours may be apart in either direction, unless configured.
const LEEWAY: SignedDuration = SignedDuration::from_secs(30);

/// The age from which keys are no longer believed, unless configured.
const MAX_KEY_AGE: Duration = Duration::from_hours(24);

/// The longest subject, in bytes. Kubernetes' longest is 339: a service account of the longest name in a namespace of the longest.
const MAX_SUBJECT_BYTES: usize = 512;

/// What is configured of an issuer of tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerRules {
    /// The `iss` claim, byte for byte.
    pub issuer: String,
    /// The audiences of which `aud` must hold one.
    pub audiences: Vec<String>,
    /// The claim whose value names the caller.
    pub caller_claim: String,
    /// The algorithms with which tokens may be signed.
    pub algorithms: Vec<TokenAlgorithm>,
    /// How far the issuer's clock and ours may be apart, in either direction.
    pub leeway: SignedDuration,
    /// Put before the subject to make the caller's id.
    pub caller_prefix: String,
    /// Subjects that begin with `spiffe://` are accepted for this trust domain only.
    pub spiffe_trust_domain: Option<String>,
    /// Tokens issued for longer are refused; those that do not say when they were issued, too.
    pub max_lifetime: Option<Duration>,
    /// Keys that were read longer ago are believed no more.
    pub max_key_age: Duration,
}

impl IssuerRules {
    /// The rules of an issuer of which only its name and our audience are configured.
    #[must_use]
    pub fn new(issuer: &str, audience: &str) -> Self {
        Self {
            issuer: issuer.to_owned(),
            audiences: vec![audience.to_owned()],
            caller_claim: SUBJECT.to_owned(),
            algorithms: TokenAlgorithm::ALL.to_vec(),
            leeway: LEEWAY,
            caller_prefix: String::new(),
            spiffe_trust_domain: None,
            max_lifetime: None,
            max_key_age: MAX_KEY_AGE,
        }
    }

    /// The id of the caller that a verified subject names.
    ///
    /// Of any number of issuers whose prefixes are not nested, no two give the same id: of ids that begin with a
    /// prefix only the issuer with this prefix gives any.
    pub(super) fn caller_id(
        &self,
        subject: &str,
        others: &[&str],
    ) -> Result<String, Cow<'static, str>> {
        let refused = |why: &str| Err(format!("its {} {why}", self.claim()).into());
        if !(1..=MAX_SUBJECT_BYTES).contains(&subject.len()) {
            return refused("is empty or too long");
        }
        if !subject.bytes().all(|byte| byte.is_ascii_graphic()) {
            return refused("is not visible ASCII without spaces");
        }
        let id = format!("{}{subject}", self.caller_prefix);
        // Whatever the prefix: a subject that is taken for a SPIFFE id by its reader must be one.
        if claims_spiffe(subject) || claims_spiffe(&id) {
            let domain = trust_domain(subject);
            if domain.is_none() || domain != self.spiffe_trust_domain.as_deref() {
                return refused("is no SPIFFE id of the trust domain of its issuer");
            }
        }
        not_taken(&id, others.iter().copied())?;
        Ok(id)
    }

    /// Names the claim in messages.
    fn claim(&self) -> Cow<'static, str> {
        match self.caller_claim.as_str() {
            SUBJECT => "subject".into(),
            claim => format!("claim {claim:?} (caller_claim)").into(),
        }
    }
}

/// Refuses ids that are reserved, and those that belong to issuers: all ids that begin with one of their prefixes.
pub(super) fn not_taken<'a>(
    id: &str,
    prefixes: impl IntoIterator<Item = &'a str>,
) -> Result<(), &'static str> {
    if is_reserved_caller(id) {
        return Err("its name is reserved");
    }
    // Case does not matter, because people read ids.
    if prefixes.into_iter().any(|prefix| !prefix.is_empty() && begins_with(id, prefix)) {
        return Err("its name begins with the caller_prefix of an issuer that did not give it");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn issuer(prefix: &str, domain: Option<&str>) -> IssuerRules {
        IssuerRules {
            caller_prefix: prefix.to_owned(),
            spiffe_trust_domain: domain.map(str::to_owned),
            ..IssuerRules::new("https://issuer", "gateway")
        }
    }

    #[test]
    fn a_subject_that_people_or_policies_could_take_for_another_is_refused() {
        let long = "a".repeat(513);
        for subject in [
            "",
            " ",
            "a b",
            "a\n",
            "a\0",
            "\u{430}dmin",
            "admin\u{200b}",
            "ädmin",
            "a\u{7f}",
            long.as_str(),
        ] {
            assert!(issuer("", None).caller_id(subject, &[]).is_err(), "{subject:?}");
        }
        let long = "a".repeat(512);
        for subject in ["a", "system:serviceaccount:shop:sync", "user@example.org", &long] {
            assert_eq!(issuer("", None).caller_id(subject, &[]).unwrap(), subject);
            assert_eq!(issuer("p:", None).caller_id(subject, &[]).unwrap(), format!("p:{subject}"));
        }
    }

    #[test]
    fn a_spiffe_subject_is_refused_unless_it_is_of_the_trust_domain_of_its_issuer() {
        let subject = "spiffe://example.org/ns/a";
        for domain in
            [None, Some("example.com"), Some("example"), Some("org"), Some("example.org.")]
        {
            for prefix in ["", "p:"] {
                assert!(issuer(prefix, domain).caller_id(subject, &[]).is_err(), "{domain:?}");
            }
        }
        let issuer = issuer("", Some("example.org"));
        assert_eq!(issuer.caller_id(subject, &[]).unwrap(), subject);
        for subject in [
            "SPIFFE://example.org/ns/a",
            "Spiffe://example.org/ns/a",
            "spiffe://example.org",
            "spiffe://example.org/",
            "spiffe://example.organisation/a",
            "spiffe://example.org.evil/a",
            "spiffe://example.org:1/a",
            "spiffe://example.org@evil/a",
            "spiffe://evil/example.org/a",
            "spiffe://example.org/../evil",
        ] {
            assert!(issuer.caller_id(subject, &[]).is_err(), "{subject}");
        }
        assert_eq!(issuer.caller_id("other", &[]).unwrap(), "other");
    }

    #[test]
    fn a_prefix_that_was_let_through_cannot_make_a_spiffe_id_or_a_reserved_one() {
        assert!(issuer("spiffe:", Some("a")).caller_id("//a/b", &[]).is_err());
        assert!(issuer("spiffe://a/", Some("a")).caller_id("b", &[]).is_err());
        assert!(issuer("cli", None).caller_id(":root", &[]).is_err());
        assert!(issuer("anon", None).caller_id("ymous", &[]).is_err());
    }

    #[test]
    fn the_names_of_the_gateway_are_given_by_no_issuer() {
        for subject in ["anonymous", "ANONYMOUS", "cli:root", "Cli:root"] {
            assert!(issuer("", None).caller_id(subject, &[]).is_err(), "{subject}");
            assert!(issuer("p:", None).caller_id(subject, &[]).is_ok(), "{subject}");
        }
    }

    #[test]
    fn an_issuer_without_a_prefix_cannot_name_the_callers_of_another() {
        let others = ["ci:", ""];
        for subject in ["ci:deploy", "CI:deploy", "ci:"] {
            assert!(issuer("", None).caller_id(subject, &others).is_err(), "{subject}");
        }
        assert!(issuer("", None).caller_id("ci", &others).is_ok());
    }

    proptest! {
        // What holds: tokens of two issuers never name the same caller, and a name that a certificate may have is
        // that of a token only if the issuer has no prefix.
        #[test]
        fn no_two_issuers_name_the_same_caller(
            prefixes in prop::collection::vec("[a-c:]{0,3}", 2..5),
            subjects in prop::collection::vec("([a-c:]{1,5}|spiffe://[ab]/[a-c]|(?i:spiffe)://a/b)", 2..5),
        ) {
            // As configuration has it: at most one is empty, and none begins with another.
            let mut kept: Vec<String> = Vec::new();
            for prefix in prefixes {
                let nested = |other: &String| {
                    if other.is_empty() || prefix.is_empty() { *other == prefix }
                    else { begins_with(other, &prefix) || begins_with(&prefix, other) }
                };
                if !kept.iter().any(nested) {
                    kept.push(prefix);
                }
            }
            let mut named = std::collections::HashMap::new();
            for prefix in &kept {
                let others: Vec<_> = kept.iter().filter(|other| *other != prefix).map(String::as_str).collect();
                for subject in &subjects {
                    if let Ok(id) = issuer(prefix, Some("a")).caller_id(subject, &others) {
                        prop_assert!(!is_reserved_caller(&id));
                        prop_assert!(!claims_spiffe(&id) || id.starts_with("spiffe://a/"));
                        let in_certificate = not_taken(&id, kept.iter().map(String::as_str)).is_ok();
                        prop_assert!(!in_certificate || prefix.is_empty());
                        if let Some(other) = named.insert(id.clone(), prefix.clone()) {
                            prop_assert_eq!(&other, prefix, "{}", id);
                        }
                    }
                }
            }
        }
    }
}
