//! Multi-language strings: `NO:"Salg";US:"Sales"`.

use std::borrow::Cow;

use hyper::HeaderMap;
use hyper::header::{ACCEPT_LANGUAGE, HeaderValue};

/// The language of a request; without one, strings stay raw.
#[derive(Clone, Debug, Default)]
pub(super) struct Language(Option<String>);

impl Language {
    /// Reads the language of a request. `SO-Language` overrides `Accept-Language`; `*` keeps
    /// strings raw.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let header = headers.get("SO-Language").or_else(|| headers.get(ACCEPT_LANGUAGE));
        let text = header.and_then(|value: &HeaderValue| value.to_str().ok()).unwrap_or_default();
        let first = text.split([',', ';', '-']).next().unwrap_or_default().trim();
        if first.is_empty() || first == "*" {
            return Self(None);
        }
        Self(Some(code(&first.to_lowercase())))
    }

    /// Returns the part of a multi-language string in this language. Returns other strings
    /// unchanged.
    pub(super) fn resolve<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let (Some(wanted), Some(parts)) = (&self.0, parts(text)) else {
            return Cow::Borrowed(text);
        };
        let part = |name: &str| parts.iter().find(|(code, _)| *code == name).map(|(_, text)| *text);
        let first = parts.first().map(|(_, text)| *text);
        Cow::Borrowed(part(wanted).or_else(|| part("US")).or(first).unwrap_or(text))
    }
}

/// Returns SuperOffice's code, which is that of a country, not of a language.
fn code(language: &str) -> String {
    match language {
        "en" => "US",
        "no" | "nb" | "nn" => "NO",
        "de" => "GE",
        other => return other.to_uppercase(),
    }
    .to_owned()
}

fn parts(text: &str) -> Option<Vec<(&str, &str)>> {
    let mut rest = text;
    let mut parts = Vec::new();
    while !rest.is_empty() {
        let (code, after) = rest.split_once(":\"")?;
        if code.len() != 2 || !code.bytes().all(|byte| byte.is_ascii_uppercase()) {
            return None;
        }
        let (part, after) = after.split_once('"')?;
        parts.push((code, part));
        rest = after.strip_prefix(';').unwrap_or(after);
    }
    (!parts.is_empty()).then_some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolves_to_the_language_or_to_us_english() {
        let text = "NO:\"Salg\";US:\"Sales\"";
        for (language, expected) in
            [(None, text), (Some("NO"), "Salg"), (Some("US"), "Sales"), (Some("FR"), "Sales")]
        {
            let language = Language(language.map(ToOwned::to_owned));
            assert_eq!(language.resolve(text), expected);
        }
    }

    #[test]
    fn keeps_other_strings_unchanged() {
        let language = Language(Some("US".to_owned()));
        for text in ["", "Sales", "R&D; \"Labs\"", "US:\"open", "us:\"x\"", "[SR_X]", "A:\"b\""] {
            assert_eq!(language.resolve(text), text);
        }
    }
}
