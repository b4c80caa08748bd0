//! Options whose names are final but that have no effect yet.

use super::document::Document;

/// Keys that are not implemented yet. ` = ` means only this value.
const NOT_BUILT: [&str; 7] = [
    "store.password_file",
    "store.password_env",
    "store.ca_file",
    "store.max_connections",
    "store.statement_timeout",
    "crypto.provider = transit",
    "telemetry",
];

/// Returns one warning that names all unimplemented options that the file sets.
pub(super) fn warning(document: &Document<'_>) -> Option<String> {
    let set: Vec<_> = NOT_BUILT.iter().copied().filter(|path| document.sets(path)).collect();
    (!set.is_empty()).then(|| format!("not implemented yet and without effect: {}", set.join(", ")))
}
