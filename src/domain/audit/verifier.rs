//! Verification of one chain, event by event, in constant memory.

use super::{
    AuditChainReport, AuditEvent, AuditFault, AuditFaultKind, AuditHash, AuditRow, ChainLink,
    ChainState, NO_HASH, encoding::hashed,
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
        Self { state, digest, next, previous, fault, links: Vec::new() }
    }

    /// Verifies the next event, in the order of the stored numbers. Returns `false` after the first fault.
    pub fn feed(&mut self, row: &AuditRow) -> bool {
        if self.fault.is_none() {
            self.fault = self.check(row);
            self.next = self.next.saturating_add(1);
            self.previous = row.hash;
        }
        self.fault.is_none()
    }

    /// Returns the first fault so far.
    #[must_use]
    pub fn fault(&self) -> Option<AuditFault> {
        self.fault
    }

    fn check(&mut self, row: &AuditRow) -> Option<AuditFault> {
        let fault = |kind, sequence| Some(AuditFault { kind, sequence });
        if row.sequence > self.next {
            return fault(AuditFaultKind::Missing, self.next);
        }
        // Verifies the bytes before decoding, so that an event of a newer release with unknown fields is intact.
        if (self.digest)(&hashed(&self.state.head.point.chain, &row.body)) != row.hash {
            return fault(AuditFaultKind::Changed, row.sequence);
        }
        let Ok(event) = AuditEvent::read(&self.state.head.point.chain, row) else {
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
