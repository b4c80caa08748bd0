//! Naming a secret without keeping it.

/// A keyed digest: equal bytes have equal digests, and whoever sees one learns nothing of the bytes. The key is
/// made at the start and never kept, so a digest means nothing to another process.
pub trait Digest: Send + Sync + 'static {
    /// The digest of `bytes`.
    fn digest(&self, bytes: &[u8]) -> [u8; 32];
}
