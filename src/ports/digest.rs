//! Identifying a secret without storing it.

/// A keyed digest. Equal bytes have equal digests, and a digest reveals nothing about the bytes. The key is generated
/// when the process starts and is never stored, so digests of different processes cannot be compared.
pub trait Digest: Send + Sync + 'static {
    /// Returns the digest of `bytes`.
    fn digest(&self, bytes: &[u8]) -> [u8; 32];
}
