//! Blocks of 512 bytes: the header of a segment, and the checkpoint of a chain.
//!
//! `docs/reference/journal.md` describes them for other programs. All numbers are big-endian.

use std::sync::Arc;

use jiff::Timestamp;

use super::{
    format::{EncodeError, Incarnation, MAX_CHAIN_BYTES, MAX_KEY_ID_BYTES, MAX_SIGNATURE_BYTES},
    input::Input,
};
use crate::domain::{AuditHash, AuditSignature, ChainPoint, SignedPoint};

/// The length of a block, and the offset of the first group of a segment.
pub(crate) const HEADER_BYTES: usize = 512;
/// The offset of the checksum of a block.
const CHECKSUM_AT: usize = 508;
/// The zeros before the name of the chain, for later versions.
const RESERVED_BYTES: usize = 16;

const HEADER_MAGIC: [u8; 8] = *b"TGAUDIT\n";
const CHECKPOINT_MAGIC: [u8; 8] = *b"TGAUDCP\n";
const VERSION: u32 = 1;

/// The prefix of the signed part of a header, for domain separation.
const SEGMENT_DOMAIN: &[u8] = b"tenant-gateway audit segment v1\0";

/// The header of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) chain: Arc<str>,
    pub(crate) incarnation: Incarnation,
    /// The number of the first event, and the hash of the event before it.
    pub(crate) first: i64,
    pub(crate) follows: AuditHash,
    /// The times in microseconds at which the chain and the segment began.
    pub(crate) begun: i64,
    pub(crate) created: i64,
    /// The latest time of all earlier events of the chain; `i64::MIN` if there are none.
    pub(crate) latest: i64,
    /// The earliest time in the segment before; `i64::MAX` if there is none.
    pub(crate) former_earliest: i64,
    pub(crate) signature: AuditSignature,
}

impl Header {
    /// Returns the header without its signature and checksum, and with the id of the signing key.
    fn unsigned(&self) -> Result<Vec<u8>, EncodeError> {
        let mut out = Vec::with_capacity(HEADER_BYTES);
        out.extend_from_slice(&HEADER_MAGIC);
        out.extend_from_slice(&VERSION.to_be_bytes());
        out.extend_from_slice(&self.incarnation);
        out.extend_from_slice(&self.first.to_be_bytes());
        out.extend_from_slice(&self.follows);
        for time in [self.begun, self.created, self.latest, self.former_earliest] {
            out.extend_from_slice(&time.to_be_bytes());
        }
        out.resize(out.len() + RESERVED_BYTES, 0);
        put_fixed(&mut out, self.chain.as_bytes(), MAX_CHAIN_BYTES)?;
        put_fixed(&mut out, self.signature.key_id.as_bytes(), MAX_KEY_ID_BYTES)?;
        Ok(out)
    }

    /// Returns the message to sign.
    pub(crate) fn message(&self) -> Result<Vec<u8>, EncodeError> {
        let mut message = SEGMENT_DOMAIN.to_vec();
        message.extend_from_slice(&self.unsigned()?);
        Ok(message)
    }

    pub(crate) fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        let mut out = self.unsigned()?;
        put_fixed(&mut out, &self.signature.bytes, MAX_SIGNATURE_BYTES)?;
        seal_block(&mut out);
        Ok(out)
    }

    /// Parses a header whose checksum is right.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut input = open_block(bytes, HEADER_MAGIC)?;
        let incarnation = input.array()?;
        let first = input.i64().filter(|first| *first > 0)?;
        let header = Self {
            incarnation,
            first,
            follows: input.array()?,
            begun: input.i64()?,
            created: input.i64()?,
            latest: input.i64()?,
            former_earliest: input.i64()?,
            chain: {
                input.zeros(RESERVED_BYTES)?;
                str::from_utf8(input.fixed(MAX_CHAIN_BYTES)?).ok()?.into()
            },
            signature: input.signature_block()?,
        };
        input.zeros(input.left())?;
        Some(header)
    }
}

/// Encodes a checkpoint file.
pub(crate) fn encode_checkpoint(checkpoint: &SignedPoint) -> Result<Vec<u8>, EncodeError> {
    let SignedPoint { point, signature } = checkpoint;
    let mut out = Vec::with_capacity(HEADER_BYTES);
    out.extend_from_slice(&CHECKPOINT_MAGIC);
    out.extend_from_slice(&VERSION.to_be_bytes());
    out.extend_from_slice(&point.sequence.to_be_bytes());
    out.extend_from_slice(&point.hash);
    out.extend_from_slice(&point.time.as_microsecond().to_be_bytes());
    put_fixed(&mut out, point.chain.as_bytes(), MAX_CHAIN_BYTES)?;
    put_fixed(&mut out, signature.key_id.as_bytes(), MAX_KEY_ID_BYTES)?;
    put_fixed(&mut out, &signature.bytes, MAX_SIGNATURE_BYTES)?;
    seal_block(&mut out);
    Ok(out)
}

/// Parses a checkpoint file.
pub(crate) fn decode_checkpoint(bytes: &[u8]) -> Option<SignedPoint> {
    let mut input = open_block(bytes, CHECKPOINT_MAGIC)?;
    let sequence = input.i64().filter(|sequence| *sequence > 0)?;
    let hash = input.array()?;
    let time = Timestamp::from_microsecond(input.i64()?).ok()?;
    let chain = str::from_utf8(input.fixed(MAX_CHAIN_BYTES)?).ok()?.into();
    let signature = input.signature_block()?;
    input.zeros(input.left())?;
    Some(SignedPoint { point: ChainPoint { chain, sequence, hash, time }, signature })
}

/// Fills a block with zeros and adds its checksum.
fn seal_block(out: &mut Vec<u8>) {
    out.resize(CHECKSUM_AT, 0);
    let checksum = crc32c::crc32c(out);
    out.extend_from_slice(&checksum.to_be_bytes());
}

/// Checks length, magic, version and checksum of a block, and returns the rest.
fn open_block(bytes: &[u8], magic: [u8; 8]) -> Option<Input<'_>> {
    let (block, checksum) = bytes.split_at_checked(CHECKSUM_AT)?;
    if checksum != crc32c::crc32c(block).to_be_bytes() {
        return None;
    }
    let mut input = Input(block);
    (input.array()? == magic && input.array()? == VERSION.to_be_bytes()).then_some(input)
}

/// Appends a length byte and a field of fixed size.
fn put_fixed(out: &mut Vec<u8>, bytes: &[u8], size: usize) -> Result<(), EncodeError> {
    let length = u8::try_from(bytes.len()).ok().filter(|_| bytes.len() <= size);
    out.push(length.ok_or(EncodeError::Field)?);
    let end = out.len() + size;
    out.extend_from_slice(bytes);
    out.resize(end, 0);
    Ok(())
}

#[cfg(test)]
mod tests;
