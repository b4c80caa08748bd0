//! The audit trail: its events, how they are chained, and how a chain is verified.
//!
//! A chain is a list of events numbered from 1. Each carries the hash of the one before, and the last one's hash is
//! signed: who cannot sign cannot change, add or take away an event unseen. See `docs/adr/0006-audit.md`.

mod encoding;
mod fields;
mod text;
mod verifier;

use std::sync::Arc;

use jiff::Timestamp;

pub use self::{
    encoding::Unreadable, fields::AUDIT_FIELDS, text::AuditText, verifier::ChainVerifier,
};
use super::Reason;

/// A SHA-256 hash.
pub type AuditHash = [u8; 32];

/// What stands before the first event of a chain.
pub const NO_HASH: AuditHash = [0; 32];

/// What was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Decision {
    /// It was permitted. Whether it also succeeded says the code.
    Allowed,
    /// It was not.
    Denied,
}

impl Decision {
    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "ALLOWED",
            Self::Denied => "DENIED",
        }
    }
}

/// What happened: everything of an event that its author knows. What does not apply is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRecord {
    /// The caller's id.
    pub caller: AuditText,
    /// How it proved who it is.
    pub caller_method: AuditText,
    /// Who vouched for it.
    pub caller_issuer: AuditText,
    /// The action of the policy, or `cli.` and the command.
    pub action: AuditText,
    /// The resource's name.
    pub resource: AuditText,
    /// Whose eyes looked: `system`, `associates/{id}`, `grants/{grant}`.
    pub acting_as: AuditText,
    /// Whether it was permitted.
    pub decision: Decision,
    /// The policies that decided.
    pub policy_ids: Arc<[Arc<str>]>,
    /// The gRPC code as a number; 0 is success.
    pub code: i32,
    /// The stable reason of the error, if it was one.
    pub error_reason: Option<Reason>,
    /// That reason's name, if a newer release wrote it and this one does not know it. Else empty.
    pub unknown_reason: AuditText,
    /// What the caller gave as its reason.
    pub reason: AuditText,
    /// The credential that was handed out or named.
    pub credential_id: AuditText,
    /// The request.
    pub request_id: AuditText,
    /// The trace that it belongs to.
    pub trace_id: AuditText,
    /// Where the caller connected from.
    pub client_address: AuditText,
}

impl AuditRecord {
    /// The name of the error's reason, known or not; empty if it was no error.
    #[must_use]
    pub fn error_reason_name(&self) -> &str {
        self.error_reason.map_or(&*self.unknown_reason, |reason| reason.as_str())
    }

    /// A record of a decision on `action`, the rest to be filled in.
    #[must_use]
    pub fn new(action: impl Into<AuditText>, decision: Decision) -> Self {
        Self {
            caller: AuditText::default(),
            caller_method: AuditText::default(),
            caller_issuer: AuditText::default(),
            action: action.into(),
            resource: AuditText::default(),
            acting_as: AuditText::default(),
            decision,
            policy_ids: Arc::default(),
            code: 0,
            error_reason: None,
            unknown_reason: AuditText::default(),
            reason: AuditText::default(),
            credential_id: AuditText::default(),
            request_id: AuditText::default(),
            trace_id: AuditText::default(),
            client_address: AuditText::default(),
        }
    }
}

/// What a chain's first event says of another chain: how far it was, and its hash there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainLink {
    /// The other chain.
    pub chain: Arc<str>,
    /// Its last event at that time.
    pub sequence: i64,
    /// That event's hash.
    pub hash: AuditHash,
}

/// One event of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEvent {
    /// The chain.
    pub chain: Arc<str>,
    /// Its number in the chain, from 1.
    pub sequence: i64,
    /// When, in microseconds, by the clock: after a leap of it this may be before the event before. The order is that
    /// of the numbers.
    pub time: Timestamp,
    /// What happened.
    pub record: AuditRecord,
    /// In a chain's first event: the heads of all other chains.
    pub links: Vec<ChainLink>,
    /// The hash of the event before.
    pub previous_hash: AuditHash,
    /// The hash of all of the above.
    pub hash: AuditHash,
}

/// An event as it is kept. Nothing in it is believed until its hash is compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRow {
    /// The number it is kept under.
    pub sequence: i64,
    /// The time it is found by.
    pub time: Timestamp,
    /// The hash it is said to have.
    pub hash: AuditHash,
    /// The event, encoded.
    pub body: Vec<u8>,
}

/// A place in a chain: of its last event, or of the last one that retention removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainPoint {
    /// The chain.
    pub chain: Arc<str>,
    /// The event's number.
    pub sequence: i64,
    /// Its hash.
    pub hash: AuditHash,
    /// Its time.
    pub time: Timestamp,
}

/// What a signature on a [`ChainPoint`] says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Statement {
    /// The chain ends here.
    Head,
    /// Everything up to here was removed because it was old.
    Checkpoint,
}

/// A signature, and which key made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditSignature {
    /// The key of the keyring.
    pub key_id: Arc<str>,
    /// The signature.
    pub bytes: Vec<u8>,
}

/// A place in a chain that somebody signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedPoint {
    /// The place.
    pub point: ChainPoint,
    /// Over its statement.
    pub signature: AuditSignature,
}

/// A chain without its events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainState {
    /// Where it ends.
    pub head: SignedPoint,
    /// Where what is kept begins, if retention removed something.
    pub checkpoint: Option<SignedPoint>,
}

impl ChainState {
    /// The first event that is kept.
    #[must_use]
    pub fn first_sequence(&self) -> i64 {
        self.checkpoint.as_ref().map_or(1, |kept| kept.point.sequence.saturating_add(1))
    }

    /// How many events are kept.
    #[must_use]
    pub fn length(&self) -> u64 {
        let beyond = self.head.point.sequence.saturating_add(1);
        u64::try_from(beyond.saturating_sub(self.first_sequence())).unwrap_or_default()
    }
}

/// What is wrong with a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AuditFaultKind {
    /// An event is not what it was.
    Changed,
    /// An event is gone.
    Missing,
    /// An event stands in another's place.
    Reordered,
    /// The end is gone.
    Truncated,
    /// A signature is not by a key that may sign.
    BadSignature,
}

impl AuditFaultKind {
    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Changed => "CHANGED",
            Self::Missing => "MISSING",
            Self::Reordered => "REORDERED",
            Self::Truncated => "TRUNCATED",
            Self::BadSignature => "BAD_SIGNATURE",
        }
    }
}

/// What is wrong, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditFault {
    /// What.
    pub kind: AuditFaultKind,
    /// The event's number.
    pub sequence: i64,
}

/// What verification found of one chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditChainReport {
    /// The chain.
    pub chain: Arc<str>,
    /// Its first event that is kept.
    pub first_sequence: i64,
    /// Its last event, by its head.
    pub last_sequence: i64,
    /// The first fault; none if it is intact.
    pub fault: Option<AuditFault>,
}

impl AuditChainReport {
    /// Whether nothing was found.
    #[must_use]
    pub fn intact(&self) -> bool {
        self.fault.is_none()
    }
}
