//! Checks of names in certificates, and the reasons why a certificate names no caller.

use crate::domain::{claims_spiffe, starts_with_ignore_case, trust_domain};

/// Maximum length of a URI that names a caller, in bytes: that of a SPIFFE id.
const MAX_URI_BYTES: usize = 2048;

/// Maximum length of a host name and of a label, in bytes (RFC 1035, 2.3.4).
const MAX_HOST_BYTES: usize = 253;
const MAX_LABEL_BYTES: usize = 63;

/// Maximum length of a common name. X.509 allows 64 characters, but certificates with full-length host names exist.
const MAX_COMMON_NAME_BYTES: usize = 253;

/// The reason why a certificate names no caller. The message repeats nothing of the certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CertificateProblem {
    /// It is not an X.509 certificate, or bytes follow it.
    #[error("the client certificate cannot be read")]
    Unreadable,
    /// It has no URI and no DNS name. A common name counts only if it is configured.
    #[error(
        "the client certificate has no URI and no DNS name in its subjectAltName: issue it with one, or set \
         callers.mtls.identity = \"common_name\""
    )]
    NoName,
    /// It has more than one URI, or no URI and more than one DNS name.
    #[error(
        "the client certificate has several names of a kind: issue it with exactly one URI, or with exactly one DNS \
         name, or choose one with callers.mtls.pattern"
    )]
    Ambiguous,
    /// It has no name of the configured kind. The text describes the kind.
    #[error("the client certificate has no {0}, which callers.mtls.identity asks for")]
    MissingName(&'static str),
    /// None of its names matches the configured pattern.
    #[error("no name in the client certificate matches callers.mtls.pattern")]
    NoMatch,
    /// More than one of its names matches the configured pattern.
    #[error(
        "several names in the client certificate match callers.mtls.pattern: make the pattern match exactly one"
    )]
    SeveralNamesMatch,
    /// Its name is not a valid caller id.
    #[error("the name in the client certificate is refused: {0}")]
    Name(&'static str),
}

pub(super) fn checked_uri(uri: &str) -> Result<String, CertificateProblem> {
    let refused = |why| Err(CertificateProblem::Name(why));
    if !(1..=MAX_URI_BYTES).contains(&uri.len()) || !uri.bytes().all(|b| b.is_ascii_graphic()) {
        return refused("its URI is empty, longer than 2048 bytes, or not visible ASCII");
    }
    // RFC 3986, 3.1. Without this check, a URI could be mistaken for a name of another kind.
    let scheme = uri.split_once(':').map_or("", |(scheme, _)| scheme);
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    if !scheme.starts_with(|c: char| c.is_ascii_alphabetic()) || !scheme.bytes().all(fits) {
        return refused("its URI has no scheme");
    }
    if starts_with_ignore_case(uri, "spiffe:") && trust_domain(uri).is_none() {
        return refused("its URI is not a SPIFFE id of a workload");
    }
    // Names of Kubernetes users: only tokens prove them, certificates do not.
    if starts_with_ignore_case(uri, "system:") {
        return refused("its URI is in the form of a Kubernetes user");
    }
    Ok(uri.to_owned())
}

/// Checks a host name (RFC 952; RFC 1123, 2.1) and returns it in lower case.
pub(super) fn checked_host(host: &str) -> Result<String, CertificateProblem> {
    let label = |label: &str| {
        (1..=MAX_LABEL_BYTES).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if host.len() > MAX_HOST_BYTES || !host.split('.').all(label) {
        let why = "its DNS name is not a single host (a wildcard names many)";
        return Err(CertificateProblem::Name(why));
    }
    Ok(host.to_ascii_lowercase())
}

/// Checks a common name. It is free text, so names that look like another kind of name are rejected.
pub(super) fn checked_common_name(name: &str) -> Result<String, CertificateProblem> {
    let refused = |why| Err(CertificateProblem::Name(why));
    if !(1..=MAX_COMMON_NAME_BYTES).contains(&name.len())
        || !name.bytes().all(|byte| byte.is_ascii_graphic())
    {
        return refused(
            "its common name is empty, longer than 253 bytes, or not visible ASCII without spaces",
        );
    }
    if name.contains('*') {
        return refused("its common name is a wildcard, which names many");
    }
    if claims_spiffe(name) || starts_with_ignore_case(name, "system:") {
        return refused("its common name is in the form of a SPIFFE id or of a Kubernetes user");
    }
    Ok(name.to_owned())
}
