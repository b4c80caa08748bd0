//! The users that a caller can act as on a tenant, with the platform's guidance.

use std::sync::Arc;

use super::{AssociateId, GrantName, Obstacle};

/// The user that calls act as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContextKind {
    /// The system user: uses a ticket, reads all data, is not a person.
    SystemUser,
    /// A person who consented: uses an access token, with that person's rights.
    Person(GrantName, AssociateId),
}

/// A user that a caller can act as on a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserContext {
    /// The user.
    pub kind: ContextKind,
    /// The obstacles; empty if the user is usable.
    pub obstacles: Vec<Obstacle>,
    /// The policies that permit acting as the user.
    pub policy_ids: Vec<Arc<str>>,
}

impl UserContext {
    /// Returns whether the caller can act as the user now.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.obstacles.is_empty()
    }
}

/// Guidance for the choice of a user to act as.
#[expect(
    clippy::struct_excessive_bools,
    reason = "the contract's answers to five separate questions"
)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guidance {
    /// It requires that a person signs in.
    pub interactive: bool,
    /// The CRM's log names the person.
    pub accountable: bool,
    /// It can access the data of all users.
    pub cross_user: bool,
    /// Functional and data rights do not limit it.
    pub bypasses_rights: bool,
    /// It can act as a person.
    pub can_impersonate: bool,
    /// The licence that the customer needs.
    pub license_needed: &'static str,
}

impl ContextKind {
    /// Returns guidance from SuperOffice's documentation. Background and cross-user work acts as the system user,
    /// interactive and accountable work as a person. The system user bypasses rights, cannot impersonate, and needs a
    /// licence.
    #[must_use]
    pub fn guidance(&self) -> Guidance {
        match self {
            Self::SystemUser => Guidance {
                interactive: false,
                accountable: false,
                cross_user: true,
                bypasses_rights: true,
                can_impersonate: false,
                license_needed: "Development Tools (formerly Expander Services), or CRM Suite Core, on the \
                                 customer's subscription; no user licence",
            },
            Self::Person(..) => Guidance {
                interactive: true,
                accountable: true,
                cross_user: false,
                bypasses_rights: false,
                can_impersonate: true,
                license_needed: "the person's own user licence",
            },
        }
    }
}
