//! As whom one can act on a tenant, and what that means (the platform's own guidance).

use std::sync::Arc;

use super::{AssociateId, GrantName, Obstacle};

/// Whose eyes look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContextKind {
    /// The system user: a ticket, all data, no person.
    SystemUser,
    /// A person who consented: an access token, and what that person may do.
    Person(GrantName, AssociateId),
}

/// One way to act on a tenant, as it is for one caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserContext {
    /// As whom.
    pub kind: ContextKind,
    /// What stands in the way; usable if nothing does.
    pub obstacles: Vec<Obstacle>,
    /// The policies that permit it.
    pub policy_ids: Vec<Arc<str>>,
}

impl UserContext {
    /// Whether it works now.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.obstacles.is_empty()
    }
}

/// What to know before choosing a way to act.
#[expect(
    clippy::struct_excessive_bools,
    reason = "the contract's answers to five separate questions"
)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guidance {
    /// It begins with a person signing in.
    pub interactive: bool,
    /// The CRM's own log names the person.
    pub accountable: bool,
    /// Reaches the data of all users.
    pub cross_user: bool,
    /// Functional and data rights do not limit it.
    pub bypasses_rights: bool,
    /// It acts as a person.
    pub can_impersonate: bool,
    /// The licence that the customer needs for it.
    pub license_needed: &'static str,
}

impl ContextKind {
    /// What SuperOffice's documentation says of it: background and cross-user work as the system user, interactive
    /// and accountable work as a person; the system user bypasses rights, cannot impersonate, and needs the
    /// Development Tools licence (SUPEROFFICE.md 2.8 and 9).
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
