//! The end of a hash chain, to which events are appended.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use uuid::Builder;

use crate::{
    domain::{
        AuditEvent, AuditHash, AuditRecord, AuditRow, AuditSignature, ChainLink, ChainPoint,
        ChainState, NO_HASH, SignedPoint, Statement,
    },
    ports::{AuditGroup, AuditSigner, AuditStore, SignError, StoreError},
};

/// The largest backward step of the clock that event times ignore, so that times never decrease. After a larger step
/// the earlier time was wrong, so events get the new time.
const MAX_CLOCK_STEP_BACK: Duration = Duration::from_mins(1);

/// Returns a name for the chain of a gateway that starts now. Names sort by their time.
#[must_use]
pub fn serve_chain(now: Timestamp, random: [u8; 16]) -> Arc<str> {
    let [_, _, _, _, _, _, random @ ..] = random;
    let millisecond = u64::try_from(now.as_millisecond()).unwrap_or_default();
    let id = Builder::from_unix_timestamp_millis(millisecond, &random);
    format!("serve-{}", id.into_uuid()).into()
}

/// The last event of a chain, which the next event follows.
#[derive(Debug, Clone)]
pub(super) struct Tip {
    chain: Arc<str>,
    sequence: i64,
    hash: AuditHash,
    time: Timestamp,
    /// The heads of all other chains, which the first event of a chain contains.
    links: Vec<ChainLink>,
}

impl Tip {
    /// Looks up the end of a chain, or returns the start of a new chain.
    pub(super) async fn find(store: &dyn AuditStore, chain: &Arc<str>) -> Result<Self, StoreError> {
        let chain = Arc::clone(chain);
        if let Some(state) = store.chain(&chain).await? {
            let ChainPoint { sequence, hash, time, .. } = state.head.point;
            return Ok(Self { chain, sequence, hash, time, links: Vec::new() });
        }
        let link = |state: ChainState| {
            let ChainPoint { chain, sequence, hash, .. } = state.head.point;
            ChainLink { chain, sequence, hash }
        };
        let links = store.chains().await?.into_iter().map(link).collect();
        Ok(Self { chain, sequence: 0, hash: NO_HASH, time: Timestamp::MIN, links })
    }

    /// Numbers and hashes events in this order, and moves the tip to the last of them.
    pub(super) fn group(
        &mut self,
        records: impl Iterator<Item = (AuditRecord, Timestamp)>,
        signer: &dyn AuditSigner,
    ) -> UnsignedGroup {
        let digest = |message: &[u8]| signer.digest(message);
        let row = |(record, time): (AuditRecord, Timestamp)| {
            // The store keeps microseconds.
            let time = Timestamp::from_microsecond(time.as_microsecond()).unwrap_or(time);
            let back = Duration::try_from(self.time.duration_since(time)).unwrap_or_default();
            if back > MAX_CLOCK_STEP_BACK || time > self.time {
                self.time = time;
            }
            self.sequence = self.sequence.saturating_add(1);
            let mut event = AuditEvent {
                chain: Arc::clone(&self.chain),
                sequence: self.sequence,
                time: self.time,
                record,
                links: std::mem::take(&mut self.links),
                previous_hash: self.hash,
                hash: NO_HASH,
            };
            let row = event.seal(digest);
            self.hash = event.hash;
            row
        };
        UnsignedGroup { rows: records.map(row).collect(), head: self.point() }
    }

    fn point(&self) -> ChainPoint {
        ChainPoint {
            chain: Arc::clone(&self.chain),
            sequence: self.sequence,
            hash: self.hash,
            time: self.time,
        }
    }
}

/// A group of events whose head is not signed yet.
pub(super) struct UnsignedGroup {
    rows: Vec<AuditRow>,
    head: ChainPoint,
}

impl UnsignedGroup {
    /// Signs the head with the active key.
    pub(super) fn sign(self, signer: &dyn AuditSigner) -> Result<AuditGroup, (Self, SignError)> {
        match sign(signer, &self.head, Statement::Head) {
            Ok(signature) => {
                let head = SignedPoint { point: self.head, signature };
                Ok(AuditGroup { rows: self.rows, head })
            }
            Err(error) => Err((self, error)),
        }
    }
}

/// Signs a statement with the active key.
pub(super) fn sign(
    signer: &dyn AuditSigner,
    point: &ChainPoint,
    statement: Statement,
) -> Result<AuditSignature, SignError> {
    let key_id = signer.active_key_id();
    let bytes = signer.sign(&key_id, &point.message(statement, &key_id))?;
    Ok(AuditSignature { key_id, bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serve_chain_names_sort_by_time_and_are_unique() {
        let at = |second: i64| Timestamp::from_second(1_800_000_000 + second).unwrap();
        let first = serve_chain(at(0), [0xff; 16]);
        let second = serve_chain(at(1), [0; 16]);
        assert!(first < second, "{first} {second}");
        assert_eq!(&*second, "serve-01a3185c-53e8-7000-8000-000000000000");
        assert_ne!(second, serve_chain(at(1), [1; 16]));
    }
}
