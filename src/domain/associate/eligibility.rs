//! Checks of what an associate can currently do: sign in, be impersonated, own records.

use super::{Associate, AssociateId, AssociateType};
use crate::domain::{GrantState, Obstacle, Reason};

/// The two fields that define the owner of a record; both must be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// The value of `associate_id`.
    pub associate: AssociateId,
    /// The value of `group_id`: the primary group, or 0 for an associate without groups.
    pub group_id: i32,
}

impl Associate {
    /// Returns the reasons why the associate cannot sign in to SuperOffice; empty if it can.
    #[must_use]
    pub fn sign_in_obstacles(&self) -> Vec<Obstacle> {
        let mut obstacles = Vec::new();
        let mut add = |message: &str, mend: &str| {
            obstacles.push(obstacle(Reason::AssociateCannotSignIn, message, mend));
        };
        if !self.kind.capabilities().sign_in {
            let (message, mend) = sign_in_problem(self.kind);
            add(message, mend);
        }
        if !self.active {
            add(
                "the associate is not active: it is retired, or SuperOffice does not report it as active",
                "let an administrator of the customer activate the user in Settings and maintenance, or choose another",
            );
        }
        // SuperOffice's own decision, which also considers licences and approval.
        if self.can_login == Some(false) {
            add(
                "SuperOffice reports that the associate cannot log in, for instance because it has no licence",
                "let an administrator of the customer give the user a user plan and access in Settings and maintenance",
            );
        }
        obstacles
    }

    /// Returns whether the associate's type, state and licence let it sign in.
    #[must_use]
    pub fn can_sign_in(&self) -> bool {
        self.kind.capabilities().sign_in && self.active && self.can_login != Some(false)
    }

    /// Returns the reasons why the gateway cannot act as the associate; empty if it can. The associate must be able to
    /// sign in and must have consented.
    #[must_use]
    pub fn impersonation_obstacles(&self, grant: Option<GrantState>) -> Vec<Obstacle> {
        let mut obstacles = self.sign_in_obstacles();
        // A type that cannot sign in cannot consent either, so advice to consent would be wrong.
        let nobody = !self.kind.capabilities().sign_in;
        let message = match grant {
            Some(GrantState::Active) => None,
            _ if nobody => None,
            None => Some("the person has not consented to impersonation"),
            Some(GrantState::ConsentRequired) => Some("the person's consent is no longer valid"),
            Some(GrantState::Revoked) => Some("the grant of the person was revoked"),
        };
        if let Some(message) = message {
            let mend = "ask the person to consent again: ImpersonationService.BeginConsent";
            obstacles.push(obstacle(Reason::ConsentRequired, message, mend));
        }
        obstacles
    }

    /// Returns whether the gateway can act as the associate now.
    #[must_use]
    pub fn can_be_impersonated(&self, grant: Option<GrantState>) -> bool {
        self.can_sign_in() && grant == Some(GrantState::Active)
    }

    /// Returns the associate and primary group to write as the owner of a record.
    ///
    /// # Errors
    /// Returns the obstacles if the type is unknown or the primary group is missing.
    pub fn resolve_owner(&self) -> Result<Owner, Vec<Obstacle>> {
        let unknown = |message: &str, mend: &str| {
            Err(vec![obstacle(Reason::UpstreamInvalidResponse, message, mend)])
        };
        if matches!(self.kind, AssociateType::Unrecognized(_)) {
            return unknown(
                "the gateway does not know the associate's type, so it does not know whether the associate has a group",
                "choose another owner, or update the gateway to a release that knows this type",
            );
        }
        if !self.kind.capabilities().user_group {
            return Ok(Owner { associate: self.id, group_id: 0 });
        }
        match self.primary_group.as_ref().map(|group| group.id) {
            Some(group_id) if group_id > 0 => Ok(Owner { associate: self.id, group_id }),
            _ => unknown(
                "SuperOffice does not return the primary group of the associate, without which it cannot own records",
                "let an administrator of the customer set the user's primary group in Settings and maintenance",
            ),
        }
    }
}

fn sign_in_problem(kind: AssociateType) -> (&'static str, &'static str) {
    const CHOOSE: &str = "choose an employee";
    match kind {
        AssociateType::Internal => ("", ""),
        AssociateType::Resource => ("resources, such as rooms, cannot sign in", CHOOSE),
        AssociateType::External => {
            ("external persons cannot sign in to CRM Online, which does not support them", CHOOSE)
        }
        AssociateType::Anonymous => {
            ("the anonymous user cannot sign in; it is obsolete and not in CRM Online", CHOOSE)
        }
        AssociateType::System => (
            "system users cannot sign in; they work through the API only",
            "choose an employee, or use a ticket of the system user for background work",
        ),
        AssociateType::Unrecognized(_) => (
            "the gateway does not know the associate's type and assumes that it cannot sign in",
            CHOOSE,
        ),
    }
}

fn obstacle(reason: Reason, message: &str, mend: &str) -> Obstacle {
    Obstacle { reason, message: message.to_owned(), mend: mend.to_owned() }
}
