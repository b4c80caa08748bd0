//! The path of a call to the Web API, in the one form that is decided on and sent (DESIGN section 7, "Policy").
//!
//! Two spellings of a path must never get two decisions, so a path is percent-decoded once, and what servers are known
//! to read as something else is refused instead of being tidied up. What is sent is made from what was decided on.

use std::borrow::Cow;

/// The longest path and query, in bytes: SuperOffice's servers take less.
const MAX_BYTES: usize = 16 * 1024;

/// The root of the Web API, in lower case.
const ROOT: &str = "api";

/// A path of the Web API with its query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiPath {
    /// Decoded and in lower case, from `/api`.
    decided: String,
    /// Encoded, in its original case, below `/api`; with the query.
    sent: String,
}

/// Why a text is no path of the Web API. Never repeats the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ApiPathError {
    /// Not below `/api`.
    #[error("wanted a path that begins with /api/, such as /api/v1/Contact/12")]
    NotBelowApi,
    /// Longer than any.
    #[error("at most 16 KiB")]
    TooLong,
    /// `%` without two digits, or bytes that are no text in UTF-8.
    #[error("a % wants two hexadecimal digits behind it, and what is encoded must be UTF-8")]
    Encoding,
    /// A character that servers read in different ways.
    #[error(
        "the characters % \\ ; ? # and /, control characters, and letters that can be taken for ASCII letters may \
         not be percent-encoded in a path, nor stand in it for themselves"
    )]
    Character,
    /// A segment that servers drop or read as another.
    #[error(
        "a segment is not empty, does not begin or end with a space, does not end with a dot and does not begin with \
         an opening parenthesis"
    )]
    Segment,
    /// A query that is no query.
    #[error("a query holds neither # nor control characters")]
    Query,
}

impl ApiPath {
    /// Reads a path with its query, from `/api` on.
    ///
    /// # Errors
    /// If it could be read in two ways.
    pub fn parse(path_and_query: &str) -> Result<Self, ApiPathError> {
        if path_and_query.len() > MAX_BYTES {
            return Err(ApiPathError::TooLong);
        }
        let (path, query) = match path_and_query.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (path_and_query, None),
        };
        if query.is_some_and(|query| query.contains(|c: char| c == '#' || c.is_control())) {
            return Err(ApiPathError::Query);
        }
        let mut segments = path.strip_prefix('/').ok_or(ApiPathError::NotBelowApi)?.split('/');
        let root = segments.next().map(decode).transpose()?;
        if !root.is_some_and(|root| root.eq_ignore_ascii_case(ROOT)) {
            return Err(ApiPathError::NotBelowApi);
        }
        let mut decided = String::with_capacity(path.len());
        let mut sent = String::with_capacity(path_and_query.len());
        decided.push('/');
        decided.push_str(ROOT);
        let mut segments = segments.peekable();
        while let Some(segment) = segments.next() {
            // Servers take a slash at the end for none.
            if segment.is_empty() && segments.peek().is_none() {
                break;
            }
            let segment = decode(segment)?;
            check(&segment)?;
            decided.push('/');
            decided.extend(segment.chars().map(fold));
            sent.push('/');
            encode(&segment, &mut sent);
        }
        if let Some(query) = query {
            sent.push('?');
            sent.push_str(query);
        }
        Ok(Self { decided, sent })
    }

    /// What policies see: percent-decoded, in lower case, beginning with `/api`, without a slash at its end.
    #[must_use]
    pub fn decided(&self) -> &str {
        &self.decided
    }

    /// What is sent, behind the `…/api` of a tenant: in its original case, encoded, with the query as it came.
    #[must_use]
    pub fn sent(&self) -> &str {
        &self.sent
    }
}

/// Percent-decoded, once.
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

/// Whether a decoded segment has one meaning for all servers.
fn check(segment: &str) -> Result<(), ApiPathError> {
    if !segment.chars().all(is_plain) {
        return Err(ApiPathError::Character);
    }
    let ambiguous = segment.is_empty()
        // Windows drops them, and `.` and `..` are among them.
        || segment.ends_with(['.', ' '])
        || segment.starts_with(' ')
        // ASP.NET takes `(S(…))` for a session and removes it from the path.
        || segment.starts_with('(');
    if ambiguous { Err(ApiPathError::Segment) } else { Ok(()) }
}

/// Whether a character has one meaning for all servers.
fn is_plain(c: char) -> bool {
    if c.is_ascii() {
        return !c.is_ascii_control() && !b"%\\;?#/".contains(&(c as u8));
    }
    // Some servers take `ſ`, `K` and full-width letters for those of ASCII.
    let letter = ('\u{c0}'..'\u{2000}').contains(&c) && c.is_alphanumeric();
    letter && !c.to_lowercase().chain(c.to_uppercase()).any(|c| c.is_ascii())
}

/// One for all cases of a letter, as servers that ignore case compare them: letter by letter.
fn fold(c: char) -> char {
    if c.is_ascii() {
        return c.to_ascii_lowercase();
    }
    let upper = only(c.to_uppercase(), c);
    only(upper.to_lowercase(), upper)
}

/// The one of them, else the other.
fn only(mut cases: impl Iterator<Item = char>, other: char) -> char {
    match (cases.next(), cases.next()) {
        (Some(one), None) => one,
        _ => other,
    }
}

/// Leaves what a segment may hold (RFC 3986 section 3.3) and encodes the rest.
fn encode(segment: &str, into: &mut String) {
    const DIGITS: [char; 16] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F'];
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,=:@".contains(&b);
    if segment.bytes().all(plain) {
        into.push_str(segment);
        return;
    }
    for byte in segment.bytes() {
        if plain(byte) {
            into.push(byte.into());
        } else {
            let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).copied().unwrap_or('0');
            into.extend(['%', digit(byte >> 4), digit(byte & 15)]);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> (String, String) {
        let path = ApiPath::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        (path.decided, path.sent)
    }

    #[test]
    fn what_is_decided_on_is_decoded_and_in_lower_case_and_what_is_sent_keeps_its_case() {
        for (text, decided, sent) in [
            ("/api/v1/Contact/12", "/api/v1/contact/12", "/v1/Contact/12"),
            ("/API/v1/Contact", "/api/v1/contact", "/v1/Contact"),
            ("/%61pi/v1/%43ontact", "/api/v1/contact", "/v1/Contact"),
            ("/api/v1/Contact/", "/api/v1/contact", "/v1/Contact"),
            ("/api", "/api", ""),
            ("/api/", "/api", ""),
            ("/api?x=1", "/api", "?x=1"),
            ("/api/v1/A%20b/c(5)", "/api/v1/a b/c(5)", "/v1/A%20b/c(5)"),
            ("/api/v1/A b", "/api/v1/a b", "/v1/A%20b"),
            ("/api/v1/%C3%85s", "/api/v1/ås", "/v1/%C3%85s"),
            ("/api/v1/Ås", "/api/v1/ås", "/v1/%C3%85s"),
            ("/api/v1/x[0]'", "/api/v1/x[0]'", "/v1/x%5B0%5D'"),
            ("/api/v1/x:y@z", "/api/v1/x:y@z", "/v1/x:y@z"),
        ] {
            assert_eq!(read(text), (decided.to_owned(), sent.to_owned()), "{text}");
        }
    }

    #[test]
    fn a_query_is_sent_as_it_came() {
        for query in ["", "$filter=a%20eq%20'b'&x=%2F..%2f", "a=?b=/../c;d", "%", "x=%5c%00"] {
            assert_eq!(read(&format!("/api/v1?{query}")).1, format!("/v1?{query}"));
        }
        for query in ["#", "a#b", "a\nb", "\t", "\u{85}"] {
            assert_eq!(ApiPath::parse(&format!("/api?{query}")), Err(ApiPathError::Query));
        }
    }

    #[test]
    fn what_servers_read_in_different_ways_is_refused() {
        for (text, wanted) in [
            ("", ApiPathError::NotBelowApi),
            ("api/v1", ApiPathError::NotBelowApi),
            ("/", ApiPathError::NotBelowApi),
            ("//api/v1", ApiPathError::NotBelowApi),
            ("/apix/v1", ApiPathError::NotBelowApi),
            ("/v1/api", ApiPathError::NotBelowApi),
            ("/%2561pi/v1", ApiPathError::NotBelowApi),
            ("http://host/api/v1", ApiPathError::NotBelowApi),
            ("/api/v1/../../x", ApiPathError::Segment),
            ("/api/./v1", ApiPathError::Segment),
            ("/api/v1/%2e%2E/x", ApiPathError::Segment),
            ("/api/v1/.%2e", ApiPathError::Segment),
            ("/api/v1/...", ApiPathError::Segment),
            ("/api//v1", ApiPathError::Segment),
            ("/api/v1//", ApiPathError::Segment),
            ("/api/v1/user./x", ApiPathError::Segment),
            ("/api/v1/user%20/x", ApiPathError::Segment),
            ("/api/v1/%20user", ApiPathError::Segment),
            ("/api/(S(x))/v1", ApiPathError::Segment),
            ("/api/v1/us%28S(x))er/%28S(x))", ApiPathError::Segment),
            ("/api/v1/a%2fb", ApiPathError::Character),
            ("/api/v1/a%5Cb", ApiPathError::Character),
            ("/api/v1/a\\b", ApiPathError::Character),
            ("/api/v1/a;b", ApiPathError::Character),
            ("/api/v1/a%3bb", ApiPathError::Character),
            ("/api/v1/a%252e", ApiPathError::Character),
            ("/api/v1/a%3f", ApiPathError::Character),
            ("/api/v1/a#b", ApiPathError::Character),
            ("/api/v1/a%00", ApiPathError::Character),
            ("/api/v1/a%0d%0a", ApiPathError::Character),
            ("/api/v1/a%7f", ApiPathError::Character),
            ("/api/v1/u\u{17f}er", ApiPathError::Character),
            ("/api/v1/to\u{212a}en", ApiPathError::Character),
            ("/api/v1/\u{ff55}ser", ApiPathError::Character),
            ("/api/v1/\u{131}", ApiPathError::Character),
            ("/api/v1/\u{202e}", ApiPathError::Character),
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

    /// Spells a path in another way that means the same.
    fn respelt(path: &str, how: &[u8]) -> String {
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
            let other = respelt(&path, &how);
            let [one, two] = [&path, &other].map(|path| ApiPath::parse(path).map(|path| path.decided));
            prop_assert_eq!(one, two, "{}", other);
        }

        #[test]
        fn what_is_sent_is_what_was_decided_on_and_reads_as_itself(
            text in "/(api|%61PI)(/(\\PC|%[0-9a-f]{2}|[a-zA-Z./;(]){0,5}){0,4}(\\?\\PC{0,5})?",
        ) {
            if let Ok(path) = ApiPath::parse(&text) {
                let again = ApiPath::parse(&format!("/api{}", path.sent())).unwrap();
                prop_assert_eq!(&again, &path);
                let decided = path.decided();
                prop_assert!(decided == "/api" || decided.starts_with("/api/"));
                prop_assert!(!decided.contains(['%', '\\', ';', '?', '#']) && !decided.contains("//"));
                prop_assert!(decided.split('/').all(|segment| segment != "." && segment != ".."));
                prop_assert!(decided.chars().all(|c| !c.is_control() && fold(c) == c));
                let (sent, _) = path.sent().split_once('?').unwrap_or((path.sent(), ""));
                prop_assert!(sent.is_ascii() && (sent.is_empty() || sent.starts_with('/')));
            }
        }

        #[test]
        fn nothing_that_is_refused_is_a_panic(text in "\\PC{0,40}") {
            let _ = ApiPath::parse(&text);
        }
    }
}
