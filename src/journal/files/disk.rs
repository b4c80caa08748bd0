//! The file system of the operating system.

use std::{
    fs::{self, OpenOptions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::Path,
};

use super::{File, FileId, Files, Lock, Purpose};

/// The operating system's files.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Disk;

impl File for fs::File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(self, buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        std::os::unix::fs::FileExt::write_at(self, bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }

    fn id(&self) -> io::Result<FileId> {
        Ok(id_of(&self.metadata()?))
    }
}

fn id_of(metadata: &fs::Metadata) -> FileId {
    FileId(metadata.dev(), metadata.ino())
}

struct DiskLock {
    _file: fs::File,
}

impl Lock for DiskLock {}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600);
    options
}

impl Files for Disk {
    fn open(&self, path: &Path, purpose: Purpose) -> io::Result<Box<dyn File>> {
        let mut options = private();
        options.read(true);
        match purpose {
            Purpose::Read => {}
            Purpose::Write => {
                options.write(true);
            }
            Purpose::Create => {
                options.write(true).create(true).truncate(true);
            }
        }
        Ok(Box::new(options.open(path)?))
    }

    fn id(&self, path: &Path) -> io::Result<FileId> {
        Ok(id_of(&fs::metadata(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn length(&self, path: &Path) -> io::Result<u64> {
        Ok(fs::metadata(path)?.len())
    }

    fn volume_bytes(&self, directory: &Path) -> io::Result<u64> {
        let volume = rustix::fs::statvfs(directory)?;
        Ok(volume.f_blocks.saturating_mul(volume.f_frsize))
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(directory)? {
            names.extend(entry?.file_name().into_string().ok());
        }
        Ok(names)
    }

    fn create_directory(&self, directory: &Path) -> io::Result<()> {
        fs::DirBuilder::new().mode(0o700).recursive(true).create(directory)
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        fs::File::open(directory)?.sync_all()
    }

    fn lock(&self, path: &Path, wait: bool) -> io::Result<Option<Box<dyn Lock>>> {
        let file = private().write(true).create(true).truncate(false).open(path)?;
        if wait {
            file.lock()?;
        } else {
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
        Ok(Some(Box::new(DiskLock { _file: file })))
    }
}
