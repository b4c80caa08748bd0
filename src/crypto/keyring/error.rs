//! What can be wrong with a keyring, and what to do about it.

use std::{io, path::PathBuf};

/// Why a keyring cannot be made, read or used. No message has key material in it.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// There is no file.
    #[error(
        "{}: there is no keyring here. For a new store make one with `keys generate`; \
         for a store with data bring back the keyring it was written with", .file.display()
    )]
    Missing {
        /// The file.
        file: PathBuf,
    },
    /// A new keyring would overwrite something.
    #[error(
        "{}: this file exists and is not overwritten, because without its keys what they sealed is lost. \
         To add a key to it use `keys generate --add`", .file.display()
    )]
    Exists {
        /// The file.
        file: PathBuf,
    },
    /// Others than the owner can get at the keys.
    #[error(
        "{}: others than its owner can read or write it (mode {mode:04o}). Run `chmod 600 {}`; \
         if others were on this machine meanwhile, add a new key and rotate to it", .file.display(), .file.display()
    )]
    Permissions {
        /// The file.
        file: PathBuf,
        /// The permission bits found.
        mode: u32,
    },
    /// The content is not a keyring.
    #[error("{}: {source}", .file.display())]
    Format {
        /// The file.
        file: PathBuf,
        /// What is wrong, and where.
        source: KeyringFormatError,
    },
    /// The file next to the keyring that keeps two writers apart is there.
    #[error(
        "{}: this file says that another `keys generate --add` is at work. If none is, one was interrupted: \
         remove this file and try again", .file.display()
    )]
    Busy {
        /// The temporary file.
        file: PathBuf,
    },
    /// The file system refused.
    #[error("{}: cannot {action}: {source}", .file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The store was written with a key that is not here.
    #[error(
        "the store's active key {active} is not in the keyring, which has {present}. \
         Use the keyring that belongs to this store, or restart once the file has the key"
    )]
    UnknownActiveKey {
        /// The id that the store names.
        active: String,
        /// The ids in the keyring.
        present: String,
    },
    /// The cryptographic library failed.
    #[error("the cryptographic library failed to make or prepare a key; try again")]
    Failed,
}

impl KeyringError {
    pub(in crate::crypto) fn unknown_active<'a>(
        active: &str,
        present: impl Iterator<Item = &'a str>,
    ) -> Self {
        Self::UnknownActiveKey {
            active: active.to_owned(),
            present: present.collect::<Vec<_>>().join(", "),
        }
    }
}

/// What is wrong with the content of a keyring file, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyringFormatError {
    /// Not TOML. The parser's own words are left out, because they quote the line.
    #[error("line {line} is not valid TOML; compare it with a file that `keys generate` makes")]
    Syntax {
        /// The line, from 1.
        line: usize,
    },
    /// A key of the table that is none of ours.
    #[error("{place} has the unknown field {field}; a key has `id`, `create_time` and `key`")]
    UnknownField {
        /// Which table.
        place: String,
        /// The field, or a stand-in if it does not look like the name of one.
        field: String,
    },
    /// A field is missing or wrong.
    #[error("{place}: {problem}")]
    Field {
        /// Which table.
        place: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// Two keys with one id.
    #[error("{place} has the id {id} of a key before it; every key needs its own")]
    DuplicateId {
        /// Which table.
        place: String,
        /// The id.
        id: String,
    },
    /// No key at all.
    #[error(
        "the file has no keys; bring back the keyring, or for a new store remove it and run `keys generate`"
    )]
    Empty,
}
