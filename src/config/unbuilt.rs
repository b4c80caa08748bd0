//! What is configured by names that are fixed already, but has no effect yet.

use super::document::Document;

/// Keys whose part is not built yet; taken out as each part lands. ` = ` means this value only.
const NOT_BUILT: [&str; 7] = [
    "store.password_file",
    "store.password_env",
    "store.ca_file",
    "store.max_connections",
    "store.statement_timeout",
    "crypto.provider = transit",
    "telemetry",
];

/// One warning that names all of them that the file sets.
pub(super) fn warning(document: &Document<'_>) -> Option<String> {
    let set: Vec<_> = NOT_BUILT.iter().copied().filter(|path| document.sets(path)).collect();
    (!set.is_empty()).then(|| format!("not built yet and without effect: {}", set.join(", ")))
}
