//! Reloading files without a restart.

use std::io;

use async_trait::async_trait;

/// A part that can be reloaded while it is in use. If the new content is invalid, the implementation logs the error and
/// the old content stays in force.
#[async_trait]
pub trait Reloadable: Send + Sync + 'static {
    /// Reloads now.
    async fn reload(&self);
}

/// Decides from fingerprints of polled content when to reload. A change is reloaded when two polls in a row return the
/// same fingerprint, so that half-written files are neither loaded nor reported. A requested reload skips this wait.
#[derive(Debug, Clone, Copy)]
pub struct ChangeDetector {
    /// The fingerprint that was last loaded: now in force, or invalid and reported.
    last_applied: u64,
    /// The fingerprint of the last poll.
    last_seen: u64,
}

impl ChangeDetector {
    /// Creates a detector for the content that is in force now.
    #[must_use]
    pub fn new(fingerprint: u64) -> Self {
        Self { last_applied: fingerprint, last_seen: fingerprint }
    }

    /// Returns whether to reload the content with this fingerprint. `asked` is true if a reload was requested.
    pub fn should_reload(&mut self, fingerprint: u64, asked: bool) -> bool {
        let settled = std::mem::replace(&mut self.last_seen, fingerprint) == fingerprint;
        if !asked && (fingerprint == self.last_applied || !settled) {
            return false;
        }
        self.last_applied = fingerprint;
        true
    }
}

/// Returns why a configured file could not be read, and what to do. All files use the same text.
#[must_use]
pub fn explain_read_error(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => {
            "there is no such file; relative paths begin at the folder of the configuration file"
        }
        io::ErrorKind::PermissionDenied => {
            "cannot be read; give the user of this process read permission"
        }
        io::ErrorKind::IsADirectory => "is a folder; name the file in it",
        io::ErrorKind::InvalidData => "is not UTF-8 text; save it as that",
        _ => "cannot be read",
    }
}
