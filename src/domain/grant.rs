//! Grants: what lets the gateway act as a person.

/// The state of a grant (CONTRACT section 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GrantState {
    /// Access tokens can be issued.
    Active,
    /// SuperOffice no longer accepts it, or it answers for someone else.
    ConsentRequired,
    /// Revoked by a caller or an operator of the gateway.
    Revoked,
}
