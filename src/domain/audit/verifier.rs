//! Verification of one chain, event by event, in constant memory.

use super::{
    AuditChainReport, AuditEvent, AuditFault, AuditFaultKind, AuditHash, AuditRow, ChainLink,
    ChainState, NO_HASH, encoding::hashed,
};

/// Follows a chain from where it is kept to its head and remembers the first fault.
pub struct ChainVerifier<D> {
    state: ChainState,
    digest: D,
    /// The number and the previous hash that the next event must have.
    next: i64,
    previous: AuditHash,
    fault: Option<AuditFault>,
    links: Vec<ChainLink>,
}

impl<D: Fn(&[u8]) -> AuditHash> ChainVerifier<D> {
    /// At the beginning of what is kept. `trusted` says of a checkpoint whether its signature holds.
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

    /// Takes the next event, in the order of the numbers they are kept under. `false` once a fault is found: what
    /// follows need not be fed.
    pub fn feed(&mut self, row: &AuditRow) -> bool {
        if self.fault.is_none() {
            self.fault = self.check(row);
            self.next = self.next.saturating_add(1);
            self.previous = row.hash;
        }
        self.fault.is_none()
    }

    /// The first fault so far.
    #[must_use]
    pub fn fault(&self) -> Option<AuditFault> {
        self.fault
    }

    fn check(&mut self, row: &AuditRow) -> Option<AuditFault> {
        let fault = |kind, sequence| Some(AuditFault { kind, sequence });
        if row.sequence > self.next {
            return fault(AuditFaultKind::Missing, self.next);
        }
        // The bytes first: an event that a newer release wrote is what it was, whether or not we know all it says.
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
            // This one is what its hash says, so the one before is not the one that it followed.
            let before = self.next.saturating_sub(1).max(self.state.first_sequence());
            return fault(AuditFaultKind::Changed, before);
        }
        if event.sequence == 1 {
            self.links = event.links;
        }
        None
    }

    /// Compares the end with the head. `trusted` says whether the head's signature holds. Gives what the chain's
    /// first event says of other chains, too: nothing if this chain cannot be believed.
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
                // Nobody has signed for what stands behind the head.
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
