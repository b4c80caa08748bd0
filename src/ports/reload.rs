//! Reading again what may have changed outside, without a restart.

use std::io;

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

/// Why a configured file was not read, and what to do about it: one text wherever files are read.
#[must_use]
pub fn why_unreadable(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => {
            "there is no such file; relative paths begin at the folder of the configuration file"
        }
        io::ErrorKind::PermissionDenied => {
            "may not be read; give the user of this process read permission"
        }
        io::ErrorKind::IsADirectory => "is a folder; name the file in it",
        io::ErrorKind::InvalidData => "is not UTF-8 text; save it as that",
        _ => "cannot be read",
    }
}
