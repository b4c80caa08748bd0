//! The path of a Web API call: the normal form for decisions, and the bytes that are sent.
//!
//! Two spellings of a path must never get different decisions, so policies see one normal form. The original bytes are
//! sent, because a path may contain free text such as a company name. A path that a server could read differently from
//! the normal form is rejected.

use std::borrow::Cow;

use super::normal_form::{compatible, folded_part, folded_segment};

/// Maximum length of path and query, in bytes. SuperOffice's servers accept less.
const MAX_BYTES: usize = 16 * 1024;

/// The root of the Web API, in lower case.
const ROOT: &str = "api";

/// Query parameters that override the method.
const METHOD_PARAMETERS: [&str; 4] =
    ["_method", "x-http-method", "x-http-method-override", "x-method-override"];

/// A Web API path with its query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiPath {
    /// The normal form, starting with `/api`.
    normal_form: String,
    /// The original bytes after `/api`, with the query.
    request_target: String,
}

/// The reason why a text is not a Web API path. The message does not contain the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ApiPathError {
    /// It is not below `/api`.
    #[error("expected a path that begins with /api/, such as /api/v1/Contact/12")]
    NotBelowApi,
    /// It is too long.
    #[error("path and query may have at most 16 KiB")]
    TooLong,
    /// It has a `%` without two hexadecimal digits, or encoded bytes that are not UTF-8.
    #[error("a % must be followed by two hexadecimal digits, and the decoded bytes must be UTF-8")]
    Encoding,
    /// It has a character that servers interpret differently.
    #[error(
        "a path segment may not hold \\, ; or an encoded slash, control characters, a % before two hexadecimal digits \
         in decoded form, nor letters that are compatible with one of / \\ . % ; ? # such as an ellipsis; send such a \
         name in the body of the agent operation instead"
    )]
    Character,
    /// It has a segment that servers remove or change.
    #[error(
        "a path segment may not be empty (look for // in the address), may not consist of dots and spaces, and may not \
         begin like an ASP.NET session, (S(…))"
    )]
    Segment,
    /// It has empty segments before `/api`.
    #[error(
        "there is a second slash before /api/: remove the slash at the end of your client's base address, or the one \
         at the beginning of the path"
    )]
    SlashBeforeApi,
    /// It has a `#`, after which clients drop the rest, or the query has a control character.
    #[error(
        "a path and its query may not hold # (encode it as %23), nor a query control characters"
    )]
    Query,
    /// It has a query parameter with which some frameworks override the method.
    #[error(
        "the query may not name another method (_method, X-HTTP-Method-Override): send the request with that method"
    )]
    MethodOverride,
}

impl ApiPath {
    /// Parses a path with its query, starting with `/api`.
    ///
    /// # Errors
    /// Returns an error if the path could be read in two ways.
    pub fn parse(path_and_query: &str) -> Result<Self, ApiPathError> {
        if path_and_query.len() > MAX_BYTES {
            return Err(ApiPathError::TooLong);
        }
        let (path, query) = match path_and_query.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (path_and_query, None),
        };
        if path.contains('#')
            || query.is_some_and(|query| query.contains(|c: char| c == '#' || c.is_control()))
        {
            return Err(ApiPathError::Query);
        }
        if query.is_some_and(overrides_method) {
            return Err(ApiPathError::MethodOverride);
        }
        let below = path.strip_prefix('/').ok_or(ApiPathError::NotBelowApi)?;
        let (root, below) = match below.split_once('/') {
            Some((root, below)) => (root, Some(below)),
            None => (below, None),
        };
        if !decode(root)?.eq_ignore_ascii_case(ROOT) {
            let next = path.trim_start_matches('/').split('/').next().unwrap_or_default();
            let doubled = root.is_empty() && next.eq_ignore_ascii_case(ROOT);
            return Err(if doubled {
                ApiPathError::SlashBeforeApi
            } else {
                ApiPathError::NotBelowApi
            });
        }
        let mut decided = String::with_capacity(path.len());
        decided.push('/');
        decided.push_str(ROOT);
        let mut segments = below.into_iter().flat_map(|below| below.split('/')).peekable();
        while let Some(segment) = segments.next() {
            // Servers ignore a slash at the end.
            if segment.is_empty() && segments.peek().is_none() {
                break;
            }
            decided.push('/');
            decided.push_str(&normal_form(&decode(segment)?)?);
        }
        let mut sent = String::with_capacity(path_and_query.len());
        if let Some(below) = below {
            sent.push('/');
            push_target(below, "\"<>`", &mut sent);
        }
        if let Some(query) = query {
            sent.push('?');
            push_target(query, "\"<>", &mut sent);
        }
        Ok(Self { normal_form: decided, request_target: sent })
    }

    /// Returns the normal form, which policies see: percent-decoded once, NFKC, case folded, without spaces and dots at
    /// the end of a segment. It begins with `/api` and does not end with a slash.
    #[must_use]
    pub fn normal_form(&self) -> &str {
        &self.normal_form
    }

    /// Returns whether a relative reference (RFC 3986 section 4.2) stays below the folder that contains it, with any
    /// reading of its percent-encoding: it does not begin with a slash and has no dot segment that leads up.
    #[must_use]
    pub fn stays_below(reference: &str) -> bool {
        let path = reference.split(['?', '#']).next().unwrap_or_default();
        let mut segments = path.split('/').enumerate().peekable();
        while let Some((index, segment)) = segments.next() {
            let last = segments.peek().is_none();
            // An empty segment before a query alone, or after a slash at the end.
            let empty = segment.is_empty() && last && (index > 0 || path.is_empty());
            let scheme = index == 0 && segment.contains(':');
            let stays = segment == "." || empty || is_unambiguous_segment(segment);
            if !stays || scheme {
                return false;
            }
        }
        !reference.chars().any(char::is_control)
    }

    /// Returns the request target after the `…/api` of a tenant: the original bytes, with the query. Bytes that are not
    /// allowed in a request target are percent-encoded.
    #[must_use]
    pub fn request_target(&self) -> &str {
        &self.request_target
    }
}

/// Returns the normal form of a text that a policy compares with [`ApiPath::normal_form`]: a whole path, or the part of
/// a pattern at the beginning, at the end or between two wildcards.
#[must_use]
pub fn folded_path(text: &str, begins: bool, ends: bool) -> String {
    let mut form = String::with_capacity(text.len());
    let mut segments = text.split('/').enumerate().peekable();
    while let Some((index, segment)) = segments.next() {
        let last = segments.peek().is_none();
        let (whole_before, whole_behind) = (index > 0 || begins, !last || ends);
        let decoded = decode(segment).unwrap_or(Cow::Borrowed(segment));
        let folded = folded_part(&decoded, whole_before, whole_behind);
        let empty = folded.is_empty() && index > 0 && whole_behind;
        if empty {
            continue;
        }
        if index > 0 {
            form.push('/');
        }
        form.push_str(&folded);
    }
    form
}

/// Returns whether every server reads an encoded path segment as exactly this segment: whatever the server decodes or
/// removes, the result has no separator and is no dot segment.
#[must_use]
pub(super) fn is_unambiguous_segment(segment: &str) -> bool {
    decode(segment).is_ok_and(|segment| normal_form(&segment).is_ok())
}

/// Returns whether a query has a parameter that overrides the method in ASP.NET MVC or other frameworks.
fn overrides_method(query: &str) -> bool {
    query.split(['&', ';']).any(|pair| {
        let name = pair.split('=').next().unwrap_or_default();
        let name = decode(name).unwrap_or(Cow::Borrowed(name));
        let name = name.trim_matches([' ', '+']);
        METHOD_PARAMETERS.iter().any(|parameter| name.eq_ignore_ascii_case(parameter))
    })
}

/// Percent-decodes a segment once.
fn decode(segment: &str) -> Result<Cow<'_, str>, ApiPathError> {
    if !segment.contains('%') {
        return Ok(Cow::Borrowed(segment));
    }
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16));
        let (Some(high), Some(low)) = (digit(), digit()) else {
            return Err(ApiPathError::Encoding);
        };
        bytes.push(u8::try_from(high * 16 + low).map_err(|_| ApiPathError::Encoding)?);
    }
    String::from_utf8(bytes).map(Cow::Owned).map_err(|_| ApiPathError::Encoding)
}

/// Returns the normal form of a decoded segment.
fn normal_form(segment: &str) -> Result<Cow<'_, str>, ApiPathError> {
    if !segment.chars().all(is_plain) || holds_encoded(segment) {
        return Err(ApiPathError::Character);
    }
    let form = folded_segment(segment);
    if form.is_empty() || is_session(&form) {
        return Err(ApiPathError::Segment);
    }
    // A server that normalizes before decoding would decode again.
    if holds_encoded(&form) { Err(ApiPathError::Character) } else { Ok(form) }
}

/// Returns whether every server reads a character as itself.
fn is_plain(c: char) -> bool {
    if c.is_ascii() {
        return !c.is_ascii_control() && !matches!(c, '/' | '\\' | ';');
    }
    let separates = matches!(c, '\u{2028}' | '\u{2029}');
    let reorders = matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let annotates = matches!(c, '\u{fff9}'..='\u{fffb}');
    let mut like = compatible(c);
    !c.is_control()
        && !separates
        && !reorders
        && !annotates
        && !like.any(|c| "/\\.%;?#".contains(c))
}

/// Returns whether a second decoding would change a decoded text: it has `%` and two hexadecimal digits, or `%u` (IIS).
fn holds_encoded(text: &str) -> bool {
    let is_hex = |part: &str, from: usize, to: usize| {
        part.get(from..to).is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))
    };
    text.split('%')
        .skip(1)
        .any(|part| is_hex(part, 0, 2) || part.starts_with(['u', 'U']) && is_hex(part, 1, 5))
}

/// Returns whether a segment looks like `(S(…))`, the cookieless session of ASP.NET, which ASP.NET removes from a path.
fn is_session(form: &str) -> bool {
    let mut begin = form.chars();
    begin.next() == Some('(') && begin.next().is_some() && begin.next() == Some('(')
}

/// Appends a part of a request target. Percent-encodes `encoded` and everything except visible ASCII.
fn push_target(part: &str, encoded: &str, into: &mut String) {
    for c in part.chars() {
        if c.is_ascii_graphic() && !encoded.contains(c) {
            into.push(c);
        } else {
            push_encoded(c, into);
        }
    }
}

fn push_encoded(c: char, into: &mut String) {
    const DIGITS: [char; 16] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F'];
    let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).copied().unwrap_or('0');
    for byte in c.encode_utf8(&mut [0; 4]).bytes() {
        into.extend(['%', digit(byte >> 4), digit(byte & 15)]);
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> (String, String) {
        let path = ApiPath::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        (path.normal_form, path.request_target)
    }

    #[test]
    fn policies_see_the_normal_form_and_the_original_bytes_are_sent() {
        for (text, decided, sent) in [
            ("/api/v1/Contact/12", "/api/v1/contact/12", "/v1/Contact/12"),
            ("/API/v1/Contact", "/api/v1/contact", "/v1/Contact"),
            ("/%61pi/v1/%43ontact", "/api/v1/contact", "/v1/%43ontact"),
            ("/api/v1/Contact/", "/api/v1/contact", "/v1/Contact/"),
            ("/api", "/api", ""),
            ("/api/", "/api", "/"),
            ("/api?x=1", "/api", "?x=1"),
            ("/api/v1/A%20b/c(5)", "/api/v1/a b/c(5)", "/v1/A%20b/c(5)"),
            ("/api/v1/%C3%85s", "/api/v1/ås", "/v1/%C3%85s"),
            ("/api/v1/%c3%85s", "/api/v1/ås", "/v1/%c3%85s"),
            ("/api/v1/x[0]'", "/api/v1/x[0]'", "/v1/x[0]'"),
            ("/api/v1/x%5B0%5D%27", "/api/v1/x[0]'", "/v1/x%5B0%5D%27"),
            ("/api/v1/x:y@z", "/api/v1/x:y@z", "/v1/x:y@z"),
            ("/api/v1/a%2Bb%26c+d&e", "/api/v1/a+b&c+d&e", "/v1/a%2Bb%26c+d&e"),
            (
                "/api/v1/x?$filter=name eq 'O''Brien'",
                "/api/v1/x",
                "/v1/x?$filter=name%20eq%20'O''Brien'",
            ),
            // Only characters that are not visible ASCII, or not allowed in a target, are encoded.
            ("/api/v1/A b\"<>`%27'", "/api/v1/a b\"<>`''", "/v1/A%20b%22%3C%3E%60%27'"),
            ("/api/v1/Ås", "/api/v1/ås", "/v1/%C3%85s"),
        ] {
            assert_eq!(read(text), (decided.to_owned(), sent.to_owned()), "{text}");
        }
    }

    #[test]
    fn company_names_are_sent_unchanged_in_every_encoding() {
        for (name, form) in [
            ("Acme Inc.", "acme inc"),
            ("100% Norsk", "100% norsk"),
            ("50%", "50%"),
            ("Stra\u{df}e", "strasse"),
            ("O\u{2019}Brien \u{2013} S\u{f8}nner", "o\u{2019}brien \u{2013} s\u{f8}nner"),
            ("\u{201c}Best\u{201d} \u{2014} AS", "\u{201c}best\u{201d} \u{2014} as"),
            ("A\u{30a}s og Co", "\u{e5}s og co"),
            ("\u{4e2d}\u{56fd}\u{94f6}\u{884c}", "\u{4e2d}\u{56fd}\u{94f6}\u{884c}"),
            ("\u{130}stanbul I\u{15f}\u{131}k", "istanbul i\u{15f}ik"),
            ("\u{39f}\u{394}\u{39f}\u{3a3}", "\u{3bf}\u{3b4}\u{3bf}\u{3c3}"),
            ("\u{ff21}\u{ff23}\u{ff2d}\u{ff25}", "acme"),
            ("AT&T + Sons, Ltd. (UK)", "at&t + sons, ltd. (uk)"),
            ("(Old) Mill", "(old) mill"),
            ("Yahoo!", "yahoo!"),
            ("C# & F*", "c# & f*"),
            ("Who?", "who?"),
            ("\u{1f600} \u{20ac}\u{b2}\u{2122}", "\u{1f600} \u{20ac}2tm"),
            (".NET", ".net"),
            ("..x", "..x"),
            (" Acme ", "acme"),
            ("a=b:c@d~e$", "a=b:c@d~e$"),
        ] {
            let whole: String = name.bytes().fold(String::new(), |mut text, byte| {
                write!(text, "%{byte:02X}").unwrap();
                text
            });
            let some = name.bytes().fold(String::new(), |mut text, byte| {
                let plain = byte.is_ascii_alphanumeric() || b"-_.!~*'()".contains(&byte);
                if plain {
                    text.push(byte.into());
                } else {
                    write!(text, "%{byte:02x}").unwrap();
                }
                text
            });
            for encoded in [whole, some] {
                let sent = format!("/v1/Contact/Duplicates/{encoded}");
                let decided = format!("/api/v1/contact/duplicates/{form}");
                assert_eq!(read(&format!("/api{sent}")), (decided, sent), "{name}");
            }
        }
    }

    #[test]
    fn a_query_is_sent_unchanged() {
        for query in
            ["", "$filter=a%20eq%20'b'&x=%2F..%2f", "a=?b=/../c;d", "%", "x=%5c%00", "{[|]}^`\\"]
        {
            assert_eq!(read(&format!("/api/v1?{query}")).1, format!("/v1?{query}"));
        }
        assert_eq!(read("/api?x=a b\"<å>").1, "?x=a%20b%22%3C%C3%A5%3E");
        for query in ["#", "a#b", "a\nb", "\t", "\u{85}"] {
            assert_eq!(ApiPath::parse(&format!("/api?{query}")), Err(ApiPathError::Query));
        }
    }

    #[test]
    fn rejects_a_query_that_overrides_the_method() {
        for query in [
            "_method=DELETE",
            "x=1&_METHOD=put",
            "x;%5Fmethod=DELETE",
            "X-HTTP-Method-Override=DELETE",
            "x-http%2Dmethod=PUT",
            "X-Method-Override",
        ] {
            let path = format!("/api/v1/Contact/5?{query}");
            assert_eq!(ApiPath::parse(&path), Err(ApiPathError::MethodOverride), "{query}");
        }
        for query in ["method=x", "$filter=_method%20eq%201", "x=_method"] {
            assert!(ApiPath::parse(&format!("/api/v1/Contact/5?{query}")).is_ok(), "{query}");
        }
    }

    #[test]
    fn rejects_paths_that_servers_read_differently() {
        for (text, wanted) in [
            ("", ApiPathError::NotBelowApi),
            ("api/v1", ApiPathError::NotBelowApi),
            ("/", ApiPathError::NotBelowApi),
            ("//v1", ApiPathError::NotBelowApi),
            ("//api/v1", ApiPathError::SlashBeforeApi),
            ("///API", ApiPathError::SlashBeforeApi),
            ("/apix/v1", ApiPathError::NotBelowApi),
            ("/api./v1", ApiPathError::NotBelowApi),
            ("/\u{ff41}pi/v1", ApiPathError::NotBelowApi),
            ("/v1/api", ApiPathError::NotBelowApi),
            ("/%2561pi/v1", ApiPathError::NotBelowApi),
            ("http://host/api/v1", ApiPathError::NotBelowApi),
            ("/api/v1/../../x", ApiPathError::Segment),
            ("/api/./v1", ApiPathError::Segment),
            ("/api/v1/%2e%2E/x", ApiPathError::Segment),
            ("/api/v1/.%2e", ApiPathError::Segment),
            ("/api/v1/...", ApiPathError::Segment),
            ("/api/v1/.%20.", ApiPathError::Segment),
            ("/api/v1/%20", ApiPathError::Segment),
            ("/api/v1/..%C2%A0/x", ApiPathError::Segment),
            ("/api/v1/.%E2%80%8B./x", ApiPathError::Segment),
            ("/api/v1/%EF%BB%BF", ApiPathError::Segment),
            ("/api//v1", ApiPathError::Segment),
            ("/api/v1//", ApiPathError::Segment),
            ("/api/(S(x))/v1", ApiPathError::Segment),
            ("/api/v1/us%28S(x))er/%28S(x))", ApiPathError::Segment),
            ("/api/v1/\u{ff08}S\u{ff08}x))", ApiPathError::Segment),
            ("/api/v1/a%2fb", ApiPathError::Character),
            ("/api/v1/a%2Fb", ApiPathError::Character),
            ("/api/v1/a%5Cb", ApiPathError::Character),
            ("/api/v1/a\\b", ApiPathError::Character),
            ("/api/v1/a;b", ApiPathError::Character),
            ("/api/v1/a%3bb", ApiPathError::Character),
            ("/api/v1/a%252e", ApiPathError::Character),
            ("/api/v1/a%25%32%65", ApiPathError::Character),
            ("/api/v1/a%25\u{ff12}\u{ff45}", ApiPathError::Character),
            ("/api/v1/a%25\u{200b}2e", ApiPathError::Character),
            ("/api/v1/a%25u002e", ApiPathError::Character),
            ("/api/v1/a%00", ApiPathError::Character),
            ("/api/v1/a%0d%0a", ApiPathError::Character),
            ("/api/v1/a%7f", ApiPathError::Character),
            ("/api/v1/a%C2%85", ApiPathError::Character),
            ("/api/v1/\u{2028}", ApiPathError::Character),
            ("/api/v1/\u{202e}", ApiPathError::Character),
            ("/api/v1/\u{2105}", ApiPathError::Character),
            ("/api/v1/\u{2048}", ApiPathError::Character),
            ("/api/v1/Acme\u{2026}", ApiPathError::Character),
            ("/api/v1/\u{ff0e}\u{ff0e}", ApiPathError::Character),
            ("/api/v1/a\u{ff0f}b", ApiPathError::Character),
            ("/api/v1/a\u{ff3c}b", ApiPathError::Character),
            ("/api/v1/a\u{ff05}2e", ApiPathError::Character),
            ("/api/v1/a\u{37e}b", ApiPathError::Character),
            ("/api/v1/a\u{ff03}b", ApiPathError::Character),
            ("/api/v1/a\u{2488}b", ApiPathError::Character),
            ("/api/v1/a#b", ApiPathError::Query),
            ("/api/v1/a%", ApiPathError::Encoding),
            ("/api/v1/a%4", ApiPathError::Encoding),
            ("/api/v1/a%zz", ApiPathError::Encoding),
            ("/api/v1/a%+4", ApiPathError::Encoding),
            ("/api/v1/a%u0041", ApiPathError::Encoding),
            ("/api/v1/a%ff", ApiPathError::Encoding),
            ("/api/v1/%c0%ae", ApiPathError::Encoding),
        ] {
            assert_eq!(ApiPath::parse(text), Err(wanted), "{text:?}");
        }
        let long = format!("/api/{}", "a".repeat(MAX_BYTES));
        assert_eq!(ApiPath::parse(&long), Err(ApiPathError::TooLong));
    }

    /// Returns another spelling of the same path.
    fn other_spelling(path: &str, how: &[u8]) -> String {
        let mut other = String::new();
        for (c, choice) in path.chars().zip(how.iter().cycle()) {
            let encoded = c.to_string().into_bytes();
            match choice % 4 {
                _ if c == '/' => other.push(c),
                1 => other.extend(c.to_uppercase()),
                2 => encoded.iter().for_each(|byte| write!(other, "%{byte:02x}").unwrap()),
                3 => encoded.iter().for_each(|byte| write!(other, "%{byte:02X}").unwrap()),
                _ => other.push(c),
            }
        }
        other
    }

    proptest! {
        #[test]
        fn two_spellings_of_a_path_get_one_decision(
            rest in "(/[a-z0-9 .()\u{e5}\u{3c3}\u{3c2}:~-]{1,6}){0,4}/?",
            how in proptest::collection::vec(any::<u8>(), 1..20),
        ) {
            let path = format!("/api{rest}");
            let other = other_spelling(&path, &how);
            let [one, two] = [&path, &other].map(|path| ApiPath::parse(path).map(|path| path.normal_form));
            prop_assert_eq!(one, two, "{}", other);
        }

        #[test]
        fn the_sent_target_has_the_normal_form_that_was_decided_on(
            text in "/(api|%61PI)(/(\\PC|%[0-9a-f]{2}|[a-zA-Z./;(]){0,5}){0,4}(\\?\\PC{0,5})?",
        ) {
            if let Ok(path) = ApiPath::parse(&text) {
                let again = ApiPath::parse(&format!("/api{}", path.request_target())).unwrap();
                prop_assert_eq!(&again, &path);
                let decided = path.normal_form();
                prop_assert!(decided == "/api" || decided.starts_with("/api/"));
                prop_assert!(!decided.contains(['\\', ';']) && !decided.contains("//"));
                prop_assert!(decided.split('/').skip(1).all(|segment| folded_segment(segment) == segment && !segment.is_empty()));
                prop_assert!(!decided.chars().any(char::is_control));
                let sent = path.request_target();
                prop_assert!(sent.bytes().all(|b| b.is_ascii_graphic()));
                prop_assert!(sent.is_empty() || sent.starts_with(['/', '?']));
                let target: http::Uri = format!("https://host.example/Cust1/api{sent}").parse().unwrap();
                prop_assert_eq!(target.to_string(), format!("https://host.example/Cust1/api{sent}"));
            }
        }

        #[test]
        fn parsing_never_panics(text in "\\PC{0,40}") {
            let _ = ApiPath::parse(&text);
        }
    }
}
