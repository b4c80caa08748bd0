//! What an associate can do and be now: sign in, be acted as, own records; or what stands in the way.

use super::{Associate, AssociateId, AssociateType};
use crate::domain::{GrantState, Obstacle, Reason};

/// The two fields by which a record is owned; both must be set (SUPEROFFICE.md 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// The value of `associate_id`.
    pub associate: AssociateId,
    /// The value of `group_id`: the primary group, 0 for those who are in none.
    pub group_id: i32,
}

impl Associate {
    /// Why it cannot sign in to SuperOffice; nothing where it can.
    #[must_use]
    pub fn sign_in_obstacles(&self) -> Vec<Obstacle> {
        let mut obstacles = Vec::new();
        let mut add = |message: &str, mend: &str| {
            obstacles.push(obstacle(Reason::AssociateCannotSignIn, message, mend));
        };
        if !self.kind.capabilities().sign_in {
            let (message, mend) = kind_words(self.kind);
            add(message, mend);
        }
        if !self.active {
            add(
                "the associate is not active: it is retired, or SuperOffice does not say that it is active",
                "let an administrator of the customer activate the user in Settings and maintenance, or choose another",
            );
        }
        // The platform's own word, which also knows of licences and of approval.
        if self.can_login == Some(false) {
            add(
                "SuperOffice says that the associate cannot log in, for instance for want of a licence",
                "let an administrator of the customer give the user a user plan and access in Settings and maintenance",
            );
        }
        obstacles
    }

    /// Whether its kind, its state and its licence let it sign in.
    #[must_use]
    pub fn can_sign_in(&self) -> bool {
        self.kind.capabilities().sign_in && self.active && self.can_login != Some(false)
    }

    /// Why the gateway cannot act as it; nothing where it can. It needs a person who can sign in and has consented
    /// (SUPEROFFICE.md 9).
    #[must_use]
    pub fn impersonation_obstacles(&self, grant: Option<GrantState>) -> Vec<Obstacle> {
        let mut obstacles = self.sign_in_obstacles();
        // Who cannot sign in cannot consent either, so that advice would lead nowhere.
        let nobody = !self.kind.capabilities().sign_in;
        let message = match grant {
            Some(GrantState::Active) => None,
            _ if nobody => None,
            None => Some("the person has not consented to being acted for"),
            Some(GrantState::ConsentRequired) => Some("the consent of the person no longer works"),
            Some(GrantState::Revoked) => Some("the grant of the person was revoked"),
        };
        if let Some(message) = message {
            let mend = "let the person consent once more: ImpersonationService.BeginConsent";
            obstacles.push(obstacle(Reason::ConsentRequired, message, mend));
        }
        obstacles
    }

    /// Whether the gateway can act as it now.
    #[must_use]
    pub fn can_be_impersonated(&self, grant: Option<GrantState>) -> bool {
        self.can_sign_in() && grant == Some(GrantState::Active)
    }

    /// Associate and primary group to write where it shall own a record, as of now.
    ///
    /// # Errors
    /// With what stands in the way, for a kind that we do not know or one that lacks its primary group.
    pub fn resolve_owner(&self) -> Result<Owner, Vec<Obstacle>> {
        let unknown = |message: &str, mend: &str| {
            Err(vec![obstacle(Reason::UpstreamInvalidResponse, message, mend)])
        };
        if matches!(self.kind, AssociateType::Unrecognized(_)) {
            return unknown(
                "the associate is of a type that the gateway does not know, so it is not known whether it has a group",
                "choose another owner, or use a gateway that knows this type",
            );
        }
        if !self.kind.capabilities().user_group {
            return Ok(Owner { associate: self.id, group_id: 0 });
        }
        match self.primary_group.as_ref().map(|group| group.id) {
            Some(group_id) if group_id > 0 => Ok(Owner { associate: self.id, group_id }),
            _ => unknown(
                "SuperOffice does not tell the primary group of the associate, without which it cannot own",
                "let an administrator of the customer set the user's primary group in Settings and maintenance",
            ),
        }
    }
}

fn kind_words(kind: AssociateType) -> (&'static str, &'static str) {
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
            "the associate is of a type that the gateway does not know, and is not taken for one that can sign in",
            CHOOSE,
        ),
    }
}

fn obstacle(reason: Reason, message: &str, mend: &str) -> Obstacle {
    Obstacle { reason, message: message.to_owned(), mend: mend.to_owned() }
}
