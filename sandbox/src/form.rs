//! `application/x-www-form-urlencoded`, for queries and bodies.

use std::fmt::Write as _;

/// Parses the pairs of a query or a body, in order. Returns `None` if the encoding is invalid.
pub(crate) fn pairs(text: &str) -> Option<Vec<(String, String)>> {
    let parts = text.split('&').filter(|part| !part.is_empty());
    parts
        .map(|part| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            Some((decode(name)?, decode(value)?))
        })
        .collect()
}

/// Decodes percent encoding; `+` is a space.
pub(crate) fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let (high, low) = (digit(rest.next()?)?, digit(rest.next()?)?);
                high * 16 + low
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

fn digit(byte: u8) -> Option<u8> {
    u8::try_from(char::from(byte).to_digit(16)?).ok()
}

/// Percent-encodes a name or a value of a query.
pub(crate) fn encode(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~$,".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
        encoded
    })
}

/// Parameters, each of which may occur once (RFC 6749 section 3.1).
#[derive(Debug, Default)]
pub(crate) struct Form(Vec<(String, String)>);

impl Form {
    /// Parses a query or a body. Returns `None` if it is invalid or has a parameter twice.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let pairs = pairs(text)?;
        let mut names: Vec<&str> = pairs.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        let twice = names.windows(2).any(|two| two.first() == two.last());
        (!twice).then_some(Self(pairs))
    }

    /// Returns the value of a parameter. An empty value counts as absent.
    pub(crate) fn get(&self, wanted: &str) -> Option<&str> {
        let found = self.0.iter().find(|(name, _)| name == wanted);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rejects_duplicate_parameters_and_invalid_encoding() {
        for text in ["a=1&b=2&a=1", "a=%zz", "a=%ff", "a=%2"] {
            assert!(Form::read(text).is_none(), "{text}");
        }
        let form = Form::read("a=1%2B1+x&b=&c").unwrap();
        assert_eq!((form.get("a"), form.get("b"), form.get("c")), (Some("1+1 x"), None, None));
    }

    proptest! {
        #[test]
        fn encoding_and_decoding_return_the_same_text(text in ".*") {
            prop_assert_eq!(decode(&encode(&text)), Some(text));
        }
    }
}
