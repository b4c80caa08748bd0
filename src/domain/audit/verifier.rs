//! Verification of one chain, event by event, in constant memory.

use super::{
    AuditChainReport, AuditFault, AuditFaultKind, AuditHash, AuditRow, AuditRowView, ChainLink,
    ChainState, NO_HASH,
    encoding::{hashed_prefix, read_place},
};

/// Verifies the stored events of a chain in order and records the first fault.
pub struct ChainVerifier<D> {
    state: ChainState,
    digest: D,
    /// The expected number of the next event; `previous` is the expected previous hash.
    next: i64,
    previous: AuditHash,
    fault: Option<AuditFault>,
    links: Vec<ChainLink>,
    /// The message to hash: its first `prefix` bytes are the same for all events, and the body follows.
    message: Vec<u8>,
    prefix: usize,
}

impl<D: Fn(&[u8]) -> AuditHash> ChainVerifier<D> {
    /// Starts at the first stored event. `trusted` says whether the checkpoint's signature is valid, if there is one.
    #[must_use]
    pub fn new(state: ChainState, digest: D, trusted: bool) -> Self {
        let previous = state.checkpoint.as_ref().map_or(NO_HASH, |kept| kept.point.hash);
        let next = state.first_sequence();
        let distrusted = state.checkpoint.is_some() && !trusted;
        let fault = distrusted.then_some(AuditFault {
            kind: AuditFaultKind::BadSignature,
            sequence: next.saturating_sub(1),
        });
        let message = hashed_prefix(&state.head.point.chain);
        let prefix = message.len();
        Self { state, digest, next, previous, fault, links: Vec::new(), message, prefix }
    }

    /// Verifies the next event, in the order of the stored numbers. Returns `false` after the first fault.
    pub fn feed(&mut self, row: &AuditRow) -> bool {
        self.feed_view(row.view())
    }

    /// Verifies the next event, like [`Self::feed`].
    pub fn feed_view(&mut self, row: AuditRowView<'_>) -> bool {
        if self.fault.is_none() {
            self.fault = self.check(row);
            self.next = self.next.saturating_add(1);
            self.previous = row.hash;
        }
        self.fault.is_none()
    }

    /// Records that the head after the event `sequence`, which is stored with the events, has no valid signature.
    pub fn reject_head(&mut self, sequence: i64) {
        if self.fault.is_none_or(|fault| fault.sequence > sequence) {
            self.fault = Some(AuditFault { kind: AuditFaultKind::BadSignature, sequence });
        }
    }

    /// Returns the first fault so far.
    #[must_use]
    pub fn fault(&self) -> Option<AuditFault> {
        self.fault
    }

    fn check(&mut self, row: AuditRowView<'_>) -> Option<AuditFault> {
        let fault = |kind, sequence| Some(AuditFault { kind, sequence });
        if row.sequence > self.next {
            return fault(AuditFaultKind::Missing, self.next);
        }
        // The hash covers the record, so only the event's place is decoded. An event of a newer release with unknown
        // fields is intact.
        self.message.truncate(self.prefix);
        self.message.extend_from_slice(row.body);
        if (self.digest)(&self.message) != row.hash {
            return fault(AuditFaultKind::Changed, row.sequence);
        }
        let Some(event) = read_place(row.body) else {
            return fault(AuditFaultKind::Changed, row.sequence);
        };
        if row.sequence != self.next || event.sequence != row.sequence {
            return fault(AuditFaultKind::Reordered, row.sequence);
        }
        if event.time != row.time {
            return fault(AuditFaultKind::Changed, row.sequence);
        }
        if event.previous_hash != self.previous {
            // This event matches its hash, so the previous event is not the one that it was written after.
            let before = self.next.saturating_sub(1).max(self.state.first_sequence());
            return fault(AuditFaultKind::Changed, before);
        }
        if event.sequence == 1 {
            self.links = event.links;
        }
        None
    }

    /// Compares the last event with the head. `trusted` says whether the head's signature is valid. Also returns the
    /// links to other chains in the chain's first event, or none if the chain has a fault.
    #[must_use]
    pub fn finish(mut self, trusted: bool) -> (AuditChainReport, Vec<ChainLink>) {
        let first_sequence = self.state.first_sequence();
        let head = self.state.head.point;
        let fault = |kind, sequence| Some(AuditFault { kind, sequence });
        if self.fault.is_none() {
            let beyond = head.sequence.saturating_add(1);
            self.fault = if self.next < beyond {
                fault(AuditFaultKind::Truncated, self.next)
            } else if !trusted {
                fault(AuditFaultKind::BadSignature, head.sequence)
            } else if self.next > beyond {
                // No signature covers the events after the head.
                fault(AuditFaultKind::BadSignature, beyond)
            } else if self.previous != head.hash {
                fault(AuditFaultKind::Changed, head.sequence)
            } else {
                None
            };
        }
        let links = if self.fault.is_none() { self.links } else { Vec::new() };
        let report = AuditChainReport {
            chain: head.chain,
            first_sequence,
            last_sequence: head.sequence,
            fault: self.fault,
        };
        (report, links)
    }
}

#[cfg(test)]
mod tests;
