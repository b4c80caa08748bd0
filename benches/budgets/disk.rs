//! The cost of a durable write: one `pwrite` and one `fdatasync` to a file whose blocks exist already.

use std::{
    fs::{self, File},
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::Path,
    time::{Duration, Instant},
};

use super::statistics::Round;

/// The size of a file for writes of one size. Writing begins again at its start when it is full.
const FILE_BYTES: u64 = 16 * 1024 * 1024;

/// A file that is written with zeros before it is used.
pub(crate) struct PreallocatedFile {
    file: File,
    bytes: u64,
    offset: u64,
}

impl PreallocatedFile {
    pub(crate) fn new(path: &Path, bytes: u64) -> Self {
        let file = File::create(path).unwrap();
        file.write_all_at(&vec![0; usize::try_from(bytes).unwrap()], 0).unwrap();
        file.sync_all().unwrap();
        Self { file, bytes, offset: 0 }
    }

    /// Writes behind the last write, and waits until the bytes are on the disk.
    pub(crate) fn append(&mut self, bytes: &[u8]) {
        let length = bytes.len() as u64;
        if self.offset + length > self.bytes {
            self.offset = 0;
        }
        self.file.write_all_at(bytes, self.offset).unwrap();
        self.file.sync_data().unwrap();
        self.offset += length;
    }
}

/// Measures durable writes of one size.
pub(crate) struct DurableWrites {
    file: PreallocatedFile,
    block: Vec<u8>,
}

impl DurableWrites {
    /// Prepares writes of so many bytes in this folder.
    pub(crate) fn new(folder: &Path, bytes: usize) -> Self {
        let file = PreallocatedFile::new(&folder.join("durable-writes"), FILE_BYTES);
        Self { file, block: vec![7; bytes] }
    }

    pub(crate) fn round(&mut self, length: Duration) -> Round {
        let begin = Instant::now();
        let mut micros = Vec::new();
        while begin.elapsed() < length {
            let write = Instant::now();
            self.file.append(&self.block);
            micros.push(write.elapsed().as_secs_f64() * 1e6);
        }
        Round::new(micros, begin.elapsed().as_secs_f64(), 0.0)
    }
}

/// Returns the free bytes on the disk of a folder.
pub(crate) fn free_bytes(folder: &Path) -> u64 {
    let disk = rustix::fs::statvfs(folder).unwrap();
    disk.f_bavail * disk.f_frsize
}

/// Returns the bytes that the files of a folder take on the disk.
pub(crate) fn disk_bytes(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    let bytes = entries.map(|entry| {
        let metadata = entry.metadata().unwrap();
        // The unit of `st_blocks` is 512 bytes.
        if metadata.is_dir() { disk_bytes(&entry.path()) } else { metadata.blocks() * 512 }
    });
    bytes.sum()
}
