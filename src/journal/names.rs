//! Names of files and directories.

use super::format::MAX_CHAIN_BYTES;

/// The lock of a chain that is written.
pub(crate) const CHAIN_LOCK: &str = "write.lock";
/// The lock of a chain whose checkpoint is moved.
pub(crate) const PRUNE_LOCK: &str = "prune.lock";
/// The next segment, prepared before it is needed.
pub(crate) const NEXT_SEGMENT: &str = "next.new";
/// The checkpoint of a chain.
pub(crate) const CHECKPOINT: &str = "checkpoint";
/// The space that is freed when the volume is full. The name is no chain's.
pub(crate) const RESERVE: &str = "space.reserve";
/// The lock of the server that uses the directory.
pub(crate) const SERVER_LOCK: &str = "server.lock";
/// The public keys, and the lock for replacing them.
pub(crate) const PUBLIC_KEYS: &str = "public.keys";
pub(crate) const PUBLIC_KEYS_LOCK: &str = "public.lock";

const SEGMENT_SUFFIX: &str = ".seg";
const SEGMENT_DIGITS: usize = 19;

/// Returns the directory name of a chain: letters in lower case, digits, `-` and `_` stay, every other byte becomes `%`
/// and two hexadecimal digits. `None` if the chain's name is empty or too long.
pub(crate) fn directory_name(chain: &str) -> Option<String> {
    if !(1..=MAX_CHAIN_BYTES).contains(&chain.len()) {
        return None;
    }
    let mut name = String::with_capacity(chain.len());
    for byte in chain.bytes() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => name.push(char::from(byte)),
            _ => {
                name.push('%');
                let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('0');
                name.push(digit(byte >> 4));
                name.push(digit(byte & 0xf));
            }
        }
    }
    Some(name)
}

/// Returns the chain of a directory name, if [`directory_name`] gives this name for it.
pub(crate) fn chain_of_directory(name: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(name.len());
    let mut left = name.bytes();
    while let Some(byte) = left.next() {
        if byte == b'%' {
            let mut digit = || char::from(left.next()?).to_digit(16);
            let (high, low) = (digit()?, digit()?);
            bytes.push(u8::try_from(high << 4 | low).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    let chain = String::from_utf8(bytes).ok()?;
    (directory_name(&chain)? == name).then_some(chain)
}

/// Returns the file name of the segment whose first event has this number.
pub(crate) fn segment_name(first: i64) -> String {
    format!("{first:0SEGMENT_DIGITS$}{SEGMENT_SUFFIX}")
}

/// Returns the first number that a file name says.
pub(crate) fn first_of_segment(name: &str) -> Option<i64> {
    let digits = name.strip_suffix(SEGMENT_SUFFIX)?;
    let decimal = digits.len() == SEGMENT_DIGITS && digits.bytes().all(|b| b.is_ascii_digit());
    if !decimal {
        return None;
    }
    digits.parse().ok().filter(|first| *first > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_chains_are_names_of_files_and_back() {
        let longest = "x".repeat(64);
        for (chain, name) in [
            ("cli", "cli"),
            (
                "serve-01a3185c-53e8-7000-8000-000000000000",
                "serve-01a3185c-53e8-7000-8000-000000000000",
            ),
            ("..", "%2e%2e"),
            ("a/B%", "a%2f%42%25"),
            ("ø", "%c3%b8"),
            (&longest, &longest),
        ] {
            assert_eq!(directory_name(chain).as_deref(), Some(name));
            assert_eq!(chain_of_directory(name).as_deref(), Some(chain));
        }
        for chain in ["", &"x".repeat(65)] {
            assert_eq!(directory_name(chain), None);
        }
        for name in ["", "%2E", "%61", "%", "%2", "%zz", "server.lock", "A", "%c3", "%+1"] {
            assert_eq!(chain_of_directory(name), None, "{name}");
        }
    }

    #[test]
    fn names_of_segments_sort_like_their_numbers() {
        assert_eq!(segment_name(1), "0000000000000000001.seg");
        for first in [1, 12_345, i64::MAX] {
            assert_eq!(first_of_segment(&segment_name(first)), Some(first));
        }
        for name in ["1.seg", "0000000000000000000.seg", "+000000000000000001.seg", "next.new"] {
            assert_eq!(first_of_segment(name), None, "{name}");
        }
    }
}
