//! AES-256-GCM with random nonces, and the header with the key id. Used for envelopes and page tokens.

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use zeroize::Zeroizing;

use crate::ports::SealError;

/// The length of symmetric keys.
pub(super) const KEY_LENGTH: usize = 32;
/// The length of the tag that AES-GCM appends.
const TAG_LENGTH: usize = 16;
/// The bytes that sealing adds to a plaintext: the nonce before it and the tag after it.
pub(super) const OVERHEAD: usize = NONCE_LEN + TAG_LENGTH;
/// The maximum length of a key id. The header has one byte for the length, and people type ids.
pub(super) const MAX_KEY_ID_LENGTH: usize = 64;

/// Returns whether `text` is a valid key id. Anything else is never put into a message or a log.
pub(super) fn is_key_id(text: &str) -> bool {
    (1..=MAX_KEY_ID_LENGTH).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

/// A prepared key. Random nonces are safe for about 2³² messages with one key: each record has its own key, and a
/// key-encryption key would need years of thousands of writes a second.
pub(super) struct AeadKey(RandomizedNonceKey);

impl AeadKey {
    pub(super) fn new(bytes: &[u8; KEY_LENGTH]) -> Result<Self, SealError> {
        RandomizedNonceKey::new(&AES_256_GCM, bytes).map(Self).map_err(|_| SealError::Failed)
    }

    /// Appends nonce, ciphertext and tag to `out`.
    pub(super) fn seal_into(
        &self,
        associated_data: &[u8],
        plaintext: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), SealError> {
        // Uses a separate buffer, which is zeroed when dropped: if sealing fails, `out` has no plaintext in it.
        let mut buffer = Zeroizing::new(plaintext.to_vec());
        let (nonce, tag) = self
            .0
            .seal_in_place_separate_tag(Aad::from(associated_data), &mut buffer)
            .map_err(|_| SealError::Failed)?;
        out.extend_from_slice(nonce.as_ref());
        out.extend_from_slice(&buffer);
        out.extend_from_slice(tag.as_ref());
        Ok(())
    }

    /// Opens nonce, ciphertext and tag. Returns `None` if the data is not authentic; the cause cannot be known.
    pub(super) fn open(&self, associated_data: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, ciphertext) = sealed.split_first_chunk::<NONCE_LEN>()?;
        let mut buffer = Zeroizing::new(ciphertext.to_vec());
        let length = self
            .0
            .open_in_place(Nonce::from(nonce), Aad::from(associated_data), &mut buffer)
            .ok()?
            .len();
        buffer.truncate(length);
        Some(buffer)
    }
}

/// Encodes fields so that different lists give different bytes: each field is preceded by its length.
pub(super) fn associated_data(version: u8, fields: &[&str]) -> Vec<u8> {
    let mut encoded = vec![version];
    for field in fields {
        encoded.extend_from_slice(&(field.len() as u64).to_be_bytes());
        encoded.extend_from_slice(field.as_bytes());
    }
    encoded
}

/// Returns the header of sealed data: version, length of the key id, key id.
pub(super) fn header(version: u8, key_id: &str) -> Result<Vec<u8>, SealError> {
    let length = u8::try_from(key_id.len()).map_err(|_| SealError::Failed)?;
    let mut header = vec![version, length];
    header.extend_from_slice(key_id.as_bytes());
    Ok(header)
}

/// Splits off the header. Returns `None` if the version is different, or the key id is invalid.
pub(super) fn split_header(version: u8, bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (&[found, length], rest) = bytes.split_first_chunk()?;
    let (key_id, rest) = rest.split_at_checked(usize::from(length))?;
    let key_id = str::from_utf8(key_id).ok()?;
    (found == version && is_key_id(key_id)).then_some((key_id, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_field_lists_have_different_encodings() {
        let lists: [&[&str]; 4] = [&["ab", "c"], &["a", "bc"], &["abc"], &["abc", ""]];
        for (position, one) in lists.iter().enumerate() {
            for other in &lists[position + 1..] {
                assert_ne!(associated_data(1, one), associated_data(1, other));
            }
        }
        assert_ne!(associated_data(1, &["a"]), associated_data(2, &["a"]));
    }

    #[test]
    fn reads_back_the_written_header() {
        let mut bytes = header(1, "k-0").unwrap();
        bytes.push(9);
        assert_eq!(split_header(1, &bytes), Some(("k-0", &[9_u8][..])));
        assert_eq!(split_header(2, &bytes), None);
        assert_eq!(split_header(1, &header(1, "").unwrap()), None);
        assert_eq!(split_header(1, &header(1, "k\n0").unwrap()), None);
        assert!(header(1, &"k".repeat(256)).is_err());
    }
}
