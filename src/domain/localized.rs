//! Texts with translations, such as `NO:"Bil";US:"Car"`, and the languages of a caller.

/// Maximum length of an `accept-language` header, in bytes.
const MAX_HEADER_BYTES: usize = 512;
/// Maximum number of languages in the header.
const MAX_LANGUAGES: usize = 16;

/// SuperOffice's languages by their tags (RFC 5646), and the marks of each language in its texts: mostly country codes,
/// in some texts language codes.
const MARKS: [(&str, &[&str]); 14] = [
    ("nb", &["NO", "NB"]),
    ("no", &["NO", "NB"]),
    ("nn", &["NN", "NO"]),
    ("en", ENGLISH),
    ("de", &["GE", "DE"]),
    ("sv", &["SW", "SV", "SE"]),
    ("da", &["DA", "DK"]),
    ("nl", &["NL", "DU"]),
    ("fr", &["FR"]),
    ("es", &["SP", "ES"]),
    ("it", &["IT"]),
    ("cs", &["CZ", "CS"]),
    ("fi", &["FI"]),
    ("pl", &["PL", "PO"]),
];

/// The marks of English, the fallback language.
const ENGLISH: &[&str] = &["US", "EN", "UK", "GB"];

/// The languages of a caller, preferred ones first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Languages {
    /// The language tags, in lower case.
    tags: Vec<String>,
    keeps_all: bool,
}

impl Languages {
    /// Parses an `accept-language` header (RFC 9110, 12.5.4). Ignores malformed parts: a language is a preference.
    ///
    /// `*` as the first preference keeps texts with all their translations, as SuperOffice does.
    #[must_use]
    pub fn parse(header: &str) -> Self {
        if header.len() > MAX_HEADER_BYTES {
            return Self::default();
        }
        let mut wishes: Vec<(u16, String)> =
            header.split(',').filter_map(parse_preference).take(MAX_LANGUAGES).collect();
        // The sort is stable: languages of equal weight keep the order of the header.
        wishes.sort_by_key(|(quality, _)| std::cmp::Reverse(*quality));
        let raw = wishes.first().is_some_and(|(_, tag)| tag == "*");
        let tags = wishes.into_iter().map(|(_, tag)| tag).filter(|tag| tag != "*").collect();
        Self { tags, keeps_all: raw }
    }

    /// Returns the translation in the first of these languages, else in English, else the first translation. Returns a
    /// text without translations unchanged.
    #[must_use]
    pub fn select<'t>(&self, text: &'t str) -> &'t str {
        if self.keeps_all {
            return text;
        }
        let found = |mark: &str| {
            let mut all = translations(text);
            all.find(|(found, _)| found.eq_ignore_ascii_case(mark)).map(|(_, text)| text)
        };
        if translations(text).next().is_none() {
            return text;
        }
        self.tags
            .iter()
            .find_map(|tag| marks(tag).find_map(found))
            .or_else(|| ENGLISH.iter().copied().find_map(found))
            .or_else(|| translations(text).next().map(|(_, text)| text))
            .unwrap_or(text)
    }
}

/// Returns the possible marks of a language in texts, best first. `en-GB` tries `GB` before the other marks of English.
/// An unknown language is its own mark.
fn marks(tag: &str) -> impl Iterator<Item = &str> {
    let (primary, region) = tag.split_once('-').unwrap_or((tag, ""));
    let known = MARKS.iter().find(|(language, _)| *language == primary);
    let known = known.map_or(&[][..], |(_, marks)| marks);
    // A region selects a mark only if the language has that mark: `en-NO` is not Norwegian.
    let region = known.iter().copied().filter(move |mark| mark.eq_ignore_ascii_case(region));
    let unknown = if known.is_empty() { Some(primary) } else { None };
    region.chain(known.iter().copied()).chain(unknown)
}

/// Parses a tag, in lower case, and its weight in thousandths. Returns `None` if the weight is 0.
fn parse_preference(part: &str) -> Option<(u16, String)> {
    let (tag, parameters) = part.split_once(';').unwrap_or((part, ""));
    let tag = tag.trim();
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    let is_tag = tag == "*" || (2..=35).contains(&tag.len()) && tag.bytes().all(fits);
    let quality = match parameters.trim() {
        "" => 1000,
        parameters => quality(parameters)?,
    };
    (is_tag && quality > 0).then(|| (quality, tag.to_ascii_lowercase()))
}

fn quality(parameters: &str) -> Option<u16> {
    let (name, value) = parameters.split_once('=')?;
    let (whole, fraction) = value.trim().split_once('.').unwrap_or((value.trim(), ""));
    let digits = fraction.len() <= 3 && fraction.bytes().all(|byte| byte.is_ascii_digit());
    if !name.trim().eq_ignore_ascii_case("q") || !digits {
        return None;
    }
    match whole {
        "1" => Some(1000),
        "0" => format!("{fraction:0<3}").parse().ok(),
        _ => None,
    }
}

/// Returns the translations in a text with their marks, or none if any part of the text is not a translation.
///
/// No escape for quotes is documented. So a quote ends a translation only if another translation or the end follows.
pub(super) fn translations(text: &str) -> impl Iterator<Item = (&str, &str)> {
    // The whole text must consist of translations, so that no part of an irregular text is lost.
    let whole = Translations(text).last().is_some_and(|step| step.is_some());
    let all = if whole { Translations(text) } else { Translations("") };
    all.flatten()
}

/// An iterator over the rest of a text. Yields `None` once at a part that is not a translation.
struct Translations<'t>(&'t str);

impl<'t> Iterator for Translations<'t> {
    type Item = Option<(&'t str, &'t str)>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.0.trim_matches([' ', ';']);
        self.0 = "";
        if rest.is_empty() {
            return None;
        }
        let Some((mark, inside)) = opening(rest) else { return Some(None) };
        let quotes = inside.match_indices('"').map(|(at, _)| at);
        for at in quotes {
            let (Some(found), Some(after)) = (inside.get(..at), inside.get(at + 1..)) else {
                continue;
            };
            let after = after.trim_start();
            let next = after.strip_prefix(';').map(str::trim_start);
            if after.is_empty()
                || next.is_some_and(|next| next.is_empty() || opening(next).is_some())
            {
                self.0 = after;
                return Some(Some((mark, found)));
            }
        }
        Some(None)
    }
}

/// Splits `NO:"` and the rest. Reads only these few characters, because it is called at every quote of a text.
fn opening(text: &str) -> Option<(&str, &str)> {
    let length = text.bytes().take(4).position(|byte| byte == b':')?;
    let (mark, rest) = text.split_at_checked(length)?;
    let fits = matches!(length, 2..=3) && mark.bytes().all(|byte| byte.is_ascii_alphabetic());
    let inside = rest.strip_prefix(':')?.trim_start_matches(' ').strip_prefix('"')?;
    fits.then_some((mark, inside))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn selects_the_preferred_language() {
        let car = "NO:\"Bil\";US:\"Car\";GE:\"Auto\"";
        for (header, wanted) in [
            ("", "Car"),
            ("nb-NO, en;q=0.8", "Bil"),
            ("no", "Bil"),
            ("nn", "Bil"),
            ("DE", "Auto"),
            ("en-GB", "Car"),
            ("fr;q=1.0, de;q=0.5, en;q=0.9", "Car"),
            ("fr, de;q=0.5", "Auto"),
            ("en;q=0, nb;q=0.001", "Bil"),
            ("en-NO", "Car"),
            ("*", car),
            ("*;q=0.1, de", "Auto"),
            ("xx, ,;;,q=, de;q=2, nb;x=1", "Car"),
        ] {
            assert_eq!(Languages::parse(header).select(car), wanted, "{header}");
        }
        let many = format!("{}nb", "de-AT;q=0.9,".repeat(100));
        assert_eq!(Languages::parse(&many).select(car), "Car", "too long to be looked at");
    }

    #[test]
    fn falls_back_to_another_language_or_the_whole_text() {
        let norwegian = Languages::parse("nb");
        for (text, wanted) in [
            ("", ""),
            ("Sales", "Sales"),
            ("[SR_SINGULAR_SALE]", "[SR_SINGULAR_SALE]"),
            ("US:\"Legal\";NO:\"Lovlig\";", "Lovlig"),
            ("US: \"Legal\"; NO: \"Lovlig\"", "Lovlig"),
            ("us:\"Legal\";no:\"Lovlig\"", "Lovlig"),
            ("GE:\"Recht\"", "Recht"),
            ("GE:\"Recht\";FR:\"Droit\"", "Recht"),
            ("NO:\"\";US:\"Legal\"", ""),
            ("NO:\"Kalt \"salg\"\";US:\"Cold\"", "Kalt \"salg\""),
            ("NO:\"a;b\";US:\"c\"", "a;b"),
            ("NO:\"open", "NO:\"open"),
            ("NO:\"a\"US:\"b\"", "a\"US:\"b"),
            ("US:\"a\";rest", "US:\"a\";rest"),
            ("Note: \"US\"", "Note: \"US\""),
            ("https://example.com", "https://example.com"),
        ] {
            assert_eq!(norwegian.select(text), wanted, "{text}");
        }
        assert_eq!(Languages::parse("da").select("DK:\"Bil\";US:\"Car\""), "Bil");
    }

    #[test]
    fn hostile_texts_take_linear_time() {
        for part in ["NO:\"", "\";", "\"", "NO:\"a\";", "\" ;"] {
            let text = part.repeat(200_000 / part.len());
            let _ = Languages::parse("nb").select(&text);
            let text = format!("NO:\"{text}");
            let _ = Languages::parse("nb").select(&text);
        }
    }

    proptest! {
        #[test]
        fn a_selected_text_is_part_of_the_whole_text(text in "(NO:\"|US:|\"|;|\\PC){0,20}", header in "\\PC{0,40}") {
            let languages = Languages::parse(&header);
            prop_assert!(text.contains(languages.select(&text)));
        }

        #[test]
        fn finds_marked_translations(norwegian in "[^\"]{0,20}", english in "[^\"]{0,20}") {
            let text = format!("US:\"{english}\";NO:\"{norwegian}\"");
            prop_assert_eq!(Languages::parse("nb").select(&text), norwegian);
            prop_assert_eq!(Languages::parse("fr").select(&text), english);
        }
    }
}
