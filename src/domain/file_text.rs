//! Texts of files that people edit. Some editors write a byte order mark at the start, and shells pass it on.

use std::fmt;

/// The byte order mark, U+FEFF.
const BYTE_ORDER_MARK: char = '\u{feff}';
/// The byte order mark in UTF-8.
const UTF_8_MARK: &[u8] = "\u{feff}".as_bytes();
/// The byte order marks in UTF-16. UTF-32 in little endian begins with the second one too.
const UTF_16_MARKS: [&[u8]; 2] = [b"\xfe\xff", b"\xff\xfe"];
/// The byte order mark in UTF-32, big endian.
const UTF_32_MARK: &[u8] = b"\x00\x00\xfe\xff";

/// The bytes are not UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotUtf8 {
    /// A byte order mark shows that they are UTF-16 or UTF-32.
    Utf16,
    /// They are not UTF-8 for any other reason.
    Other,
}

impl fmt::Display for NotUtf8 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl NotUtf8 {
    /// Returns the message.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Utf16 => {
                "is UTF-16 or UTF-32 text, as its byte order mark shows; save it as UTF-8"
            }
            Self::Other => "is not UTF-8 text; save it as UTF-8",
        }
    }
}

/// Returns the content of a file without the UTF-8 byte order mark. Does not check the rest, because files such as
/// certificates may hold comments in other encodings.
///
/// # Errors
/// Returns an error if the mark belongs to another encoding.
pub fn without_byte_order_mark(mut bytes: &[u8]) -> Result<&[u8], NotUtf8> {
    // Joined or repeatedly saved files may have more than one mark.
    while let Some(rest) = bytes.strip_prefix(UTF_8_MARK) {
        bytes = rest;
    }
    let is_utf_16 = UTF_16_MARKS.iter().any(|mark| bytes.starts_with(mark));
    if is_utf_16 || bytes.starts_with(UTF_32_MARK) { Err(NotUtf8::Utf16) } else { Ok(bytes) }
}

/// Removes every UTF-8 byte order mark, also between joined files.
pub fn remove_byte_order_marks(bytes: &mut Vec<u8>) {
    let (mut at, mut kept) = (0, 0);
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        if rest.starts_with(UTF_8_MARK) {
            at += UTF_8_MARK.len();
        } else {
            bytes.copy_within(at..=at, kept);
            (at, kept) = (at + 1, kept + 1);
        }
    }
    bytes.truncate(kept);
}

/// Returns the text of a file without its byte order mark.
///
/// # Errors
/// Returns an error if the text is not UTF-8.
pub fn file_text(bytes: &[u8]) -> Result<&str, NotUtf8> {
    std::str::from_utf8(without_byte_order_mark(bytes)?).map_err(|_| NotUtf8::Other)
}

/// Removes white space and byte order marks from both ends.
#[must_use]
pub fn trimmed(text: &str) -> &str {
    text.trim_matches(|character: char| character.is_whitespace() || character == BYTE_ORDER_MARK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_between_joined_files_are_removed() {
        let mut bytes = "\u{feff}\u{feff}one\n\u{feff}two\u{feff}".as_bytes().to_vec();
        remove_byte_order_marks(&mut bytes);
        assert_eq!(bytes, b"one\ntwo");
    }

    #[test]
    fn removes_a_leading_byte_order_mark() {
        for (bytes, text) in [
            (&b"secret"[..], "secret"),
            (b"\xef\xbb\xbfsecret", "secret"),
            (b"\xef\xbb\xbf\xef\xbb\xbfsecret\r\n", "secret\r\n"),
            (b"\xef\xbb\xbf", ""),
            // Inside the text it is an ordinary character.
            (b"a\xef\xbb\xbfb", "a\u{feff}b"),
        ] {
            assert_eq!(file_text(bytes), Ok(text));
        }
    }

    #[test]
    fn rejects_other_encodings_by_name() {
        for bytes in [
            &b"\xff\xfes\0e\0"[..],
            b"\xfe\xff\0s\0e",
            b"\xff\xfe\0\0s\0\0\0",
            b"\0\0\xfe\xff\0\0\0s",
            b"\xef\xbb\xbf\xff\xfes\0",
        ] {
            assert_eq!(file_text(bytes), Err(NotUtf8::Utf16));
            assert_eq!(without_byte_order_mark(bytes), Err(NotUtf8::Utf16));
        }
        assert_eq!(file_text(b"\xe4"), Err(NotUtf8::Other));
        assert_eq!(without_byte_order_mark(b"# \xe4"), Ok(&b"# \xe4"[..]));
        assert!(NotUtf8::Utf16.to_string().contains("UTF-16"));
    }

    #[test]
    fn marks_and_white_space_are_trimmed_in_any_order() {
        for text in ["secret", "\u{feff}secret\r\n", " \u{feff}\n secret \u{feff}"] {
            assert_eq!(trimmed(text), "secret", "{text:?}");
        }
        assert_eq!(trimmed("\u{feff} \n"), "");
    }
}
