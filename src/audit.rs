//! The audit trail: records events so that none is lost, doubled or rewritten unnoticed.
//!
//! [`EventOrigin`] builds every event. [`Trail`] serves the running gateway: events wait in a bounded queue, and one
//! writer commits them in groups. After the first denial of a minute, `denials` counts the others of its kind.
//! [`CommandTrail`] serves commands, which write one event and exit. [`UnauthenticatedAttempts`] counts attempts by
//! source. [`Verification`] checks that stored chains are unchanged. [`Retention`] deletes events verifiably, by age and
//! by size. The use cases that read the trail are in [`broker`](crate::broker::AuditLog). See
//! `docs/development/decisions/0006-audit.md`.

mod attempts;
mod chain;
mod command;
mod counters;
mod denials;
mod event;
mod public_keys;
mod retention;
mod trail;
mod verification;
mod wake;

#[cfg(test)]
pub(crate) mod fakes;
#[cfg(test)]
mod tests;

pub use self::{
    attempts::UnauthenticatedAttempts,
    chain::serve_chain,
    command::{COMMAND_CHAIN, CommandTrail},
    counters::{AuditCounters, RetentionCounters},
    event::{AuditedDecision, AuditedWebApiCall, EventOrigin, EventResult},
    public_keys::certify_public_keys,
    retention::{Retention, RetentionLimits},
    trail::{
        AuditUnavailable, Durability, EventClass, PendingEvent, QUEUE_CAPACITY, Trail, TrailPorts,
        TrailRules, UncommittedEvents,
    },
    verification::{Progress, Verification},
    wake::ThreadWaker,
};
