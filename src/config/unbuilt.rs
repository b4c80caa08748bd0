//! What is configured by names that are fixed already, but has no effect yet.

use super::document::Document;

/// Keys whose part is not built yet; taken out as each part lands. ` = ` means this value only.
const NOT_BUILT: [&str; 25] = [
    "http",
    "egress",
    "store.password_file",
    "store.password_env",
    "store.ca_file",
    "crypto.provider = transit",
    "policy",
    "audit",
    "quotas",
    "login.max_concurrent",
    "telemetry",
    "envoy",
    "callers.jwt",
    "callers.mtls",
    "applications.next_client_secret_file",
    "applications.next_client_secret_env",
    "applications.next_private_key_file",
    "applications.next_private_key_env",
    "applications.redirect_uri",
    "applications.redirect_uris",
    "applications.return_uri_prefixes",
    "applications.webhook_secret_file",
    "applications.webhook_secret_env",
    "applications.calls_per_second",
    "applications.burst",
];

/// One warning that names all of them that the file sets.
pub(super) fn warning(document: &Document<'_>) -> Option<String> {
    let set: Vec<_> = NOT_BUILT.iter().copied().filter(|path| document.sets(path)).collect();
    (!set.is_empty()).then(|| format!("not built yet and without effect: {}", set.join(", ")))
}
