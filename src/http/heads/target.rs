//! Checks the target of a request: encodes some characters and refuses invalid targets.

use axum::http::{Uri, uri::PathAndQuery};

use super::{limits::MAX_HEAD_BYTES, problem::HeadProblem};

/// The decision on a target.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum TargetDecision {
    /// hyper accepts the target unchanged.
    Keep,
    /// hyper accepts the target in this form, with percent-encoded characters.
    Replace(Vec<u8>),
    /// The request is refused.
    Refuse(HeadProblem),
}

/// The class of a byte in a target.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Plain,
    /// Must be encoded: clients send it, but `http::Uri` refuses it, or accepts it only in a path.
    Encode,
    /// Must be encoded in a path only.
    EncodeInPath,
    /// Starts the query.
    Query,
    /// A non-ASCII byte, in UTF-8 or another encoding.
    High,
    /// Starts a fragment, which requests must not have (RFC 9110, section 4.2.5).
    Fragment,
    /// Control characters and spaces, which are refused.
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

/// Checks the target of an HTTP/1.1 request line (RFC 9112, section 3.2).
pub(super) fn check_request_line(target: &[u8]) -> TargetDecision {
    check_target(target, |target| Uri::try_from(target).is_ok())
}

/// Checks the `:path` of an HTTP/2 request (RFC 9113, section 8.3.1).
pub(super) fn check_path(path: &[u8]) -> TargetDecision {
    check_target(path, |path| PathAndQuery::try_from(path).is_ok())
}

fn check_target(target: &[u8], is_accepted: impl Fn(&[u8]) -> bool) -> TargetDecision {
    let (mut encode, mut high, mut in_query) = (false, false, false);
    for byte in target {
        match class(*byte) {
            Class::Plain => {}
            Class::Query => in_query = true,
            Class::Encode => encode = true,
            Class::EncodeInPath => encode |= !in_query,
            Class::High => high = true,
            Class::Fragment => return TargetDecision::Refuse(HeadProblem::Fragment),
            Class::Refuse => return TargetDecision::Refuse(HeadProblem::Target),
        }
    }
    // `http::Uri` accepts UTF-8; `ApiPath` encodes it later.
    let encode_high = high && str::from_utf8(target).is_err();
    let replaced = (encode || encode_high).then(|| percent_encoded(target, encode_high));
    let new = replaced.as_deref().unwrap_or(target);
    // Fast path: a target that starts with a slash and has no other special characters is valid.
    let is_path = new.starts_with(b"/") && (encode_high || !high) && new.len() <= MAX_HEAD_BYTES;
    match (is_path || is_accepted(new), replaced) {
        (false, _) => TargetDecision::Refuse(HeadProblem::Target),
        (true, None) => TargetDecision::Keep,
        (true, Some(replaced)) => TargetDecision::Replace(replaced),
    }
}

/// Percent-encodes the characters that hyper would refuse and, if `high`, all non-ASCII bytes.
pub(super) fn percent_encoded(target: &[u8], high: bool) -> Vec<u8> {
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
        match check_request_line(target.as_bytes()) {
            TargetDecision::Keep => target.to_owned(),
            TargetDecision::Replace(target) => String::from_utf8(target).unwrap(),
            TargetDecision::Refuse(problem) => panic!("{target}: {problem:?}"),
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
            assert_eq!(check_request_line(target.as_bytes()), TargetDecision::Keep, "{target}");
        }
        assert_eq!(check_path("*".as_bytes()), TargetDecision::Keep);
    }

    #[test]
    fn text_that_is_not_utf8_is_encoded_byte_by_byte() {
        let TargetDecision::Replace(target) = check_request_line(b"/Stra\xdfe?q=\xc3\xa5\xe5")
        else {
            panic!()
        };
        assert_eq!(target, b"/Stra%DFe?q=%C3%A5%E5");
    }

    #[test]
    fn refuses_fragments_and_invalid_targets() {
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
            assert_eq!(
                check_request_line(target.as_bytes()),
                TargetDecision::Refuse(wanted),
                "{target}"
            );
        }
        for path in ["a", "http://gateway/", "", "?"] {
            let ruling = check_path(path.as_bytes());
            assert_eq!(
                ruling == TargetDecision::Keep,
                PathAndQuery::try_from(path).is_ok(),
                "{path}"
            );
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
            match check_request_line(&target) {
                TargetDecision::Keep => prop_assert!(accepted),
                TargetDecision::Replace(target) => prop_assert!(Uri::try_from(target.as_slice()).is_ok()),
                TargetDecision::Refuse(HeadProblem::Fragment) => prop_assert!(target.contains(&b'#')),
                TargetDecision::Refuse(_) => prop_assert!(!accepted),
            }
        }
    }
}
