//! Rules for caller ids: reserved names and SPIFFE ids.

/// The id of all callers if no credential is checked.
pub const ANONYMOUS: &str = "anonymous";

/// The prefix of the ids of people at the command line.
pub const COMMAND_LINE_PREFIX: &str = "cli:";

/// The prefix of SPIFFE ids.
const SPIFFE_SCHEME: &str = "spiffe://";

/// Maximum length of a SPIFFE id, in bytes (SPIFFE-ID, 2.3).
const MAX_SPIFFE_ID_BYTES: usize = 2048;

/// Maximum length of a trust domain, in bytes (SPIFFE-ID, 2.3).
const MAX_TRUST_DOMAIN_BYTES: usize = 255;

/// A stored caller, with the attributes that policies can read. Used to evaluate policies after the call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallerRecord {
    /// The id in policies and in the audit trail.
    pub id: String,
    /// The authentication method, by its name in policies.
    pub method: String,
    /// The issuer of the token, if a token was used.
    pub issuer: Option<String>,
}

/// Returns whether an id is reserved, so that no credential may give it. Ignores case, because people read ids.
#[must_use]
pub fn is_reserved_caller(id: &str) -> bool {
    id.eq_ignore_ascii_case(ANONYMOUS) || starts_with_ignore_case(id, COMMAND_LINE_PREFIX)
}

/// Returns whether an id claims to be a SPIFFE id, valid or not.
#[must_use]
pub fn claims_spiffe(id: &str) -> bool {
    starts_with_ignore_case(id, SPIFFE_SCHEME)
}

/// Returns whether a prefix is allowed before subjects: it is printable ASCII without spaces, and no id with it can
/// begin with a reserved name (`anonymous`, `cli:…`, `spiffe://…`).
#[must_use]
pub fn is_caller_prefix(prefix: &str) -> bool {
    let taken = [ANONYMOUS, COMMAND_LINE_PREFIX, SPIFFE_SCHEME];
    prefix.bytes().all(|byte| byte.is_ascii_graphic())
        && (prefix.is_empty()
            || !taken.iter().any(|taken| {
                starts_with_ignore_case(prefix, taken) || starts_with_ignore_case(taken, prefix)
            }))
}

/// Returns whether `text` begins with `start`, ignoring ASCII case.
#[must_use]
pub fn starts_with_ignore_case(text: &str, start: &str) -> bool {
    let head = text.as_bytes().get(..start.len());
    head.is_some_and(|head| head.eq_ignore_ascii_case(start.as_bytes()))
}

/// Returns whether a text is the name of a trust domain (SPIFFE-ID, 2.1).
#[must_use]
pub fn is_trust_domain(text: &str) -> bool {
    let fits =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-_".contains(&byte);
    (1..=MAX_TRUST_DOMAIN_BYTES).contains(&text.len()) && text.bytes().all(fits)
}

/// Returns the trust domain of a workload's SPIFFE id: a lower-case trust domain and a path of non-empty segments
/// (SPIFFE-ID, 2; X509-SVID, 2: only certificate authorities have no path).
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
    fn rejects_malformed_spiffe_ids() {
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
    fn rejects_prefixes_of_reserved_names() {
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
    fn names_are_reserved_in_any_case() {
        for id in ["anonymous", "Anonymous", "cli:root", "CLI:root"] {
            assert!(is_reserved_caller(id), "{id}");
        }
        for id in ["anonymous2", "client", "cli"] {
            assert!(!is_reserved_caller(id), "{id}");
        }
    }
}
