//! Normal forms of texts, for comparisons.
//!
//! Spellings that a person or a server treats as the same text must be equal for policies and look-ups. User principal
//! names use Unicode NFC and case folding. Path segments use NFKC, case folding and removal of ignorable characters,
//! like the Unicode mapping `NFKC_Casefold`, and lose the spaces and dots that lenient servers drop.

use std::borrow::Cow;

use icu_casemap::{CaseMapper, CaseMapperBorrowed};
use icu_normalizer::{ComposingNormalizerBorrowed, DecomposingNormalizerBorrowed};
use icu_properties::{
    CodePointSetData, CodePointSetDataBorrowed, props::DefaultIgnorableCodePoint,
};

const CASES: CaseMapperBorrowed<'static> = CaseMapper::new();
const NFC: ComposingNormalizerBorrowed<'static> = ComposingNormalizerBorrowed::new_nfc();
const NFD: DecomposingNormalizerBorrowed<'static> = DecomposingNormalizerBorrowed::new_nfd();
const NFKC: ComposingNormalizerBorrowed<'static> = ComposingNormalizerBorrowed::new_nfkc();
const NFKD: DecomposingNormalizerBorrowed<'static> = DecomposingNormalizerBorrowed::new_nfkd();
const IGNORABLE: CodePointSetDataBorrowed<'static> =
    CodePointSetData::new::<DefaultIgnorableCodePoint>();

/// Maximum number of rounds until a form is stable. Unicode needs two; the bound prevents an endless loop.
const MAX_ROUNDS: usize = 8;

/// Returns the form in which user principal names, logins and e-mail addresses are compared: NFC and case folding.
#[must_use]
pub fn folded_name(name: &str) -> Cow<'_, str> {
    if name.is_ascii() {
        return ascii_folded(name);
    }
    let once = |text: &str| NFC.normalize(&CASES.fold_string(&NFD.normalize(text))).into_owned();
    Cow::Owned(stable(name, once))
}

/// Returns the form of one percent-decoded path segment. It is empty if the segment consists of dots and spaces.
#[must_use]
pub(super) fn folded_segment(segment: &str) -> Cow<'_, str> {
    folded_part(segment, true, true)
}

/// Returns the form of a part of a segment. Removes spaces and dots only at the ends that are ends of the segment.
pub(super) fn folded_part(part: &str, begins: bool, ends: bool) -> Cow<'_, str> {
    let trimmed = trim(part, begins, ends);
    if trimmed.is_ascii() {
        return ascii_folded(trimmed);
    }
    let once = |text: &str| {
        let folded = NFKD.normalize(text);
        let folded = CASES.fold_string(&folded);
        // The lower case of `İ` is `i` with a combining dot above.
        let letters =
            folded.chars().filter_map(same_letter).collect::<String>().replace("i\u{307}", "i");
        trim(&NFKC.normalize(&letters), begins, ends).to_owned()
    };
    Cow::Owned(stable(trimmed, once))
}

/// Returns the NFKC form of one character.
pub(super) fn compatible(c: char) -> impl Iterator<Item = char> {
    NFKC.normalize_iter(std::iter::once(c))
}

/// Removes ignorable characters. Maps `ı` to `i`, which are equal for servers that convert to upper case.
fn same_letter(c: char) -> Option<char> {
    match c {
        'ı' => Some('i'),
        c if IGNORABLE.contains(c) => None,
        c => Some(c),
    }
}

/// Removes spaces at the beginning, and spaces and dots at the end.
fn trim(part: &str, begins: bool, ends: bool) -> &str {
    let part = if begins { part.trim_start_matches(' ') } else { part };
    if ends { part.trim_end_matches(['.', ' ']) } else { part }
}

fn ascii_folded(text: &str) -> Cow<'_, str> {
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(text.to_ascii_lowercase())
    } else {
        Cow::Borrowed(text)
    }
}

fn stable(text: &str, once: impl Fn(&str) -> String) -> String {
    let mut form = once(text);
    for _ in 0..MAX_ROUNDS {
        let next = once(&form);
        if next == form {
            break;
        }
        form = next;
    }
    form
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn spellings_of_one_user_principal_name_have_one_form() {
        for (name, form) in [
            ("", ""),
            ("tony@example.com", "tony@example.com"),
            ("Admin@Example.COM", "admin@example.com"),
            ("\u{c5}SE@example.com", "\u{e5}se@example.com"),
            ("A\u{30a}SE@example.com", "\u{e5}se@example.com"),
            ("\u{212b}se@example.com", "\u{e5}se@example.com"),
            ("STRASSE@example.com", "strasse@example.com"),
            ("Stra\u{df}e@example.com", "strasse@example.com"),
            ("STRA\u{1e9e}E@example.com", "strasse@example.com"),
            ("\u{3a3}\u{39f}\u{3a3}", "\u{3c3}\u{3bf}\u{3c3}"),
            ("\u{3c3}\u{3bf}\u{3c2}", "\u{3c3}\u{3bf}\u{3c3}"),
            ("\u{212a}ari", "kari"),
        ] {
            assert_eq!(folded_name(name), form, "{name:?}");
        }
        // Names keep compatibility characters distinct.
        assert_ne!(folded_name("\u{ff41}dmin"), "admin");
    }

    #[test]
    fn spellings_of_one_path_segment_have_one_form() {
        for (segment, form) in [
            ("currentToken.", "currenttoken"),
            ("currentToken . . ", "currenttoken"),
            ("  currentToken", "currenttoken"),
            ("current\u{ad}To\u{200b}ken\u{feff}", "currenttoken"),
            ("\u{ff23}urrentTo\u{212a}en", "currenttoken"),
            ("u\u{17f}er", "user"),
            ("l\u{131}st", "list"),
            ("L\u{130}ST", "list"),
            ("I\u{307}", "i"),
            ("Acme Inc.", "acme inc"),
            ("Acme\u{a0}Inc\u{a0}", "acme inc"),
            ("Stra\u{df}e", "strasse"),
            ("A\u{30a}s", "\u{e5}s"),
            ("\u{4e2d}\u{56fd}", "\u{4e2d}\u{56fd}"),
            ("O\u{2019}Brien \u{2013} Sons", "o\u{2019}brien \u{2013} sons"),
            ("...", ""),
            (" . ", ""),
            ("\u{a0}\u{200b}.", ""),
        ] {
            assert_eq!(folded_segment(segment), form, "{segment:?}");
        }
    }

    proptest! {
        #[test]
        fn normalization_is_idempotent(text in "\\PC{0,12}|[iI\u{131}\u{130}\u{307}\u{301}. \u{345}\u{3b1}\u{ad}]{0,8}") {
            let name = folded_name(&text);
            prop_assert_eq!(&folded_name(&name), &name);
            let segment = folded_segment(&text);
            prop_assert_eq!(&folded_segment(&segment), &segment);
        }

        #[test]
        fn composition_does_not_change_the_form(text in "\\PC{0,12}") {
            let decomposed = NFD.normalize(&text);
            prop_assert_eq!(folded_name(&decomposed), folded_name(&text));
            for other in [NFKD.normalize(&text), NFKC.normalize(&text)] {
                prop_assert_eq!(folded_segment(&other), folded_segment(&text));
            }
        }

        // The text has no marks, because upper-casing can move a mark to another letter.
        #[test]
        fn upper_case_does_not_change_the_form(text in "[\\p{L}0-9@. -]{0,12}") {
            let other = text.to_uppercase();
            prop_assert_eq!(folded_name(&other), folded_name(&text));
            prop_assert_eq!(folded_segment(&other), folded_segment(&text));
        }
    }
}
