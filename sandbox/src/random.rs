//! Random texts.

use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand;

const ALPHANUMERIC: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// The greatest multiple of 62 within a byte. Bytes above it are skipped, so that all letters are
/// equally likely.
const UNBIASED_LIMIT: u8 = 248;

/// Returns a text of random letters and digits.
pub(crate) fn alphanumeric(count: usize) -> Result<String, Unspecified> {
    let mut text = String::with_capacity(count);
    while text.len() < count {
        let mut bytes = [0; 32];
        rand::fill(&mut bytes)?;
        let fair = bytes.iter().filter(|byte| **byte < UNBIASED_LIMIT);
        let letters = fair.filter_map(|byte| ALPHANUMERIC.get(usize::from(*byte % 62)));
        text.extend(letters.take(count - text.len()).map(|letter| char::from(*letter)));
    }
    Ok(text)
}
