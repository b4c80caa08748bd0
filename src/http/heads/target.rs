//! The target of a request: which characters are passed encoded, and which targets are refused.

use axum::http::{Uri, uri::PathAndQuery};

use super::problem::HeadProblem;

/// The decision on a target.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ruling {
    /// hyper takes it as it is.
    Keep,
    /// hyper takes it in this form, in which some characters are percent-encoded.
    Replace(Vec<u8>),
    /// The request is refused.
    Refuse(HeadProblem),
}

/// The meaning of a byte of a target.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Plain,
    /// `http::Uri` refuses it, or takes it in a path only, although clients send it.
    Encode,
    /// The same in a path only.
    EncodeInPath,
    /// Begins the query.
    Query,
    /// A part of a character in UTF-8, or of a text in another encoding.
    High,
    /// Begins a fragment, which no request has (RFC 9110, section 4.2.5).
    Fragment,
    /// Never in a target: controls and blanks.
    Refuse,
}

fn class(byte: u8) -> Class {
    match byte {
        b'"' | b'<' | b'>' => Class::Encode,
        b'`' => Class::EncodeInPath,
        b'?' => Class::Query,
        b'#' => Class::Fragment,
        0x80.. => Class::High,
        ..=b' ' | 0x7f => Class::Refuse,
        _ => Class::Plain,
    }
}

/// Rules on the target of a request line of HTTP/1.1 (RFC 9112, section 3.2).
pub(super) fn of_request_line(target: &[u8]) -> Ruling {
    ruling(target, |target| Uri::try_from(target).is_ok())
}

/// Rules on `:path` (RFC 9113, section 8.3.1).
pub(super) fn of_path(path: &[u8]) -> Ruling {
    ruling(path, |path| PathAndQuery::try_from(path).is_ok())
}

fn ruling(target: &[u8], is_accepted: impl Fn(&[u8]) -> bool) -> Ruling {
    let (mut encode, mut high, mut in_query) = (false, false, false);
    for byte in target {
        match class(*byte) {
            Class::Plain => {}
            Class::Query => in_query = true,
            Class::Encode => encode = true,
            Class::EncodeInPath => encode |= !in_query,
            Class::High => high = true,
            Class::Fragment => return Ruling::Refuse(HeadProblem::Fragment),
            Class::Refuse => return Ruling::Refuse(HeadProblem::Target),
        }
    }
    // Characters in UTF-8 are accepted; the reader of the path encodes them.
    let encode_high = high && str::from_utf8(target).is_err();
    let replaced = (encode || encode_high).then(|| encoded(target, encode_high));
    let new = replaced.as_deref().unwrap_or(target);
    // Everything that begins with a slash and holds such characters only is a path; the rest is seldom.
    let is_path =
        new.starts_with(b"/") && (encode_high || !high) && new.len() <= super::MAX_HEAD_BYTES;
    match (is_path || is_accepted(new), replaced) {
        (false, _) => Ruling::Refuse(HeadProblem::Target),
        (true, None) => Ruling::Keep,
        (true, Some(replaced)) => Ruling::Replace(replaced),
    }
}

/// The target with the characters percent-encoded that hyper would refuse, and with `high` those beyond ASCII.
pub(super) fn encoded(target: &[u8], high: bool) -> Vec<u8> {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let digit = |value: u8| DIGITS.get(usize::from(value)).copied();
    let mut encoded = Vec::with_capacity(target.len() + 64);
    let mut in_query = false;
    for byte in target {
        let class = class(*byte);
        in_query |= class == Class::Query;
        match class {
            Class::Encode => {}
            Class::EncodeInPath if !in_query => {}
            Class::High if high => {}
            _ => {
                encoded.push(*byte);
                continue;
            }
        }
        encoded.push(b'%');
        encoded.extend(digit(byte >> 4));
        encoded.extend(digit(byte & 0xf));
    }
    encoded
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn replaced(target: &str) -> String {
        match of_request_line(target.as_bytes()) {
            Ruling::Keep => target.to_owned(),
            Ruling::Replace(target) => String::from_utf8(target).unwrap(),
            Ruling::Refuse(problem) => panic!("{target}: {problem:?}"),
        }
    }

    #[test]
    fn characters_that_clients_send_raw_are_encoded_in_path_and_query() {
        for (target, wanted) in [
            ("/a?f=<b>&g=\"c\"", "/a?f=%3Cb%3E&g=%22c%22"),
            ("/a<b>\"`/c?`<", "/a%3Cb%3E%22%60/c?`%3C"),
            ("/a%3C?%22", "/a%3C?%22"),
            ("/a?<", "/a?%3C"),
        ] {
            assert_eq!(replaced(target), wanted);
        }
    }

    #[test]
    fn characters_that_hyper_takes_stay_as_they_are() {
        for target in [
            "/",
            "*",
            "/?",
            "/a?b?c=/:@!$&'()*+,;=-._~%41",
            "/{a}|^\\[]?{b}|^\\[]`",
            "/\u{e5}?\u{4e2d}",
            "http://gateway/a?b",
            "gateway:443",
        ] {
            assert_eq!(of_request_line(target.as_bytes()), Ruling::Keep, "{target}");
        }
        assert_eq!(of_path("*".as_bytes()), Ruling::Keep);
    }

    #[test]
    fn text_that_is_not_utf8_is_encoded_byte_by_byte() {
        let Ruling::Replace(target) = of_request_line(b"/Stra\xdfe?q=\xc3\xa5\xe5") else {
            panic!()
        };
        assert_eq!(target, b"/Stra%DFe?q=%C3%A5%E5");
    }

    #[test]
    fn fragments_and_targets_that_are_none_are_refused() {
        for (target, wanted) in [
            ("/a?b#c", HeadProblem::Fragment),
            ("/a#", HeadProblem::Fragment),
            ("#", HeadProblem::Fragment),
            ("/a?<#>", HeadProblem::Fragment),
            ("", HeadProblem::Target),
            ("/a b", HeadProblem::Target),
            ("/a\t", HeadProblem::Target),
            ("/a\u{7f}", HeadProblem::Target),
            ("a<b", HeadProblem::Target),
            ("http://[::1", HeadProblem::Target),
            ("http://", HeadProblem::Target),
        ] {
            assert_eq!(of_request_line(target.as_bytes()), Ruling::Refuse(wanted), "{target}");
        }
        for path in ["a", "http://gateway/", "", "?"] {
            let ruling = of_path(path.as_bytes());
            assert_eq!(ruling == Ruling::Keep, PathAndQuery::try_from(path).is_ok(), "{path}");
        }
    }

    proptest! {
        #[test]
        fn kept_and_replaced_targets_are_accepted_and_refused_ones_are_not(
            target in prop_oneof![
                prop::collection::vec(any::<u8>(), 0..40),
                "/[ -~\u{e5}\u{4e2d}]{0,20}(\\?[ -~\u{e5}]{0,20})?".prop_map(String::into_bytes),
            ],
        ) {
            let accepted = Uri::try_from(target.as_slice()).is_ok();
            match of_request_line(&target) {
                Ruling::Keep => prop_assert!(accepted),
                Ruling::Replace(target) => prop_assert!(Uri::try_from(target.as_slice()).is_ok()),
                Ruling::Refuse(HeadProblem::Fragment) => prop_assert!(target.contains(&b'#')),
                Ruling::Refuse(_) => prop_assert!(!accepted),
            }
        }
    }
}
