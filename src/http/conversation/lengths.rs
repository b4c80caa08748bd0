//! Whether a request of HTTP/1.1 says the length of its body twice: with `Content-Length` and `Transfer-Encoding`.
//!
//! hyper reads such a body in chunks, as it must (RFC 9112 section 6.3), and forgets the other length. A proxy in front
//! that believes in the other length takes a part of the body for the next request, or the next request for a part of the
//! body. So the connection must end after the answer (RFC 9112 section 6.1), and no other connection has to.

/// Longer lines are cut: only these two headers are read.
const LINE_BYTES: usize = 64;

/// Follows the requests of a connection from byte to byte. It reads nothing more lenient than hyper does: what it cannot
/// follow is doubtful, and stays so.
#[derive(Debug, Default)]
pub(super) struct Lengths {
    place: Place,
    line: Line,
    head: Head,
}

/// The part of a request to which the next byte belongs.
#[derive(Debug, Default, Clone, Copy)]
enum Place {
    #[default]
    Head,
    /// The bytes that are left of a body.
    Body(u64),
    ChunkSize,
    /// The bytes that are left of a chunk, with the end of its line.
    Chunk(u64),
    Trailers,
    Doubtful,
}

/// The lines of a head that were read.
#[derive(Debug, Default)]
struct Head {
    has_request_line: bool,
    content_length: Option<u64>,
    is_chunked: bool,
}

/// The beginning of a line that is not whole yet.
#[derive(Debug)]
struct Line {
    bytes: [u8; LINE_BYTES],
    length: usize,
    is_cut: bool,
}

impl Default for Line {
    fn default() -> Self {
        Self { bytes: [0; LINE_BYTES], length: 0, is_cut: false }
    }
}

impl Lengths {
    /// Follows more bytes. Returns whether a request with two lengths is, or may be, among all that have come.
    pub(super) fn are_doubtful_after(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            bytes = match self.place {
                Place::Doubtful => return true,
                Place::Body(left) => {
                    let (rest, left) = skip(bytes, left);
                    self.place = if left == 0 { Place::Head } else { Place::Body(left) };
                    rest
                }
                Place::Chunk(left) => {
                    let (rest, left) = skip(bytes, left);
                    self.place = if left == 0 { Place::ChunkSize } else { Place::Chunk(left) };
                    rest
                }
                Place::Head | Place::ChunkSize | Place::Trailers => self.follow_line(bytes),
            }
        }
        matches!(self.place, Place::Doubtful)
    }

    /// Returns the bytes after the line.
    fn follow_line<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
            self.line.add(bytes);
            return &[];
        };
        let (begin, rest) = bytes.split_at(end);
        self.line.add(begin);
        let line = std::mem::take(&mut self.line);
        self.place = self.after(&line).unwrap_or(Place::Doubtful);
        rest.get(1..).unwrap_or_default()
    }

    fn after(&mut self, line: &Line) -> Option<Place> {
        let text = line.text();
        match self.place {
            Place::Head if text.is_empty() && self.head.has_request_line => self.end_of_head(),
            // Empty lines before a request are ignored (RFC 9112 section 2.2).
            Place::Head | Place::Trailers if text.is_empty() => Some(Place::Head),
            Place::Head if self.head.has_request_line => {
                self.head.add(text, line.is_cut)?;
                Some(Place::Head)
            }
            Place::Head => {
                self.head.has_request_line = true;
                // What follows may be no request at all.
                (!text.starts_with(b"CONNECT ")).then_some(Place::Head)
            }
            Place::ChunkSize => match chunk_size(text)? {
                0 => Some(Place::Trailers),
                size => Some(Place::Chunk(size.checked_add(2)?)),
            },
            place => Some(place),
        }
    }

    fn end_of_head(&mut self) -> Option<Place> {
        match std::mem::take(&mut self.head) {
            Head { is_chunked: true, content_length: Some(_), .. } => None,
            Head { is_chunked: true, .. } => Some(Place::ChunkSize),
            Head { content_length: None | Some(0), .. } => Some(Place::Head),
            Head { content_length: Some(length), .. } => Some(Place::Body(length)),
        }
    }
}

impl Head {
    /// `None` if the line is not plain.
    fn add(&mut self, line: &[u8], is_cut: bool) -> Option<()> {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            // A name this long is none of the two.
            return is_cut.then_some(());
        };
        let (name, value) = line.split_at_checked(colon)?;
        if name.first().is_none_or(u8::is_ascii_whitespace) {
            return None;
        }
        let name = name.trim_ascii();
        if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.is_chunked = true;
        } else if name.eq_ignore_ascii_case(b"content-length") {
            let length = length(value.get(1..)?.trim_ascii())?;
            if is_cut || self.content_length.is_some_and(|other| other != length) {
                return None;
            }
            self.content_length = Some(length);
        }
        Some(())
    }
}

impl Line {
    fn add(&mut self, bytes: &[u8]) {
        let room = self.bytes.get_mut(self.length..).unwrap_or_default();
        let fits = bytes.len().min(room.len());
        self.is_cut |= fits < bytes.len();
        for (to, from) in room.iter_mut().zip(bytes) {
            *to = *from;
        }
        self.length += fits;
    }

    fn text(&self) -> &[u8] {
        let text = self.bytes.get(..self.length).unwrap_or_default();
        text.strip_suffix(b"\r").unwrap_or(text)
    }
}

fn skip(bytes: &[u8], left: u64) -> (&[u8], u64) {
    let skipped = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
    (bytes.get(skipped..).unwrap_or_default(), left - skipped as u64)
}

fn length(digits: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(digits).ok()?;
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

/// The size that a chunk begins with, without its extensions.
fn chunk_size(line: &[u8]) -> Option<u64> {
    let end = line.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(line.len());
    let (digits, rest) = line.split_at_checked(end)?;
    if !matches!(rest.first(), None | Some(b';' | b' ' | b'\t')) {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CHUNKED: &str = "PUT /a HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\n\
        5;x=content-length: 1\r\nhello\r\n1f\r\nContent-Length: 4\r\n\r\nrest of it\r\n\
        0\r\nContent-Length: 7\r\n\r\n";
    const SIZED: &str = "\r\nPOST /a HTTP/1.1\r\nContent-Length: 55\r\ncontent-length:55\r\n\r\n\
        POST / HTTP/1.1\r\nTransfer-Encoding: x\r\nContent-Length:1";
    const NONE: &str = "GET /a HTTP/1.1\nHost: g\nX-Content-Length: 4\n\n";
    const BOTH: [&str; 2] = [
        "PUT / HTTP/1.1\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n",
        "PUT / HTTP/1.1\ntransfer-ENCODING:chunked\nCONTENT-length:4\n\n",
    ];

    fn are_doubtful(text: &str, part: usize) -> bool {
        let mut lengths = Lengths::default();
        let mut parts = text.as_bytes().chunks(part);
        parts.any(|part| lengths.are_doubtful_after(part))
    }

    #[test]
    fn a_request_with_two_lengths_is_found_wherever_it_comes() {
        for first in ["", CHUNKED, SIZED, NONE] {
            assert!(!are_doubtful(&first.repeat(3), 7), "{first}");
            for both in BOTH {
                for part in [1, 7, 1000] {
                    assert!(are_doubtful(&format!("{first}{both}"), part), "{first}{both}");
                }
            }
        }
    }

    #[test]
    fn what_cannot_be_followed_is_doubtful() {
        for text in [
            "CONNECT x:1 HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nA: b\r\n Content-Length: 1\r\n\r\n",
            "GET / HTTP/1.1\r\n: b\r\n\r\n",
            "GET / HTTP/1.1\r\nno header\r\n\r\n",
            "PUT / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            "PUT / HTTP/1.1\r\nContent-Length: +1\r\n\r\n",
            "PUT / HTTP/1.1\r\nContent-Length:\r\n\r\n",
            "PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
            "PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n\r\n",
            "PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
        ] {
            assert!(are_doubtful(text, 5), "{text}");
        }
        let long = format!("PUT / HTTP/1.1\r\nContent-Length: {:0>90}\r\n\r\n", 4);
        assert!(are_doubtful(&long, 5));
    }

    proptest! {
        #[test]
        fn in_which_parts_a_request_comes_makes_no_difference(
            texts in proptest::collection::vec(
                proptest::sample::select(vec![CHUNKED, SIZED, NONE, BOTH[0], "x", "\r\n", " "]), 0..5),
            part in 1_usize..200,
        ) {
            let text = texts.concat();
            prop_assert_eq!(are_doubtful(&text, part), are_doubtful(&text, 10_000));
        }
    }
}
