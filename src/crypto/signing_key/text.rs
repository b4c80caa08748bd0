//! What happens to a key's text on its way through editors, shells and environment variables.

use zeroize::Zeroizing;

use super::SigningKeyError;
use crate::domain::trimmed as trim;

/// An 8192-bit key is about 6 KiB.
const MAX_LENGTH: usize = 64 * 1024;

/// The text without what surrounds the key, with real line breaks and without carriage returns.
pub(super) fn normalize(text: &str) -> Result<Zeroizing<String>, SigningKeyError> {
    if text.len() > MAX_LENGTH {
        return Err(SigningKeyError::TooLong);
    }
    let text = unquote(trim(text));
    if text.is_empty() {
        return Err(SigningKeyError::Empty);
    }
    // Never longer than what it was, so it never grows and leaves no copies behind. No form of a key has a backslash.
    let mut normal = Zeroizing::new(String::with_capacity(text.len()));
    let mut rest = text;
    while let Some(position) = rest.find(['\\', '\r']) {
        let (before, from) = rest.split_at(position);
        normal.push_str(before);
        rest = if let Some(after) = from.strip_prefix("\\n") {
            normal.push('\n');
            after
        } else if let Some(after) = from.strip_prefix("\\r").or_else(|| from.strip_prefix('\r')) {
            // Also spares the XML reader the copy that it makes of text with carriage returns.
            after
        } else {
            normal.push('\\');
            from.strip_prefix('\\').unwrap_or_default()
        };
    }
    normal.push_str(rest);
    // What was written as `\n` may now be white space at the ends. Before an XML declaration there must be none.
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
