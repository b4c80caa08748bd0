//! Errors of the journal.

use std::{io, path::PathBuf};

use super::{damage::Damage, format::EncodeError};
use crate::ports::{SignError, StoreError};

/// The reason why a journal cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another server uses the directory.
    #[error(
        "{}: another server uses this audit journal (lock file {}); stop it, or change audit.directory",
        directory.display(), lock.display()
    )]
    AlreadyServed {
        /// The directory of the journal.
        directory: PathBuf,
        /// The lock file that the other server holds.
        lock: PathBuf,
    },
    /// The directory cannot be created or read.
    #[error(
        "{}: the audit journal cannot be used: {cause}; correct the permissions, or change audit.directory",
        directory.display()
    )]
    Unavailable {
        /// The directory of the journal.
        directory: PathBuf,
        /// The cause.
        cause: io::Error,
    },
}

/// The reason why a group is not stored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteError {
    #[error("the group does not follow the head")]
    Conflict,
    #[error(transparent)]
    Encode(#[from] EncodeError),
    #[error("{0}")]
    Damaged(Damage),
    #[error("another process writes the chain {0}")]
    Busy(String),
    #[error("{0} chains are written at a time, which is the limit")]
    TooManyChains(usize),
    #[error("the audit journal: {0}")]
    Io(#[from] io::Error),
    #[error("the header of a segment: {0}")]
    Sign(#[from] SignError),
    /// A file is no longer at its path. Nothing was written.
    #[error(transparent)]
    Lost(StoreError),
    /// The group was written to a file, and it is not known whether it is on the disk.
    #[error("the audit journal: {0}")]
    Unknown(io::Error),
}

impl From<WriteError> for StoreError {
    fn from(error: WriteError) -> Self {
        let text = error.to_string();
        match error {
            WriteError::Conflict => Self::Conflict,
            WriteError::Lost(lost) => lost,
            WriteError::Encode(_) | WriteError::Damaged(_) => Self::Corrupt(text),
            WriteError::Unknown(_) => Self::OutcomeUnknown(text),
            WriteError::Busy(_)
            | WriteError::TooManyChains(_)
            | WriteError::Io(_)
            | WriteError::Sign(_) => Self::Unavailable(text),
        }
    }
}
