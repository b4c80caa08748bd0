//! Reading again what may have changed outside, without a restart.

use async_trait::async_trait;

/// Something that can be read again while it is in use. What is wrong with the new is logged by the
/// implementation, and the old stays in force.
#[async_trait]
pub trait Reloadable: Send + Sync + 'static {
    /// Reads it again, now.
    async fn reload(&self);
}

/// Tells when a change of watched content should be acted on, by fingerprints of it: when two looks in a row have seen
/// the same, so that files which are still being written are neither taken nor complained of. Who asks for a reload
/// says that they are written.
#[derive(Debug, Clone, Copy)]
pub struct Settling {
    /// The last that was acted on: in force, or wrong and reported.
    tried: u64,
    /// At the last look.
    seen: u64,
}

impl Settling {
    /// What is in force now.
    #[must_use]
    pub fn new(fingerprint: u64) -> Self {
        Self { tried: fingerprint, seen: fingerprint }
    }

    /// Whether to act on what is seen now. `asked`: somebody asked for a reload.
    pub fn look(&mut self, fingerprint: u64, asked: bool) -> bool {
        let settled = std::mem::replace(&mut self.seen, fingerprint) == fingerprint;
        if !asked && (fingerprint == self.tried || !settled) {
            return false;
        }
        self.tried = fingerprint;
        true
    }
}
