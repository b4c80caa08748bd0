//! Normalizes the text of a key after editors, shells and environment variables.

use zeroize::Zeroizing;

use super::SigningKeyError;
use crate::domain::trimmed as trim;

/// The maximum length of the text. An 8192-bit key is about 6 KiB.
const MAX_LENGTH: usize = 64 * 1024;

/// Returns the text without surrounding characters and carriage returns, and with real line breaks.
pub(super) fn normalize(text: &str) -> Result<Zeroizing<String>, SigningKeyError> {
    if text.len() > MAX_LENGTH {
        return Err(SigningKeyError::TooLong);
    }
    let text = unquote(trim(text));
    if text.is_empty() {
        return Err(SigningKeyError::Empty);
    }
    // The result is never longer than the input, so no copies are left in memory. No key contains a backslash.
    let mut normal = Zeroizing::new(String::with_capacity(text.len()));
    let mut rest = text;
    while let Some(position) = rest.find(['\\', '\r']) {
        let (before, from) = rest.split_at(position);
        normal.push_str(before);
        rest = if let Some(after) = from.strip_prefix("\\n") {
            normal.push('\n');
            after
        } else if let Some(after) = from.strip_prefix("\\r").or_else(|| from.strip_prefix('\r')) {
            // Also avoids the copy that the XML parser makes of text with carriage returns.
            after
        } else {
            normal.push('\\');
            from.strip_prefix('\\').unwrap_or_default()
        };
    }
    normal.push_str(rest);
    // An escaped `\n` may now be white space at the ends, which is not allowed before an XML declaration.
    match trim(&normal) {
        "" => Err(SigningKeyError::Empty),
        trimmed if trimmed.len() < normal.len() => Ok(Zeroizing::new(trimmed.to_owned())),
        _ => Ok(normal),
    }
}

fn unquote(text: &str) -> &str {
    for quote in ['"', '\''] {
        if let Some(inner) = text.strip_prefix(quote).and_then(|text| text.strip_suffix(quote)) {
            return trim(inner);
        }
    }
    text
}
