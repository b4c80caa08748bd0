//! The audit trail: its events, how they are chained, and how a chain is verified.
//!
//! A chain is a list of events, numbered from 1. Each event carries the hash of the previous one, and the hash of the
//! last one is signed. So nobody without the signing key can change, insert or remove an event unnoticed. See
//! `docs/development/decisions/0006-audit.md`.

mod encoding;
mod fields;
mod text;
mod trusted_keys;
mod verifier;

use std::sync::Arc;

use jiff::Timestamp;

pub use self::{
    encoding::UnreadableEvent,
    fields::AUDIT_FIELDS,
    text::AuditText,
    trusted_keys::{StoredPublicKey, TrustedKeys, certificate_message},
    verifier::ChainVerifier,
};
use super::Reason;

/// A SHA-256 hash.
pub type AuditHash = [u8; 32];

/// The previous hash of the first event of a chain.
pub const NO_HASH: AuditHash = [0; 32];

/// The decision on a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Decision {
    /// The call was permitted. The status code says whether it succeeded.
    Allowed,
    /// The call was denied.
    Denied,
}

impl Decision {
    /// Returns the name in the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "ALLOWED",
            Self::Denied => "DENIED",
        }
    }
}

/// A caller, as audit events name it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditedCaller {
    /// The id.
    pub id: AuditText,
    /// The authentication method.
    pub method: AuditText,
    /// The issuer of the token; empty if no token was used.
    pub issuer: AuditText,
}

/// The content of an event, without its position in the chain. Fields that do not apply are empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRecord {
    /// The caller's id.
    pub caller: AuditText,
    /// The authentication method of the caller.
    pub caller_method: AuditText,
    /// The issuer of the caller's token.
    pub caller_issuer: AuditText,
    /// The action of the policy, or `cli.` followed by the command.
    pub action: AuditText,
    /// The name of the resource.
    pub resource: AuditText,
    /// The user that the gateway acted as: `system`, `associates/{id}`, `grants/{grant}`.
    pub acting_as: AuditText,
    /// The decision.
    pub decision: Decision,
    /// The policies that made the decision.
    pub policy_ids: Arc<[Arc<str>]>,
    /// The gRPC status code; 0 is success.
    pub code: i32,
    /// The stable reason of the error, if the call failed.
    pub error_reason: Option<Reason>,
    /// The name of a reason that a newer release wrote and this release does not know; otherwise empty.
    pub unknown_reason: AuditText,
    /// The reason that the caller gave.
    pub reason: AuditText,
    /// The credential that was issued or named.
    pub credential_id: AuditText,
    /// The request id.
    pub request_id: AuditText,
    /// The trace id.
    pub trace_id: AuditText,
    /// The client's address.
    pub client_address: AuditText,
    /// The HTTP method of a Web API call.
    pub method: AuditText,
    /// The path of a Web API call in normal form, without the query. A long path is cut.
    pub path: AuditText,
    /// The denials that this event stands for, if it is an aggregated one.
    pub aggregate: Option<Arc<Aggregate>>,
}

/// The denials that one event stands for: those of a caller, an action and an error reason in at most a minute. The
/// first denial of the minute has an event of its own and is not counted here. Unauthenticated attempts of a source
/// have no such event, so all of them are counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aggregate {
    /// The number of denials, at least 1.
    pub count: u64,
    /// The time of the last denial.
    pub last_time: Timestamp,
    /// Distinct names of resources that were denied, at most [`Aggregate::MAX_RESOURCES`], in the order of their first
    /// denial.
    pub resources: Vec<AuditText>,
    /// The number of distinct resources that were denied. It may be larger than the length of `resources`.
    pub resource_count: u64,
}

impl Aggregate {
    /// The most resources that an aggregated event names.
    pub const MAX_RESOURCES: usize = 32;
}

impl AuditRecord {
    /// Returns the names of the resources of an aggregated event, separated by spaces; for other events the resource.
    #[must_use]
    pub fn resources(&self) -> String {
        match self.aggregate.as_deref().map(|denials| &denials.resources) {
            Some(names) if !names.is_empty() => {
                let names: Vec<&str> = names.iter().map(|name| &**name).collect();
                names.join(" ")
            }
            _ => (*self.resource).to_owned(),
        }
    }

    /// Returns the name of the error's reason, known or not; empty if the call succeeded.
    #[must_use]
    pub fn error_reason_name(&self) -> &str {
        self.error_reason.map_or(&*self.unknown_reason, |reason| reason.as_str())
    }

    /// Creates a record of a decision on `action` with all other fields empty.
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
            method: AuditText::default(),
            path: AuditText::default(),
            aggregate: None,
        }
    }
}

/// The head of another chain, stored in a chain's first event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainLink {
    /// The other chain.
    pub chain: Arc<str>,
    /// The number of its last event at that time.
    pub sequence: i64,
    /// The hash of that event.
    pub hash: AuditHash,
}

/// An event of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEvent {
    /// The chain.
    pub chain: Arc<str>,
    /// The event's number in the chain, from 1.
    pub sequence: i64,
    /// The time in microseconds. If the clock was set back, it may be earlier than that of the previous event; the
    /// order is that of the numbers.
    pub time: Timestamp,
    /// The content.
    pub record: AuditRecord,
    /// The heads of all other chains, only in a chain's first event.
    pub links: Vec<ChainLink>,
    /// The hash of the previous event.
    pub previous_hash: AuditHash,
    /// The hash of all fields above.
    pub hash: AuditHash,
}

/// A stored event. It is not trusted until its hash is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRow {
    /// The number under which it is stored.
    pub sequence: i64,
    /// The time under which it is stored.
    pub time: Timestamp,
    /// The stored hash.
    pub hash: AuditHash,
    /// The encoded event.
    pub body: Vec<u8>,
}

impl AuditRow {
    /// Returns the row without a copy of its body.
    #[must_use]
    pub fn view(&self) -> AuditRowView<'_> {
        let Self { sequence, time, hash, body } = self;
        AuditRowView { sequence: *sequence, time: *time, hash: *hash, body }
    }
}

/// A stored event whose body is borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditRowView<'a> {
    /// The number under which it is stored.
    pub sequence: i64,
    /// The time under which it is stored.
    pub time: Timestamp,
    /// The stored hash.
    pub hash: AuditHash,
    /// The encoded event.
    pub body: &'a [u8],
}

/// A position in a chain: its last event, or the last event that retention removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainPoint {
    /// The chain.
    pub chain: Arc<str>,
    /// The number of the event.
    pub sequence: i64,
    /// Its hash.
    pub hash: AuditHash,
    /// Its time.
    pub time: Timestamp,
}

/// The meaning of a signature on a [`ChainPoint`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Statement {
    /// The chain ends here.
    Head,
    /// Retention removed everything up to here.
    Checkpoint,
}

/// A signature and the id of its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditSignature {
    /// The id of the key in the keyring.
    pub key_id: Arc<str>,
    /// The signature.
    pub bytes: Vec<u8>,
}

/// A signed position in a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedPoint {
    /// The position.
    pub point: ChainPoint,
    /// The signature.
    pub signature: AuditSignature,
}

/// The state of a chain, without its events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainState {
    /// The end of the chain.
    pub head: SignedPoint,
    /// The position before the first stored event, if retention removed events.
    pub checkpoint: Option<SignedPoint>,
}

impl ChainState {
    /// Returns the number of the first stored event.
    #[must_use]
    pub fn first_sequence(&self) -> i64 {
        self.checkpoint.as_ref().map_or(1, |kept| kept.point.sequence.saturating_add(1))
    }

    /// Returns the number of stored events.
    #[must_use]
    pub fn length(&self) -> u64 {
        let beyond = self.head.point.sequence.saturating_add(1);
        u64::try_from(beyond.saturating_sub(self.first_sequence())).unwrap_or_default()
    }
}

/// The kind of a fault in a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AuditFaultKind {
    /// An event was changed.
    Changed,
    /// An event is missing.
    Missing,
    /// An event has another event's position.
    Reordered,
    /// The end is missing.
    Truncated,
    /// A signature is invalid or its key may not sign.
    BadSignature,
}

impl AuditFaultKind {
    /// Returns the name in the API.
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

/// A fault in a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditFault {
    /// The kind of fault.
    pub kind: AuditFaultKind,
    /// The number of the event.
    pub sequence: i64,
}

/// The result of verifying a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditChainReport {
    /// The chain.
    pub chain: Arc<str>,
    /// The number of its first stored event.
    pub first_sequence: i64,
    /// The number of its last event, from its head.
    pub last_sequence: i64,
    /// The first fault; `None` if the chain is intact.
    pub fault: Option<AuditFault>,
}

/// A damaged place of a file in which events are stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditDamage {
    /// The file, relative to the directory of the journal.
    pub file: String,
    /// The offset of the first byte that cannot be read as what it should be.
    pub offset: u64,
    /// The problem.
    pub problem: &'static str,
}

/// The result of verifying all chains.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditVerification {
    /// One report for each chain.
    pub chains: Vec<AuditChainReport>,
    /// The damaged places that were found since the process began.
    pub damages: Vec<AuditDamage>,
}

impl AuditVerification {
    /// Returns whether all chains are intact and no file is damaged.
    #[must_use]
    pub fn intact(&self) -> bool {
        self.damages.is_empty() && self.chains.iter().all(AuditChainReport::intact)
    }
}

impl AuditChainReport {
    /// Returns whether the chain is intact.
    #[must_use]
    pub fn intact(&self) -> bool {
        self.fault.is_none()
    }
}
