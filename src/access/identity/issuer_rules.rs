//! Rules for the tokens of an issuer and for the caller ids that they may give.

use std::{borrow::Cow, time::Duration};

use jiff::SignedDuration;

use crate::domain::{
    TokenAlgorithm, claims_spiffe, is_reserved_caller, starts_with_ignore_case, trust_domain,
};

/// The default claim that names the caller.
pub(super) const SUBJECT: &str = "sub";

/// Default for the allowed clock difference to the issuer, in either direction.
const LEEWAY: SignedDuration = SignedDuration::from_secs(30);

/// Default for the maximum age of keys.
const MAX_KEY_AGE: Duration = Duration::from_hours(24);

/// Maximum length of a subject, in bytes. The longest of Kubernetes has 339 (service account).
const MAX_SUBJECT_BYTES: usize = 512;

/// The configuration of a token issuer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerRules {
    /// The `iss` claim, byte for byte.
    pub issuer: String,
    /// The accepted audiences: `aud` must hold at least one.
    pub audiences: Vec<String>,
    /// The claim whose value names the caller.
    pub caller_claim: String,
    /// The accepted signature algorithms.
    pub algorithms: Vec<TokenAlgorithm>,
    /// The allowed clock difference to the issuer, in either direction.
    pub leeway: SignedDuration,
    /// The prefix of the caller id, before the subject.
    pub caller_prefix: String,
    /// The trust domain for which subjects that begin with `spiffe://` are accepted. Without it they are rejected.
    pub spiffe_trust_domain: Option<String>,
    /// The maximum lifetime of tokens. If it is set, tokens without `iat` are rejected too.
    pub max_lifetime: Option<Duration>,
    /// The maximum age of keys. Older keys are not accepted.
    pub max_key_age: Duration,
}

impl IssuerRules {
    /// Creates the rules of an issuer with defaults, for an issuer name and an audience.
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

    /// Returns the caller id for a verified subject.
    ///
    /// If no issuer's prefix begins with another's, two issuers never give the same id: only the issuer with a prefix
    /// gives ids that begin with it.
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
        // With or without prefix, a subject that looks like a SPIFFE id must be one.
        if claims_spiffe(subject) || claims_spiffe(&id) {
            let domain = trust_domain(subject);
            if domain.is_none() || domain != self.spiffe_trust_domain.as_deref() {
                return refused("is not a SPIFFE id in the trust domain of its issuer");
            }
        }
        check_not_reserved(&id, others.iter().copied())?;
        Ok(id)
    }

    /// Returns the name of the claim for messages.
    fn claim(&self) -> Cow<'static, str> {
        match self.caller_claim.as_str() {
            SUBJECT => "subject".into(),
            claim => format!("claim {claim:?} (caller_claim)").into(),
        }
    }
}

/// Rejects reserved ids, and ids that begin with the prefix of one of the issuers.
pub(super) fn check_not_reserved<'a>(
    id: &str,
    prefixes: impl IntoIterator<Item = &'a str>,
) -> Result<(), &'static str> {
    if is_reserved_caller(id) {
        return Err("its name is reserved");
    }
    // Ignores case, because people read ids.
    if prefixes.into_iter().any(|prefix| !prefix.is_empty() && starts_with_ignore_case(id, prefix))
    {
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
    fn rejects_a_subject_that_could_be_mistaken_for_another() {
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
    fn rejects_a_spiffe_subject_outside_the_trust_domain() {
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
    fn a_prefix_cannot_form_a_spiffe_id_or_a_reserved_id() {
        assert!(issuer("spiffe:", Some("a")).caller_id("//a/b", &[]).is_err());
        assert!(issuer("spiffe://a/", Some("a")).caller_id("b", &[]).is_err());
        assert!(issuer("cli", None).caller_id(":root", &[]).is_err());
        assert!(issuer("anon", None).caller_id("ymous", &[]).is_err());
    }

    #[test]
    fn rejects_reserved_names() {
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
        // Tokens of two issuers never name the same caller, and a name in a certificate equals a token's caller id only
        // if that issuer has no prefix.
        #[test]
        fn no_two_issuers_name_the_same_caller(
            prefixes in prop::collection::vec("[a-c:]{0,3}", 2..5),
            subjects in prop::collection::vec("([a-c:]{1,5}|spiffe://[ab]/[a-c]|(?i:spiffe)://a/b)", 2..5),
        ) {
            // A valid configuration has at most one empty prefix, and none begins with another.
            let mut kept: Vec<String> = Vec::new();
            for prefix in prefixes {
                let nested = |other: &String| {
                    if other.is_empty() || prefix.is_empty() { *other == prefix }
                    else { starts_with_ignore_case(other, &prefix) || starts_with_ignore_case(&prefix, other) }
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
                        let in_certificate = check_not_reserved(&id, kept.iter().map(String::as_str)).is_ok();
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
