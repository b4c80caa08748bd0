//! The keyring file on disk: checks its permissions and writes it durably.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, fchown},
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use super::KeyringError;
use crate::domain::file_text;

/// The mode of new files: read and write for the owner only.
const OWNER_ONLY: u32 = 0o600;
/// The permissions that group and others must not have.
const OTHERS: u32 = 0o077;
/// The permissions that are forbidden for a file that belongs to root and is read through its group, as Kubernetes
/// mounts a Secret for a non-root account (`fsGroup`). There it cannot be read in another way.
const OTHERS_IF_MOUNTED: u32 = 0o027;
const ROOT: u32 = 0;
/// The maximum file size. A keyring of 1 MiB would have about 8,000 keys, so a larger file is something else.
const MAX_LENGTH: u64 = 1024 * 1024;

/// Reads a file that only its owner can access.
pub(super) fn read(path: &Path) -> Result<Zeroizing<String>, KeyringError> {
    read_with_owner(path).map(|(text, _)| text)
}

/// Writes a new file.
pub(super) fn create(path: &Path, text: &str) -> Result<(), KeyringError> {
    let file = create_owner_only(path).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => KeyringError::Exists { file: path.to_owned() },
        _ => io_error(path, "create it", error),
    })?;
    write_durably(file, text).and_then(|()| sync_folder(path)).map_err(|error| {
        // An incomplete keyring would block the next attempt. A failure to remove it does no harm.
        let _ = fs::remove_file(path);
        io_error(path, "write it", error)
    })
}

/// Atomically replaces the text of a file with the result of `change`.
pub(super) fn replace<T>(
    path: &Path,
    change: impl FnOnce(&str) -> Result<(Zeroizing<String>, T), KeyringError>,
) -> Result<T, KeyringError> {
    // Resolves links, so that a link stays a link.
    let target = fs::canonicalize(path).map_err(|error| open_error(path, error))?;
    let temporary = temporary_name(&target);
    // The temporary file is also the lock between two processes that add a key, so it is created before reading.
    let file = create_owner_only(&temporary).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => KeyringError::Busy { file: temporary.clone() },
        _ => io_error(&temporary, "create it", error),
    })?;
    let renamed = read_with_owner(path).and_then(|(text, owner)| {
        let (text, value) = change(&text)?;
        // If root runs this, the new file must still be readable by the account of the server.
        owner
            .apply_to(&file)
            .and_then(|()| write_durably(file, &text))
            .and_then(|()| fs::rename(&temporary, &target))
            .map_err(|error| io_error(path, "replace it", error))?;
        Ok(value)
    });
    if renamed.is_err() {
        // Only after a failure: once renamed, a file with this name belongs to another process.
        let _ = fs::remove_file(&temporary);
    }
    let value = renamed?;
    sync_folder(&target).map_err(|error| io_error(path, "write its folder to disk", error))?;
    Ok(value)
}

struct Owner {
    user: u32,
    group: u32,
}

impl Owner {
    fn apply_to(&self, file: &File) -> io::Result<()> {
        let now = file.metadata()?;
        if (now.uid(), now.gid()) == (self.user, self.group) {
            return Ok(());
        }
        fchown(file, Some(self.user), Some(self.group))
    }
}

fn read_with_owner(path: &Path) -> Result<(Zeroizing<String>, Owner), KeyringError> {
    let file = File::open(path).map_err(|error| open_error(path, error))?;
    // The metadata of the open file, because the path may point to another file by now.
    let metadata = file.metadata().map_err(|error| io_error(path, "read it", error))?;
    let mode = metadata.mode() & 0o7777;
    let mounted = metadata.uid() == ROOT && !rustix::process::geteuid().is_root();
    let forbidden = if mounted { OTHERS_IF_MOUNTED } else { OTHERS };
    if mode & forbidden != 0 {
        return Err(KeyringError::Permissions { file: path.to_owned(), mode });
    }
    // Allocates once: growing would leave copies in memory that are not zeroed.
    let room = usize::try_from(metadata.len().min(MAX_LENGTH)).unwrap_or_default() + 64;
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    let read = file.take(MAX_LENGTH + 1).read_to_end(&mut bytes);
    match read {
        Ok(length) if length as u64 > MAX_LENGTH => {
            let error = io::Error::other("it is larger than 1 MiB");
            Err(io_error(path, "read it", error))
        }
        Ok(_) => {
            let text = file_text(&bytes).map_err(|error| {
                io_error(path, "read it", io::Error::new(ErrorKind::InvalidData, error))
            })?;
            let text = Zeroizing::new(text.to_owned());
            Ok((text, Owner { user: metadata.uid(), group: metadata.gid() }))
        }
        Err(error) => Err(io_error(path, "read it", error)),
    }
}

fn create_owner_only(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(OWNER_ONLY).open(path)
}

fn write_durably(mut file: File, text: &str) -> io::Result<()> {
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// A new or renamed file survives a power failure only after its directory is synced.
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    File::open(folder)?.sync_all()
}

fn temporary_name(target: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(target.file_name().unwrap_or_default());
    name.push(".new");
    target.with_file_name(name)
}

fn open_error(path: &Path, error: io::Error) -> KeyringError {
    match error.kind() {
        ErrorKind::NotFound => KeyringError::Missing { file: path.to_owned() },
        _ => io_error(path, "open it", error),
    }
}

fn io_error(path: &Path, action: &'static str, source: io::Error) -> KeyringError {
    KeyringError::Io { file: path.to_owned(), action, source }
}
