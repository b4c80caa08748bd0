//! Errors of a keyring.

use std::{io, path::PathBuf};

/// The reason why a keyring cannot be created, read or used. No message contains key material.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// The file does not exist.
    #[error(
        "{}: the keyring does not exist. For a new store create one with `keys generate`; \
         for a store with data restore the keyring that it was written with", .file.display()
    )]
    Missing {
        /// The file.
        file: PathBuf,
    },
    /// A new keyring would overwrite something.
    #[error(
        "{}: this file exists and is not overwritten, because data encrypted with its keys would be lost. \
         To add a key to it use `keys generate --add`", .file.display()
    )]
    Exists {
        /// The file.
        file: PathBuf,
    },
    /// Users other than the owner can access the keys.
    #[error(
        "{}: users other than its owner can read or write it (mode {mode:04o}). Run `chmod 600 {}`; \
         if other users had access to this machine, add a new key and rotate to it", .file.display(), .file.display()
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
        /// The problem and its location.
        source: KeyringFormatError,
    },
    /// The lock file of another writer exists.
    #[error(
        "{}: this file shows that another `keys generate --add` is running. If none is, one was interrupted: \
         remove this file and try again", .file.display()
    )]
    Busy {
        /// The temporary file.
        file: PathBuf,
    },
    /// The file system returned an error.
    #[error("{}: cannot {action}: {source}", .file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// The failed action.
        action: &'static str,
        /// The error of the system.
        source: io::Error,
    },
    /// The store's active key is not in the keyring.
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

/// A problem with the content of a keyring file, and its location.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyringFormatError {
    /// The text is not TOML. The parser's message is omitted, because it quotes the line.
    #[error("line {line} is not valid TOML; compare it with a file that `keys generate` creates")]
    Syntax {
        /// The line, from 1.
        line: usize,
    },
    /// The table has an unknown field.
    #[error("{place} has the unknown field {field}; a key has `id`, `create_time` and `key`")]
    UnknownField {
        /// Which table.
        place: String,
        /// The field, or a placeholder if it does not look like a field name.
        field: String,
    },
    /// A field is missing or wrong.
    #[error("{place}: {problem}")]
    Field {
        /// Which table.
        place: String,
        /// The problem.
        problem: &'static str,
    },
    /// Two keys with one id.
    #[error("{place} has the id {id} of an earlier key; every key needs its own id")]
    DuplicateId {
        /// Which table.
        place: String,
        /// The id.
        id: String,
    },
    /// No key at all.
    #[error(
        "the file has no keys; restore the keyring, or for a new store remove it and run `keys generate`"
    )]
    Empty,
}
