//! The file operations of the journal. Tests replace them by files in memory that fail on request.

mod disk;
#[cfg(test)]
pub(crate) mod simulated;

use std::{io, path::Path};

pub(crate) use self::disk::Disk;

/// An open file.
pub(crate) trait File: Send + Sync {
    /// Reads at most `buffer.len()` bytes at an offset. Returns 0 at the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes bytes at an offset, perhaps only the first of them. Returns their number.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;

    /// Writes the file's data to the disk. After an error, data that was written before may be lost although it can
    /// still be read.
    fn sync_data(&self) -> io::Result<()>;

    /// Returns the length of the file.
    fn length(&self) -> io::Result<u64>;

    /// Cuts the file.
    fn truncate(&self, length: u64) -> io::Result<()>;

    /// Returns the id of the file.
    fn id(&self) -> io::Result<FileId>;
}

/// The device and the number of a file. No other file has them while the file is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileId(pub(super) u64, pub(super) u64);

/// A lock, which the system releases when this value is dropped or the process ends.
pub(crate) trait Lock: Send + Sync {}

/// The purpose for which a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Reading.
    Read,
    /// Reading and writing.
    Write,
    /// Writing a new file. A file of that name is emptied.
    Create,
}

/// A file system.
pub(crate) trait Files: Send + Sync {
    /// Opens a file. A created file is readable by its owner only.
    fn open(&self, path: &Path, purpose: Purpose) -> io::Result<Box<dyn File>>;

    /// Returns the id of the file at a path.
    fn id(&self, path: &Path) -> io::Result<FileId>;

    /// Gives a file another name. A file that has this name already is replaced.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Returns the length of the file at a path.
    fn length(&self, path: &Path) -> io::Result<u64>;

    /// Returns the size of the volume with this directory, free or not.
    fn volume_bytes(&self, directory: &Path) -> io::Result<u64>;

    /// Returns the names in a directory, in any order. Names that are not UTF-8 are left out.
    fn list(&self, directory: &Path) -> io::Result<Vec<String>>;

    /// Creates a directory, accessible by its owner only, if there is none.
    fn create_directory(&self, directory: &Path) -> io::Result<()>;

    /// Writes the names in a directory to the disk.
    fn sync_directory(&self, directory: &Path) -> io::Result<()>;

    /// Locks a lock file, which is created if there is none. Returns `None` if another process or value holds the lock
    /// and `wait` is not set.
    fn lock(&self, path: &Path, wait: bool) -> io::Result<Option<Box<dyn Lock>>>;
}

/// Writes all bytes at an offset.
pub(crate) fn write_all(file: &dyn File, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write_at(bytes, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                bytes = bytes.get(written..).unwrap_or_default();
                offset += written as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads until the buffer is full or the file ends. Returns the number of bytes.
pub(crate) fn read_full(file: &dyn File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut read = 0;
    while let Some(rest) = buffer.get_mut(read..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset + read as u64) {
            Ok(0) => break,
            Ok(count) => read += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}

/// Replaces a small file: the new content is on the disk under another name before it gets this name.
pub(crate) fn replace(
    files: &dyn Files,
    directory: &Path,
    name: &str,
    content: &[u8],
) -> io::Result<()> {
    let new = directory.join(format!("{name}.new"));
    let file = files.open(&new, Purpose::Create)?;
    write_all(&*file, content, 0)?;
    file.sync_data()?;
    files.rename(&new, &directory.join(name))?;
    files.sync_directory(directory)
}

/// Reads a small file. Returns `None` if there is none, and an error if it is longer than `longest`.
pub(crate) fn read_small(
    files: &dyn Files,
    path: &Path,
    longest: usize,
) -> io::Result<Option<Vec<u8>>> {
    let file = match files.open(path, Purpose::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let length = usize::try_from(file.length()?).unwrap_or(usize::MAX);
    if length > longest {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "the file is too long"));
    }
    let mut content = vec![0; length];
    let read = read_full(&*file, &mut content, 0)?;
    content.truncate(read);
    Ok(Some(content))
}
