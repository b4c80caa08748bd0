//! Finds the end of a chunked body (RFC 9112, section 7.1) with the same grammar as hyper.

/// The position of the next byte in the grammar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The first digit of a size.
    Size,
    /// Another digit of the size, or the end of the size.
    MoreSize,
    /// White space after the size.
    Blank,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// The start of a trailer or of the last line.
    LineStart,
    Trailer,
    TrailerLf,
    LastLf,
}

/// The result of a byte.
enum Step {
    To(State),
    End,
}

/// The parser state of a chunked body.
#[derive(Debug)]
pub(super) struct Chunked {
    state: State,
    left: u64,
}

/// The progress of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// All bytes belong to the body, which continues.
    Inside,
    /// The body ends after this number of bytes.
    End(usize),
    /// The body is not valid. hyper refuses it and closes the connection.
    Broken,
}

impl Chunked {
    pub(super) fn new() -> Self {
        Self { state: State::Size, left: 0 }
    }

    /// Parses the next bytes of the body.
    pub(super) fn advance(&mut self, bytes: &[u8]) -> Progress {
        let mut at = 0;
        while let Some(byte) = bytes.get(at) {
            if self.state == State::Data {
                let here = (bytes.len() - at).min(usize::try_from(self.left).unwrap_or(usize::MAX));
                self.left -= here as u64;
                at += here;
                if self.left == 0 {
                    self.state = State::DataCr;
                }
                continue;
            }
            at += 1;
            match self.step(*byte) {
                Some(Step::To(place)) => self.state = place,
                Some(Step::End) => return Progress::End(at),
                None => return Progress::Broken,
            }
        }
        Progress::Inside
    }

    /// Returns the result of a byte, or `None` if it is not valid here.
    fn step(&mut self, byte: u8) -> Option<Step> {
        let next = match (self.state, byte) {
            (State::Size | State::MoreSize, digit) if digit.is_ascii_hexdigit() => {
                let digit = u64::from(char::from(digit).to_digit(16)?);
                self.left = self.left.checked_mul(16)?.checked_add(digit)?;
                State::MoreSize
            }
            (State::MoreSize | State::Blank, b'\t' | b' ') => State::Blank,
            (State::MoreSize | State::Blank, b';') => State::Extension,
            (State::MoreSize | State::Blank | State::Extension, b'\r') => State::SizeLf,
            (State::Extension, byte) if byte != b'\n' => State::Extension,
            (State::SizeLf, b'\n') if self.left == 0 => State::LineStart,
            (State::SizeLf, b'\n') => State::Data,
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Size,
            (State::LineStart, b'\r') => State::LastLf,
            (State::Trailer, b'\r') => State::TrailerLf,
            (State::LineStart | State::Trailer, _) => State::Trailer,
            (State::TrailerLf, b'\n') => State::LineStart,
            (State::LastLf, b'\n') => return Some(Step::End),
            _ => return None,
        };
        Some(Step::To(next))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_body_ends_behind_its_last_line() {
        for body in [
            "0\r\n\r\n",
            "5\r\nhello\r\n0\r\n\r\n",
            "9;name=\"v\"\r\n0\r\n\r\nGET \r\n0 \t\r\n\r\n",
            "1\r\nx\r\n000\r\nX-Trailer: 0\r\nY: \r\n\r\n",
        ] {
            let bytes = [body, "GET / HTTP/1.1\r\n\r\n"].concat().into_bytes();
            assert_eq!(Chunked::new().advance(&bytes), Progress::End(body.len()), "{body:?}");
        }
    }

    #[test]
    fn a_body_that_hyper_refuses_is_broken() {
        for body in [
            "\r\n",
            "x\r\n",
            "5\nhello",
            "5\r\nhelloX",
            "5\r\nhello\n",
            "0\r\r",
            "0;a\n\r\n",
            "-1\r\n",
            "0\r\n\rX",
            "0\r\nA: b\rX",
            " 5\r\n",
            "10000000000000000\r\n",
        ] {
            assert_eq!(Chunked::new().advance(body.as_bytes()), Progress::Broken, "{body:?}");
        }
    }

    proptest! {
        #[test]
        fn the_end_is_the_same_however_the_bytes_arrive(
            parts in prop::collection::vec("[0-9a-z\r\n]{1,30}", 0..4),
            size in 1..9_usize,
        ) {
            let chunk = |part: &String| format!("{:x}\r\n{part}\r\n", part.len());
            let body: String = parts.iter().map(chunk).chain(["0\r\n\r\n".to_owned()]).collect();
            let all = format!("{body}rest");
            let mut chunked = Chunked::new();
            let mut read = 0;
            let end = all.as_bytes().chunks(size).find_map(|bytes| match chunked.advance(bytes) {
                Progress::Inside => { read += bytes.len(); None }
                Progress::End(here) => Some(read + here),
                Progress::Broken => panic!("{all:?}"),
            });
            prop_assert_eq!(end, Some(body.len()));
        }
    }
}
