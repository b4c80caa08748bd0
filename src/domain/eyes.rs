//! With whose eyes the data of a tenant is seen.

/// Whose rights decide what a call to the Web API sees. What was seen with one pair of eyes is never shown as if seen
/// with another.
///
/// A grant's eyes, with which the gateway sees as a person, come with grants.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub enum Eyes {
    /// The system user's, which see everything.
    #[default]
    SystemUser,
}
