//! Texts that hold translations, `NO:"Bil";US:"Car"` (SUPEROFFICE.md 6.6), and the languages that a caller reads.

/// How much of an `accept-language` is looked at.
const MAX_HEADER_BYTES: usize = 512;
/// How many languages of it count.
const MAX_LANGUAGES: usize = 16;

/// The languages of SuperOffice by their tags (RFC 5646), and how its texts mark them: mostly by the country, in some
/// by the language.
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

/// What everybody is most likely to read.
const ENGLISH: &[&str] = &["US", "EN", "UK", "GB"];

/// The languages that a caller reads, best first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Languages {
    /// Primary subtags and whole tags, in lower case.
    tags: Vec<String>,
    raw: bool,
}

impl Languages {
    /// Reads an `accept-language` (RFC 9110, 12.5.4). What cannot be read is passed over: a language is a wish.
    ///
    /// `*` before all others keeps texts with all their translations, as it does at SuperOffice.
    #[must_use]
    pub fn parse(header: &str) -> Self {
        if header.len() > MAX_HEADER_BYTES {
            return Self::default();
        }
        let mut wishes: Vec<(u16, String)> =
            header.split(',').filter_map(wish).take(MAX_LANGUAGES).collect();
        // Stable: among equal ones the order written counts.
        wishes.sort_by_key(|(quality, _)| std::cmp::Reverse(*quality));
        let raw = wishes.first().is_some_and(|(_, tag)| tag == "*");
        let tags = wishes.into_iter().map(|(_, tag)| tag).filter(|tag| tag != "*").collect();
        Self { tags, raw }
    }

    /// The text in the first of these languages that it has, else in English, else its first translation; a text
    /// without translations is itself.
    #[must_use]
    pub fn of<'t>(&self, text: &'t str) -> &'t str {
        if self.raw {
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

/// How texts may mark a language, best first. `en-GB` is `GB` before it is any English; a language that we do not
/// know may stand as itself.
fn marks(tag: &str) -> impl Iterator<Item = &str> {
    let (primary, region) = tag.split_once('-').unwrap_or((tag, ""));
    let known = MARKS.iter().find(|(language, _)| *language == primary);
    let known = known.map_or(&[][..], |(_, marks)| marks);
    // A region means a language only where it is one of that language's marks: `en-NO` is not Norwegian.
    let region = known.iter().copied().filter(move |mark| mark.eq_ignore_ascii_case(region));
    let unknown = if known.is_empty() { Some(primary) } else { None };
    region.chain(known.iter().copied()).chain(unknown)
}

/// A tag in lower case and its weight in thousandths, unless the weight is 0.
fn wish(part: &str) -> Option<(u16, String)> {
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

/// The translations in a text with their marks; none if it is not wholly made of them.
///
/// No escape for quotes is documented, so a quote ends a translation only where the next one or the end follows.
pub(super) fn translations(text: &str) -> impl Iterator<Item = (&str, &str)> {
    // A text is one or the other as a whole, so that half of an odd one is not lost.
    let whole = Translations(text).last().is_some_and(|step| step.is_some());
    let all = if whole { Translations(text) } else { Translations("") };
    all.flatten()
}

/// The rest of a text. Yields `None`, once, where it stops being translations.
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

/// `NO:"` and what follows it. Looks no further than that: it is asked at every quote of a text.
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
    fn a_caller_reads_its_best_language() {
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
            assert_eq!(Languages::parse(header).of(car), wanted, "{header}");
        }
        let many = format!("{}nb", "de-AT;q=0.9,".repeat(100));
        assert_eq!(Languages::parse(&many).of(car), "Car", "too long to be looked at");
    }

    #[test]
    fn texts_fall_back_rather_than_vanish() {
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
            assert_eq!(norwegian.of(text), wanted, "{text}");
        }
        assert_eq!(Languages::parse("da").of("DK:\"Bil\";US:\"Car\""), "Bil");
    }

    #[test]
    fn hostile_texts_cost_no_more_than_their_length() {
        for part in ["NO:\"", "\";", "\"", "NO:\"a\";", "\" ;"] {
            let text = part.repeat(200_000 / part.len());
            let _ = Languages::parse("nb").of(&text);
            let text = format!("NO:\"{text}");
            let _ = Languages::parse("nb").of(&text);
        }
    }

    proptest! {
        #[test]
        fn any_text_in_any_language_is_a_part_of_itself(text in "(NO:\"|US:|\"|;|\\PC){0,20}", header in "\\PC{0,40}") {
            let languages = Languages::parse(&header);
            prop_assert!(text.contains(languages.of(&text)));
        }

        #[test]
        fn what_was_marked_is_found(norwegian in "[^\"]{0,20}", english in "[^\"]{0,20}") {
            let text = format!("US:\"{english}\";NO:\"{norwegian}\"");
            prop_assert_eq!(Languages::parse("nb").of(&text), norwegian);
            prop_assert_eq!(Languages::parse("fr").of(&text), english);
        }
    }
}
