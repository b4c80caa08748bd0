//! Repairs a JSON response with a few invalid characters.
//!
//! A name that was truncated inside an emoji ends with half a surrogate pair, which is not a character (RFC 8259
//! section 8.2). A strict parser then rejects the whole response. Only such a response is copied and repaired.

use std::borrow::Cow;

use zeroize::Zeroizing;

use crate::ports::UpstreamError;

/// The UTF-8 byte order mark, which some JSON writers prepend (RFC 8259 section 8.1 allows readers to ignore it).
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The escape that replaces unreadable characters.
const REPLACEMENT: &[u8] = b"\\ufffd";

/// The replacement for `NaN` and out-of-range numbers. It is not an integer, so readers reject it as one.
const NOT_AN_INTEGER: &[u8] = b"1e300";

/// Returns the body without a byte order mark.
pub(super) fn strip_byte_order_mark(body: &[u8]) -> &[u8] {
    body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body)
}

/// Reads a body, and if that fails, reads a repaired copy of it.
///
/// # Errors
/// Those of `read`.
pub(super) fn read_repaired<T>(
    body: &[u8],
    read: impl Fn(&[u8]) -> Result<T, UpstreamError>,
) -> Result<T, UpstreamError> {
    read(body).or_else(|refused| match repair(body) {
        Some(repaired) => read(&repaired),
        None => Err(refused),
    })
}

/// Returns a repaired copy, or `None` if there is nothing to repair.
///
/// U+FFFD replaces invalid UTF-8 bytes, lone surrogates and invalid escapes. A space replaces control characters in
/// strings. `1e300` replaces `NaN` and out-of-range numbers.
fn repair(body: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let text = match String::from_utf8_lossy(body) {
        Cow::Borrowed(text) => Zeroizing::new(text.to_owned()),
        Cow::Owned(text) => Zeroizing::new(text),
    };
    let mut into = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut rest = text.as_bytes();
    let mut quoted = false;
    while let Some(first) = rest.first() {
        let length = match first {
            b'"' => {
                quoted = !quoted;
                into.push(b'"');
                1
            }
            b'\\' if quoted => escape(rest, &mut into),
            0..=0x1f if quoted => {
                into.push(b' ');
                1
            }
            b'-' | b'0'..=b'9' | b'N' | b'I' if !quoted => number(rest, &mut into),
            byte => {
                into.push(*byte);
                1
            }
        };
        rest = rest.get(length..).unwrap_or_default();
    }
    (*into != body).then_some(into)
}

/// Writes the repaired escape at the beginning of `rest`, and returns its original length in bytes.
fn escape(rest: &[u8], into: &mut Vec<u8>) -> usize {
    let length = match (rest.get(1), utf16_unit(rest)) {
        (_, Some(0xd800..=0xdbff)) => match rest.get(6..).and_then(utf16_unit) {
            Some(0xdc00..=0xdfff) => 12,
            _ => 0,
        },
        (_, Some(0xdc00..=0xdfff)) => 0,
        (_, Some(_)) => 6,
        (Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't'), None) => 2,
        _ => {
            into.extend_from_slice(REPLACEMENT);
            return 1;
        }
    };
    if length == 0 {
        into.extend_from_slice(REPLACEMENT);
        return 6;
    }
    into.extend_from_slice(rest.get(..length).unwrap_or_default());
    length
}

/// Returns the UTF-16 code unit of `\uXXXX`.
fn utf16_unit(text: &[u8]) -> Option<u16> {
    let digits = text.strip_prefix(b"\\u")?.get(..4)?;
    let digits = digits.iter().all(u8::is_ascii_hexdigit).then_some(digits)?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// Writes the repaired number at the beginning of `rest`, and returns its original length in bytes.
fn number(rest: &[u8], into: &mut Vec<u8>) -> usize {
    let part = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
    let length = rest.iter().take_while(|byte| part(byte)).count();
    let token = rest.get(..length).unwrap_or_default();
    let value = std::str::from_utf8(token).ok().and_then(|token| token.parse::<f64>().ok());
    match value {
        Some(value) if !value.is_finite() => into.extend_from_slice(NOT_AN_INTEGER),
        _ => into.extend_from_slice(token),
    }
    length
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn repaired_text(body: &[u8]) -> Option<String> {
        repair(body).map(|body| String::from_utf8(body.to_vec()).unwrap())
    }

    #[test]
    fn repairs_only_what_a_strict_parser_rejects() {
        for (body, wanted) in [
            (&br#"{"a":"x\ud83d"}"#[..], r#"{"a":"x\ufffd"}"#),
            (br#"{"a\uD83D":1}"#, r#"{"a\ufffd":1}"#),
            (br#"["\udE00\ud83d"]"#, r#"["\ufffd\ufffd"]"#),
            (br#"["\ud83d\ud83d\ude00"]"#, r#"["\ufffd\ud83d\ude00"]"#),
            (br#"["\ud83d\u0041"]"#, r#"["\ufffd\u0041"]"#),
            (br#"["\ud83d\n\\"]"#, r#"["\ufffd\n\\"]"#),
            (br#"["\x","\u12g4"]"#, r#"["\ufffdx","\ufffdu12g4"]"#),
            (b"[\"a\tb\0\"]", r#"["a b "]"#),
            (b"[\"\xff\xed\xa0\xbd\"]", "[\"\u{fffd}\u{fffd}\u{fffd}\u{fffd}\"]"),
            (b"[1e999,-1e999,NaN,-Infinity,5]", "[1e300,1e300,1e300,1e300,5]"),
        ] {
            assert_eq!(repaired_text(body).as_deref(), Some(wanted));
            assert!(serde_json::from_str::<Value>(wanted).is_ok(), "{wanted}");
        }
        for body in [
            r#"{"a":"\ud83d\ude00\\ud83d\"NaN 1e999","b":[-1.5e3,true,null]}"#,
            "",
            "<html>",
            r#"{"a":"#,
        ] {
            assert_eq!(repaired_text(body.as_bytes()), None, "{body}");
        }
    }

    proptest! {
        #[test]
        fn does_not_change_valid_json(text in "\\PC{0,20}", number in any::<i64>()) {
            let body = serde_json::json!({ text.clone(): [text, number, null] }).to_string();
            prop_assert_eq!(repaired_text(body.as_bytes()), None);
        }

        #[test]
        fn any_text_in_a_response_can_be_repaired(
            text in prop::collection::vec(prop_oneof![
                any::<u8>().prop_filter("ends the text", |byte| *byte != b'"' && *byte != b'\\').prop_map(|byte| vec![byte]),
                any::<u16>().prop_map(|unit| format!("\\u{unit:04x}").into_bytes()),
                Just(b"\\n".to_vec()),
            ], 0..12),
        ) {
            let body = [&b"{\"a\":\""[..], &text.concat(), b"\",\"b\":7}"].concat();
            let strict = |body: &[u8]| serde_json::from_slice::<Value>(body)
                .map_err(|error| UpstreamError::InvalidResponse(error.to_string()));
            let read = read_repaired(&body, strict).unwrap();
            prop_assert_eq!(&read["b"], &Value::from(7));
        }

        #[test]
        fn repairing_any_bytes_does_not_panic(body in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = repair(&body);
        }
    }
}
