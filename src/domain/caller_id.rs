//! What the ids of callers may be: names that are taken, and SPIFFE ids.

/// The id of everybody where no credential is looked at.
pub const ANONYMOUS: &str = "anonymous";

/// With this begin the ids of people at the command line.
pub const COMMAND_LINE_PREFIX: &str = "cli:";

/// With this begin the ids of workloads that SPIFFE names.
const SPIFFE_SCHEME: &str = "spiffe://";

/// The longest SPIFFE id, in bytes (SPIFFE-ID, 2.3).
const MAX_SPIFFE_ID_BYTES: usize = 2048;

/// The longest trust domain, in bytes (SPIFFE-ID, 2.3).
const MAX_TRUST_DOMAIN_BYTES: usize = 255;

/// Who called, as far as policies can ask: kept where policy is asked again after the caller has gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallerOnRecord {
    /// Names the caller in policies and in the audit trail.
    pub id: String,
    /// How it proved who it is, as policies call it.
    pub method: String,
    /// Of a token: who vouched for it.
    pub issuer: Option<String>,
}

/// Whether an id is one that no credential may give. Case does not matter: people read ids.
#[must_use]
pub fn is_reserved_caller(id: &str) -> bool {
    id.eq_ignore_ascii_case(ANONYMOUS) || begins_with(id, COMMAND_LINE_PREFIX)
}

/// Whether an id claims to be a SPIFFE id, well made or not.
#[must_use]
pub fn claims_spiffe(id: &str) -> bool {
    begins_with(id, SPIFFE_SCHEME)
}

/// Whether a prefix can be put before subjects: printable ASCII without spaces, and nothing with which, or with the
/// subject behind it, an id would be `anonymous`, `cli:…` or `spiffe://…`.
#[must_use]
pub fn is_caller_prefix(prefix: &str) -> bool {
    let taken = [ANONYMOUS, COMMAND_LINE_PREFIX, SPIFFE_SCHEME];
    prefix.bytes().all(|byte| byte.is_ascii_graphic())
        && (prefix.is_empty()
            || !taken.iter().any(|taken| begins_with(prefix, taken) || begins_with(taken, prefix)))
}

/// Whether `text` begins with `start`, in whatever case of ASCII letters.
#[must_use]
pub fn begins_with(text: &str, start: &str) -> bool {
    let head = text.as_bytes().get(..start.len());
    head.is_some_and(|head| head.eq_ignore_ascii_case(start.as_bytes()))
}

/// Whether it is the name of a trust domain (SPIFFE-ID, 2.1).
#[must_use]
pub fn is_trust_domain(text: &str) -> bool {
    let fits =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-_".contains(&byte);
    (1..=MAX_TRUST_DOMAIN_BYTES).contains(&text.len()) && text.bytes().all(fits)
}

/// The trust domain of a workload's SPIFFE id, if it is one: lower-case trust domain and a path of whole segments,
/// nothing else (SPIFFE-ID, 2; X509-SVID, 2: only authorities have no path).
#[must_use]
pub fn trust_domain(id: &str) -> Option<&str> {
    let (domain, path) = id.strip_prefix(SPIFFE_SCHEME)?.split_once('/')?;
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    let segment = |segment: &str| !matches!(segment, "" | "." | "..") && segment.bytes().all(fits);
    let whole = id.len() <= MAX_SPIFFE_ID_BYTES && path.split('/').all(segment);
    (whole && is_trust_domain(domain)).then_some(domain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_spiffe_id_has_no_trust_domain() {
        for id in [
            "",
            "spiffe://",
            "spiffe:///x",
            "spiffe://example.org",
            "spiffe://example.org/",
            "spiffe://example.org/a/",
            "spiffe://example.org//a",
            "spiffe://example.org/./a",
            "spiffe://example.org/../a",
            "spiffe://example.org/a?b",
            "spiffe://example.org/a#b",
            "spiffe://example.org:8443/a",
            "spiffe://user@example.org/a",
            "spiffe://Example.org/a",
            "SPIFFE://example.org/a",
            "spiffe:/example.org/a",
            "spiffe://example.org/%61",
            "spiffe://example.org/a b",
            "spiffe://exämple.org/a",
        ] {
            assert_eq!(trust_domain(id), None, "{id}");
        }
        assert_eq!(trust_domain(&format!("spiffe://{}/a", "a".repeat(256))), None);
        assert_eq!(trust_domain(&format!("spiffe://a/{}", "a".repeat(2048))), None);
        assert_eq!(trust_domain("spiffe://example.org/ns/a/sa/B_1.x"), Some("example.org"));
    }

    #[test]
    fn a_prefix_cannot_lead_to_names_that_are_taken() {
        for prefix in [
            "s",
            "spiffe:",
            "spiffe://a/",
            "SPIFFE:",
            "cli",
            "cli:",
            "CLI:x",
            "a",
            "anonymous",
            "Anonymous:",
            "a b",
            "ä:",
            "\n",
        ] {
            assert!(!is_caller_prefix(prefix), "{prefix}");
        }
        for prefix in ["", "ci:", "cluster-a:", "spire:", "https://a/"] {
            assert!(is_caller_prefix(prefix), "{prefix}");
        }
    }

    #[test]
    fn names_that_are_taken_are_taken_in_any_case() {
        for id in ["anonymous", "Anonymous", "cli:root", "CLI:root"] {
            assert!(is_reserved_caller(id), "{id}");
        }
        for id in ["anonymous2", "client", "cli"] {
            assert!(!is_reserved_caller(id), "{id}");
        }
    }
}
