//! Random letters.

use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand;

const ALPHANUMERIC: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// The greatest multiple of 62 in a byte: above it the first letters would come more often.
const FAIR: u8 = 248;

/// So many random letters and digits.
pub(crate) fn letters(count: usize) -> Result<String, Unspecified> {
    let mut text = String::with_capacity(count);
    while text.len() < count {
        let mut bytes = [0; 32];
        rand::fill(&mut bytes)?;
        let fair = bytes.iter().filter(|byte| **byte < FAIR);
        let letters = fair.filter_map(|byte| ALPHANUMERIC.get(usize::from(*byte % 62)));
        text.extend(letters.take(count - text.len()).map(|letter| char::from(*letter)));
    }
    Ok(text)
}
