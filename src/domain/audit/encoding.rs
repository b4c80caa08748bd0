//! Binary encoding of events, for hashing and storing.
//!
//! Layout: version ‖ sequence ‖ time ‖ previous hash ‖ links ‖ record. Every text and list is preceded by its length,
//! lengths and counts have exactly one encoding, and nothing follows. So two different events never have the same
//! encoding, and decoding returns exactly what was encoded. The chain's name is hashed too, but not stored with each
//! event. A new layout gets a new version; old versions stay readable.

use std::sync::Arc;

use jiff::Timestamp;

use super::{
    Aggregate, AuditEvent, AuditHash, AuditRecord, AuditRow, AuditText, ChainLink, ChainPoint,
    Decision, Statement,
};
use crate::domain::Reason;

const VERSION: u8 = 1;

/// Prefixes that separate the hashed and signed messages from each other and from other uses of the keys.
const EVENT_DOMAIN: &[u8] = b"tenant-gateway audit event v1\0";
const HEAD_DOMAIN: &[u8] = b"tenant-gateway audit head v1\0";
const CHECKPOINT_DOMAIN: &[u8] = b"tenant-gateway audit checkpoint v1\0";

/// The bytes are not an event of a known version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an audit event cannot be read")]
pub struct UnreadableEvent;

impl AuditEvent {
    /// Returns the encoded body, which is stored with chain and hash.
    #[must_use]
    pub fn body(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(384);
        self.encode_into(&mut body);
        body
    }

    fn encode_into(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        put_number(out, self.sequence.cast_unsigned());
        out.extend_from_slice(&self.time.as_microsecond().to_be_bytes());
        out.extend_from_slice(&self.previous_hash);
        put_number(out, self.links.len() as u64);
        for link in &self.links {
            put_text(out, &link.chain);
            put_number(out, link.sequence.cast_unsigned());
            out.extend_from_slice(&link.hash);
        }
        put_record(out, &self.record);
    }

    /// Sets the hash and returns the row to store.
    pub fn seal(&mut self, digest: impl Fn(&[u8]) -> AuditHash) -> AuditRow {
        let body = self.body();
        let mut message = hashed_prefix(&self.chain);
        message.extend_from_slice(&body);
        self.hash = digest(&message);
        AuditRow { sequence: self.sequence, time: self.time, hash: self.hash, body }
    }

    /// Decodes a row of `chain`. Sequence and time come from the body; the hash comes from the row.
    ///
    /// # Errors
    /// Returns an error if the body is not an encoded event.
    pub fn read(chain: &Arc<str>, row: &AuditRow) -> Result<Self, UnreadableEvent> {
        let mut input = Reader(&row.body);
        let event = input.event(chain, row.hash).ok_or(UnreadableEvent)?;
        if input.0.is_empty() { Ok(event) } else { Err(UnreadableEvent) }
    }
}

/// Returns the start of the message that is hashed for an event. The body follows.
pub(super) fn hashed_prefix(chain: &str) -> Vec<u8> {
    let mut message = Vec::with_capacity(512);
    message.extend_from_slice(EVENT_DOMAIN);
    put_text(&mut message, chain);
    message
}

/// The fields of an event before its record: its place in the chain.
pub(super) struct EventPlace {
    pub(super) sequence: i64,
    pub(super) time: Timestamp,
    pub(super) previous_hash: AuditHash,
    pub(super) links: Vec<ChainLink>,
}

/// Decodes the place of an event. Returns `None` if the body does not begin with one of a known version.
pub(super) fn read_place(body: &[u8]) -> Option<EventPlace> {
    Reader(body).place()
}

impl ChainPoint {
    /// Returns the message that the key `key_id` signs for `statement` on this position.
    #[must_use]
    pub fn message(&self, statement: Statement, key_id: &str) -> Vec<u8> {
        let mut message = match statement {
            Statement::Head => HEAD_DOMAIN.to_vec(),
            Statement::Checkpoint => CHECKPOINT_DOMAIN.to_vec(),
        };
        put_text(&mut message, key_id);
        put_text(&mut message, &self.chain);
        put_number(&mut message, self.sequence.cast_unsigned());
        message.extend_from_slice(&self.time.as_microsecond().to_be_bytes());
        message.extend_from_slice(&self.hash);
        message
    }
}

fn put_record(out: &mut Vec<u8>, record: &AuditRecord) {
    for text in [
        &record.caller,
        &record.caller_method,
        &record.caller_issuer,
        &record.action,
        &record.resource,
        &record.acting_as,
    ] {
        put_text(out, text);
    }
    out.push(match record.decision {
        Decision::Allowed => 1,
        Decision::Denied => 2,
    });
    put_number(out, record.policy_ids.len() as u64);
    for id in record.policy_ids.iter() {
        put_text(out, id);
    }
    out.extend_from_slice(&record.code.to_be_bytes());
    put_text(out, record.error_reason_name());
    for text in [
        &record.reason,
        &record.credential_id,
        &record.request_id,
        &record.trace_id,
        &record.client_address,
        &record.method,
        &record.path,
    ] {
        put_text(out, text);
    }
    put_aggregate(out, record.aggregate.as_deref());
}

/// Encodes the count, and the other fields if it is not zero.
fn put_aggregate(out: &mut Vec<u8>, aggregate: Option<&Aggregate>) {
    let Some(Aggregate { count, last_time, resources, resource_count }) = aggregate else {
        return out.push(0);
    };
    put_number(out, (*count).max(1));
    out.extend_from_slice(&last_time.as_microsecond().to_be_bytes());
    put_number(out, *resource_count);
    put_number(out, resources.len() as u64);
    for resource in resources {
        put_text(out, resource);
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_number(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

/// Encodes a number with seven bits per byte, lowest first; the top bit says that another byte follows.
fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(low_byte(number) | 0x80);
        number >>= 7;
    }
    out.push(low_byte(number));
}

fn low_byte(number: u64) -> u8 {
    let [low, ..] = number.to_le_bytes();
    low
}

/// The remaining bytes.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn event(&mut self, chain: &Arc<str>, hash: AuditHash) -> Option<AuditEvent> {
        let EventPlace { sequence, time, previous_hash, links } = self.place()?;
        let record = self.record()?;
        let chain = Arc::clone(chain);
        Some(AuditEvent { chain, sequence, time, record, links, previous_hash, hash })
    }

    fn place(&mut self) -> Option<EventPlace> {
        if self.array::<1>()? != [VERSION] {
            return None;
        }
        let sequence = self.number()?.cast_signed();
        let time = Timestamp::from_microsecond(i64::from_be_bytes(self.array()?)).ok()?;
        let previous_hash = self.array()?;
        let mut links = Vec::new();
        for _ in 0..self.number()? {
            links.push(ChainLink {
                chain: self.text()?.into(),
                sequence: self.number()?.cast_signed(),
                hash: self.array()?,
            });
        }
        Some(EventPlace { sequence, time, previous_hash, links })
    }

    fn record(&mut self) -> Option<AuditRecord> {
        let mut record = AuditRecord {
            caller: self.audit_text()?,
            caller_method: self.audit_text()?,
            caller_issuer: self.audit_text()?,
            action: self.audit_text()?,
            resource: self.audit_text()?,
            acting_as: self.audit_text()?,
            decision: match self.array::<1>()? {
                [1] => Decision::Allowed,
                [2] => Decision::Denied,
                _ => return None,
            },
            policy_ids: self.texts()?,
            code: i32::from_be_bytes(self.array()?),
            error_reason: None,
            unknown_reason: self.audit_text()?,
            reason: self.audit_text()?,
            credential_id: self.audit_text()?,
            request_id: self.audit_text()?,
            trace_id: self.audit_text()?,
            client_address: self.audit_text()?,
            method: self.audit_text()?,
            path: self.audit_text()?,
            aggregate: match self.number()? {
                0 => None,
                count => Some(self.aggregate(count)?),
            },
        };
        let named = |reason: &&Reason| reason.as_str() == &*record.unknown_reason;
        if let Some(known) = Reason::ALL.iter().find(named) {
            record.error_reason = Some(*known);
            record.unknown_reason = AuditText::default();
        }
        Some(record)
    }

    /// Decodes the fields behind the count of an aggregated event.
    fn aggregate(&mut self, count: u64) -> Option<Arc<Aggregate>> {
        let last_time = Timestamp::from_microsecond(i64::from_be_bytes(self.array()?)).ok()?;
        let resource_count = self.number()?;
        let mut resources = Vec::new();
        for _ in 0..self.number()? {
            resources.push(self.audit_text()?);
        }
        Some(Arc::new(Aggregate { count, last_time, resources, resource_count }))
    }

    fn texts(&mut self) -> Option<Arc<[Arc<str>]>> {
        let mut texts: Vec<Arc<str>> = Vec::new();
        for _ in 0..self.number()? {
            texts.push(self.text()?.into());
        }
        Some(texts.into())
    }

    fn audit_text(&mut self) -> Option<AuditText> {
        Some(self.text()?.to_owned().into())
    }

    fn text(&mut self) -> Option<&str> {
        let length = usize::try_from(self.number()?).ok()?;
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        str::from_utf8(text).ok()
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*bytes)
    }

    /// Decodes a number. Accepts only the shortest encoding.
    fn number(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.array::<1>()?;
            let bits = u64::from(byte & 0x7f);
            if (bits << shift) >> shift != bits || (byte == 0 && shift > 0) {
                return None;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests;
