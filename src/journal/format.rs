//! The bytes of groups. `docs/reference/journal.md` describes them for other programs.
//!
//! All numbers are big-endian. Parsing allocates nothing: it returns views of the bytes, whatever the bytes are.

use std::sync::Arc;

use jiff::Timestamp;

use super::{
    input::{EventView, Input},
    segment::Tail,
};
use crate::{
    domain::{AuditHash, AuditRow, AuditRowView, AuditSignature, ChainPoint, SignedPoint},
    ports::AuditGroup,
};

/// The length of the longest group.
pub(crate) const MAX_GROUP_BYTES: usize = 16 * 1024 * 1024;
/// The most events of a group.
const MAX_GROUP_EVENTS: usize = 65_536;
/// The bytes of the longest name of a chain.
pub(crate) const MAX_CHAIN_BYTES: usize = 64;
/// The bytes of the longest key id, and of the longest signature.
pub(super) const MAX_KEY_ID_BYTES: usize = 64;
pub(super) const MAX_SIGNATURE_BYTES: usize = 128;

/// The first and the last bytes of a group. No byte of them is zero, so a group ends where the zeros begin.
pub(crate) const GROUP_MAGIC: [u8; 4] = *b"AGRP";
pub(super) const GROUP_END: [u8; 4] = *b"PRGA";

/// The bytes of a group before its events, of the end of a group, and of an event without its body.
const GROUP_PRELUDE: usize = 24;
pub(super) const GROUP_TRAILER: usize = 8;
const EVENT_PRELUDE: usize = 44;
/// The first byte that a group's checksum covers.
const CHECKED_FROM: usize = 12;
/// The length of the shortest group: one event without a body, and an empty signature.
pub(crate) const MIN_GROUP_BYTES: usize = GROUP_PRELUDE + EVENT_PRELUDE + 2 + GROUP_TRAILER;

/// The random id of a chain, which is a part of every checksum. So bytes of other files are never valid groups.
pub(crate) type Incarnation = [u8; 16];

/// A group, a header or a checkpoint cannot be encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EncodeError {
    #[error("the group is empty or its sequence numbers are not consecutive")]
    Sequence,
    #[error("the head is not the last event of the group")]
    Head,
    #[error("the group is longer than {MAX_GROUP_BYTES} bytes or has too many events")]
    TooLong,
    #[error("a name, a key id or a signature is too long")]
    Field,
}

/// An encoded group. Its checksum is added when its chain's incarnation is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EncodedGroup {
    pub(crate) first: i64,
    pub(crate) last: i64,
    /// The hash of the last event, and the earliest and the latest time in microseconds.
    pub(crate) last_hash: AuditHash,
    pub(crate) earliest: i64,
    pub(crate) latest: i64,
    pub(crate) bytes: Vec<u8>,
}

impl EncodedGroup {
    /// Encodes a group, without its checksum.
    pub(crate) fn new(group: &AuditGroup) -> Result<Self, EncodeError> {
        let AuditGroup { rows, head: SignedPoint { point, signature } } = group;
        let (Some(first), Some(last)) = (rows.first(), rows.last()) else {
            return Err(EncodeError::Sequence);
        };
        let numbers = (first.sequence..).zip(rows).all(|(number, row)| number == row.sequence);
        if first.sequence < 1 || !numbers {
            return Err(EncodeError::Sequence);
        }
        if (last.sequence, last.hash, last.time) != (point.sequence, point.hash, point.time) {
            return Err(EncodeError::Head);
        }
        let events: usize = rows.iter().map(|row| EVENT_PRELUDE + row.body.len()).sum();
        let signed = 2 + signature.key_id.len() + signature.bytes.len();
        let length = GROUP_PRELUDE + events + signed + GROUP_TRAILER;
        let (Ok(long), true) = (u32::try_from(length), length <= MAX_GROUP_BYTES) else {
            return Err(EncodeError::TooLong);
        };
        let count = u32::try_from(rows.len()).ok().filter(|_| rows.len() <= MAX_GROUP_EVENTS);
        let mut bytes = Vec::with_capacity(length);
        bytes.extend_from_slice(&GROUP_MAGIC);
        bytes.extend_from_slice(&long.to_be_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&first.sequence.to_be_bytes());
        bytes.extend_from_slice(&count.ok_or(EncodeError::TooLong)?.to_be_bytes());
        let (mut earliest, mut latest) = (i64::MAX, i64::MIN);
        for row in rows {
            let time = row.time.as_microsecond();
            (earliest, latest) = (earliest.min(time), latest.max(time));
            bytes.extend_from_slice(&time.to_be_bytes());
            bytes.extend_from_slice(&row.hash);
            // The length of the group fits, so this does.
            let body = u32::try_from(row.body.len()).map_err(|_| EncodeError::TooLong)?;
            bytes.extend_from_slice(&body.to_be_bytes());
            bytes.extend_from_slice(&row.body);
        }
        put_short(&mut bytes, signature.key_id.as_bytes(), MAX_KEY_ID_BYTES)?;
        put_short(&mut bytes, &signature.bytes, MAX_SIGNATURE_BYTES)?;
        bytes.extend_from_slice(&long.to_be_bytes());
        bytes.extend_from_slice(&GROUP_END);
        let last_hash = last.hash;
        Ok(Self { first: first.sequence, last: last.sequence, last_hash, earliest, latest, bytes })
    }

    /// Adds the checksum.
    pub(crate) fn seal(&mut self, incarnation: &Incarnation) {
        let checksum = group_checksum(&self.bytes, incarnation).unwrap_or_default();
        if let Some(place) = self.bytes.get_mut(8..CHECKED_FROM) {
            place.copy_from_slice(&checksum.to_be_bytes());
        }
    }
}

fn put_short(out: &mut Vec<u8>, bytes: &[u8], longest: usize) -> Result<(), EncodeError> {
    let length = u8::try_from(bytes.len()).ok().filter(|_| bytes.len() <= longest);
    out.push(length.ok_or(EncodeError::Field)?);
    out.extend_from_slice(bytes);
    Ok(())
}

pub(super) fn group_checksum(bytes: &[u8], incarnation: &Incarnation) -> Option<u32> {
    let end = bytes.len().checked_sub(GROUP_TRAILER)?;
    Some(crc32c::crc32c_append(crc32c::crc32c(incarnation), bytes.get(CHECKED_FROM..end)?))
}

/// Returns the length of the group that begins with these bytes, if it can be one.
pub(crate) fn group_length(bytes: &[u8]) -> Option<usize> {
    let mut input = Input(bytes);
    let magic: [u8; 4] = input.array()?;
    let length = input.u32()? as usize;
    let possible = (MIN_GROUP_BYTES..=MAX_GROUP_BYTES).contains(&length);
    (magic == GROUP_MAGIC && possible).then_some(length)
}

/// A valid group in the bytes of a segment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GroupView<'a> {
    pub(crate) first: i64,
    pub(crate) last: i64,
    /// The hash of the last event.
    pub(crate) last_hash: AuditHash,
    pub(crate) last_time: Timestamp,
    /// The earliest and the latest time in microseconds.
    pub(crate) earliest: i64,
    pub(crate) latest: i64,
    pub(crate) bytes: &'a [u8],
    key_id: &'a str,
    signature: &'a [u8],
}

impl<'a> GroupView<'a> {
    /// Checks the bytes of a whole group: both lengths, the checksum, and every field.
    pub(crate) fn parse(bytes: &'a [u8], incarnation: &Incarnation) -> Option<Self> {
        if group_length(bytes)? != bytes.len() {
            return None;
        }
        let trailer = bytes.len().checked_sub(GROUP_TRAILER)?;
        let (content, end) = bytes.split_at_checked(trailer)?;
        let mut end = Input(end);
        let lengths_agree = end.array::<4>()?.as_slice() == bytes.get(4..8)?;
        if !lengths_agree || end.array()? != GROUP_END {
            return None;
        }
        let mut input = Input(content.get(8..)?);
        if input.u32()? != group_checksum(bytes, incarnation)? {
            return None;
        }
        let first = input.i64().filter(|first| *first > 0)?;
        let count = input.u32().filter(|count| (1..=MAX_GROUP_EVENTS).contains(&(*count as usize)));
        let count = count?;
        let last = first.checked_add(i64::from(count) - 1)?;
        let (mut earliest, mut latest) = (i64::MAX, i64::MIN);
        let (mut last_hash, mut last_time) = (AuditHash::default(), Timestamp::UNIX_EPOCH);
        for _ in 0..count {
            let event = input.event()?;
            let time = event.time.as_microsecond();
            (earliest, latest) = (earliest.min(time), latest.max(time));
            (last_hash, last_time) = (event.hash, event.time);
        }
        let key_id = input.short(MAX_KEY_ID_BYTES)?;
        let key_id = str::from_utf8(key_id).ok()?;
        let signature = input.short(MAX_SIGNATURE_BYTES)?;
        let whole = input.left() == 0;
        let view =
            Self { first, last, last_hash, last_time, earliest, latest, bytes, key_id, signature };
        whole.then_some(view)
    }

    /// Returns the events.
    pub(crate) fn rows(&self) -> impl Iterator<Item = AuditRow> + use<'a> {
        self.views().map(|row| {
            let AuditRowView { sequence, time, hash, body } = row;
            AuditRow { sequence, time, hash, body: body.to_vec() }
        })
    }

    /// Returns the events without copies of their bodies.
    pub(crate) fn views(&self) -> impl Iterator<Item = AuditRowView<'a>> + use<'a> {
        let mut input = Input(self.bytes.get(GROUP_PRELUDE..).unwrap_or_default());
        (self.first..=self.last).map_while(move |sequence| {
            let EventView { time, hash, body } = input.event()?;
            Some(AuditRowView { sequence, time, hash, body })
        })
    }

    /// Returns the end of the chain behind this group. `latest` is the latest time before it.
    pub(crate) fn tail(&self, latest: i64) -> Tail {
        Tail { sequence: self.last, hash: self.last_hash, latest: latest.max(self.latest) }
    }

    /// Returns the signed head.
    pub(crate) fn head(&self, chain: &Arc<str>) -> SignedPoint {
        SignedPoint {
            point: ChainPoint {
                chain: Arc::clone(chain),
                sequence: self.last,
                hash: self.last_hash,
                time: self.last_time,
            },
            signature: AuditSignature {
                key_id: self.key_id.into(),
                bytes: self.signature.to_vec(),
            },
        }
    }

    /// Makes `head` the signed head after this group, in the memory of the former one.
    pub(crate) fn put_head(&self, chain: &Arc<str>, head: &mut Option<SignedPoint>) {
        match head {
            Some(SignedPoint { point, signature }) if *signature.key_id == *self.key_id => {
                point.sequence = self.last;
                point.hash = self.last_hash;
                point.time = self.last_time;
                signature.bytes.clear();
                signature.bytes.extend_from_slice(self.signature);
            }
            _ => *head = Some(self.head(chain)),
        }
    }

    /// Returns the group as it was encoded.
    pub(crate) fn encoded(&self) -> EncodedGroup {
        EncodedGroup {
            first: self.first,
            last: self.last,
            last_hash: self.last_hash,
            earliest: self.earliest,
            latest: self.latest,
            bytes: self.bytes.to_vec(),
        }
    }
}

#[cfg(test)]
mod tests;
