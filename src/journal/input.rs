//! Parsing of bytes that may be anything: views of the bytes, without allocation.

use jiff::Timestamp;

use super::format::{MAX_KEY_ID_BYTES, MAX_SIGNATURE_BYTES};
use crate::domain::{AuditHash, AuditSignature};

/// An event of a group.
pub(super) struct EventView<'a> {
    pub(super) time: Timestamp,
    pub(super) hash: AuditHash,
    pub(super) body: &'a [u8],
}

/// The bytes that are not parsed yet.
pub(super) struct Input<'a>(pub(super) &'a [u8]);

impl<'a> Input<'a> {
    pub(super) fn left(&self) -> usize {
        self.0.len()
    }

    pub(super) fn slice(&mut self, length: usize) -> Option<&'a [u8]> {
        let (slice, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(slice)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*array)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_be_bytes)
    }

    pub(super) fn event(&mut self) -> Option<EventView<'a>> {
        let time = Timestamp::from_microsecond(self.i64()?).ok()?;
        let hash = self.array()?;
        let length = self.u32()? as usize;
        Some(EventView { time, hash, body: self.slice(length)? })
    }

    /// A length byte and so many bytes, at most `longest`.
    pub(super) fn short(&mut self, longest: usize) -> Option<&'a [u8]> {
        let [length] = self.array()?;
        let length = usize::from(length);
        if length > longest { None } else { self.slice(length) }
    }

    /// A length byte and a field of `size` bytes, filled with zeros.
    pub(super) fn fixed(&mut self, size: usize) -> Option<&'a [u8]> {
        let [length] = self.array()?;
        let (bytes, filling) = self.slice(size)?.split_at_checked(usize::from(length))?;
        filling.iter().all(|byte| *byte == 0).then_some(bytes)
    }

    pub(super) fn zeros(&mut self, length: usize) -> Option<()> {
        self.slice(length)?.iter().all(|byte| *byte == 0).then_some(())
    }

    pub(super) fn signature_block(&mut self) -> Option<AuditSignature> {
        let key_id = str::from_utf8(self.fixed(MAX_KEY_ID_BYTES)?).ok()?.into();
        Some(AuditSignature { key_id, bytes: self.fixed(MAX_SIGNATURE_BYTES)?.to_vec() })
    }
}
