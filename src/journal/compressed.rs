//! Segments that are compressed after they are complete: the same bytes in the seekable format of Zstandard.
//!
//! The header is in a skippable frame and stays readable. The rest of the segment is in frames of 256 KiB. A table of
//! the frames is at the end. `docs/reference/journal.md` describes the file for other programs.

use std::{
    io,
    path::Path,
    sync::{Mutex, PoisonError},
};

use super::{
    files::{self, File, FileId, Files, Purpose},
    header::HEADER_BYTES,
};

/// The bytes of a segment in a frame.
const FRAME_BYTES: usize = 256 * 1024;
/// The level of compression: Zstandard's default.
const LEVEL: i32 = 3;
/// The most frames of a segment: 1 GiB.
const MAX_FRAMES: u32 = 4096;

/// The start of a compressed segment: a skippable frame of 512 bytes. The numbers of Zstandard are little-endian.
const HEADER_FRAME: [u8; 8] = [0x50, 0x2a, 0x4d, 0x18, 0, 2, 0, 0];
/// The start of the table, and the last bytes of the file.
const TABLE_FRAME: [u8; 4] = [0x5e, 0x2a, 0x4d, 0x18];
const TABLE_END: [u8; 4] = [0xb1, 0xea, 0x92, 0x8f];
/// The number of frames, a byte of flags, and `TABLE_END`.
const FOOTER: usize = 9;
const FOOTER_BYTES: u64 = FOOTER as u64;
const ENTRY_BYTES: u64 = 8;
/// The offset of the first compressed frame.
const FRAMES_AT: u64 = (HEADER_FRAME.len() + HEADER_BYTES) as u64;

/// Opens a segment for reading, compressed or not.
pub(crate) fn open(files: &dyn Files, path: &Path) -> io::Result<Box<dyn File>> {
    let file = files.open(path, Purpose::Read)?;
    Ok(if is_compressed(&*file)? { Box::new(CompressedFile::open(file)?) } else { file })
}

/// Returns whether a file begins like a compressed segment.
pub(crate) fn is_compressed(file: &dyn File) -> io::Result<bool> {
    let mut start = [0; HEADER_FRAME.len()];
    let read = files::read_full(file, &mut start, 0)?;
    Ok(read == start.len() && start == HEADER_FRAME)
}

/// A frame of a compressed segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Frame {
    /// The offset and the length of the frame in the file.
    from: u64,
    length: usize,
    /// The offset and the length of its bytes in the segment.
    start: u64,
    plain: usize,
}

/// A compressed segment that is read like one that is not.
struct CompressedFile {
    file: Box<dyn File>,
    frames: Vec<Frame>,
    length: u64,
    /// The number of the frame that was read last, and its bytes.
    last: Mutex<(usize, Vec<u8>)>,
}

fn damaged(what: &str) -> io::Error {
    io::Error::other(format!("a compressed segment: {what}"))
}

impl CompressedFile {
    fn open(file: Box<dyn File>) -> io::Result<Self> {
        let frames = read_table(&*file)?.unwrap_or_default();
        let length =
            frames.last().map_or(HEADER_BYTES as u64, |frame| frame.start + frame.plain as u64);
        Ok(Self { file, frames, length, last: Mutex::new((usize::MAX, Vec::new())) })
    }

    fn read_header(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let left = usize::try_from(HEADER_BYTES as u64 - offset).unwrap_or(0);
        let length = left.min(buffer.len());
        let part = buffer.get_mut(..length).unwrap_or_default();
        self.file.read_at(part, offset + HEADER_FRAME.len() as u64)
    }

    /// Returns the bytes of a frame; none if it is damaged, so that the groups in it are no valid groups.
    fn decompress(&self, frame: Frame) -> io::Result<Vec<u8>> {
        let mut compressed = vec![0; frame.length];
        let read = files::read_full(&*self.file, &mut compressed, frame.from)?;
        let plain = zstd::bulk::decompress(compressed.get(..read).unwrap_or_default(), frame.plain);
        Ok(plain.ok().filter(|plain| plain.len() == frame.plain).unwrap_or_default())
    }
}

/// Returns the frames of a file, or `None` if the table is damaged.
fn read_table(file: &dyn File) -> io::Result<Option<Vec<Frame>>> {
    let length = file.length()?;
    let Some(footer_at) = length.checked_sub(FOOTER_BYTES) else { return Ok(None) };
    let mut footer = [0; FOOTER];
    files::read_full(file, &mut footer, footer_at)?;
    let [a, b, c, d, flags, end @ ..] = footer;
    let count = u32::from_le_bytes([a, b, c, d]);
    if end != TABLE_END || flags != 0 || count > MAX_FRAMES {
        return Ok(None);
    }
    let entries = u64::from(count) * ENTRY_BYTES;
    let Some(table_at) = footer_at.checked_sub(entries + 8).filter(|at| *at >= FRAMES_AT) else {
        return Ok(None);
    };
    // At most 32 KiB, because the number of frames is bounded.
    let mut table = vec![0; usize::try_from(entries + 8).unwrap_or(0)];
    files::read_full(file, &mut table, table_at)?;
    let Some((start, entries)) = table.split_first_chunk::<8>() else { return Ok(None) };
    let size = u32::try_from(u64::from(count) * ENTRY_BYTES + FOOTER_BYTES).unwrap_or(0);
    if *start != *[TABLE_FRAME, size.to_le_bytes()].as_flattened() {
        return Ok(None);
    }
    let mut frames = Vec::with_capacity(entries.len() / 8);
    let (mut from, mut start) = (FRAMES_AT, HEADER_BYTES as u64);
    for entry in entries.chunks_exact(8) {
        let Some(([length, plain], [])) = entry.as_chunks::<4>().0.split_first_chunk::<2>() else {
            return Ok(None);
        };
        let (length, plain) = (u32::from_le_bytes(*length), u32::from_le_bytes(*plain));
        let plain = plain as usize;
        if plain == 0 || plain > FRAME_BYTES || from + u64::from(length) > table_at {
            return Ok(None);
        }
        frames.push(Frame { from, length: length as usize, start, plain });
        from += u64::from(length);
        start += plain as u64;
    }
    Ok((from == table_at).then_some(frames))
}

impl File for CompressedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        if offset < HEADER_BYTES as u64 {
            return self.read_header(buffer, offset);
        }
        let index = self.frames.partition_point(|frame| frame.start <= offset).saturating_sub(1);
        let Some(frame) = self.frames.get(index) else { return Ok(0) };
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.0 != index {
            *last = (index, self.decompress(*frame)?);
        }
        let inside = usize::try_from(offset - frame.start).unwrap_or(usize::MAX);
        if inside >= frame.plain {
            return Ok(0);
        }
        let length = buffer.len().min(frame.plain - inside);
        let Some(part) = buffer.get_mut(..length) else { return Ok(0) };
        match last.1.get(inside..inside + length) {
            Some(plain) => part.copy_from_slice(plain),
            None => part.fill(0xff),
        }
        Ok(length)
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.length)
    }

    fn truncate(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn id(&self) -> io::Result<FileId> {
        self.file.id()
    }
}

/// Compresses a segment and replaces it. Returns whether it did: a file that is compressed already, or that the
/// compressed one would not be equal to, stays as it is.
pub(crate) fn compress(files: &dyn Files, directory: &Path, name: &str) -> io::Result<bool> {
    let path = directory.join(name);
    let plain = files.open(&path, Purpose::Read)?;
    let length = plain.length()?;
    if is_compressed(&*plain)? || length <= HEADER_BYTES as u64 {
        return Ok(false);
    }
    let new = directory.join(format!("{name}.new"));
    let written = files.open(&new, Purpose::Create)?;
    write_frames(&*plain, &*written)?;
    written.sync_data()?;
    drop(written);
    let copy = open(files, &new)?;
    if !equal(&*plain, &*copy)? {
        files.remove(&new)?;
        return Err(damaged("it does not have the bytes of the segment"));
    }
    files.rename(&new, &path)?;
    files.sync_directory(directory)?;
    Ok(true)
}

fn write_frames(plain: &dyn File, written: &dyn File) -> io::Result<()> {
    let mut header = [0; HEADER_BYTES];
    files::read_full(plain, &mut header, 0)?;
    files::write_all(written, &HEADER_FRAME, 0)?;
    files::write_all(written, &header, HEADER_FRAME.len() as u64)?;
    let (mut offset, mut end) = (HEADER_BYTES as u64, FRAMES_AT);
    let mut table = Vec::new();
    let mut buffer = vec![0; FRAME_BYTES];
    loop {
        let read = files::read_full(plain, &mut buffer, offset)?;
        if read == 0 {
            break;
        }
        let frame = zstd::bulk::compress(buffer.get(..read).unwrap_or_default(), LEVEL)?;
        files::write_all(written, &frame, end)?;
        let too_long = |_| damaged("a frame is too long");
        table.extend_from_slice(&u32::try_from(frame.len()).map_err(too_long)?.to_le_bytes());
        table.extend_from_slice(&u32::try_from(read).map_err(too_long)?.to_le_bytes());
        end += frame.len() as u64;
        offset += read as u64;
    }
    let count = u32::try_from(table.len() / 8).ok().filter(|count| *count <= MAX_FRAMES);
    let count = count.ok_or_else(|| damaged("there are too many frames"))?;
    let size = u64::from(count) * ENTRY_BYTES + FOOTER_BYTES;
    let size = u32::try_from(size).map_err(|_| damaged("the table is too long"))?;
    let start: [u8; 8] =
        (u64::from(u32::from_le_bytes(TABLE_FRAME)) | u64::from(size) << 32).to_le_bytes();
    let mut content = start.to_vec();
    content.append(&mut table);
    content.extend_from_slice(&count.to_le_bytes());
    content.push(0);
    content.extend_from_slice(&TABLE_END);
    files::write_all(written, &content, end)
}

/// Returns whether two files have the same bytes.
fn equal(one: &dyn File, other: &dyn File) -> io::Result<bool> {
    if one.length()? != other.length()? {
        return Ok(false);
    }
    let (mut left, mut right) = (vec![0; FRAME_BYTES], vec![0; FRAME_BYTES]);
    let mut offset = 0;
    loop {
        let read = files::read_full(one, &mut left, offset)?;
        let same = files::read_full(other, &mut right, offset)? == read;
        if !same || left.get(..read) != right.get(..read) {
            return Ok(false);
        }
        if read == 0 {
            return Ok(true);
        }
        offset += read as u64;
    }
}

#[cfg(test)]
mod tests;
