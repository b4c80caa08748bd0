//! The control of people's sign-ins: who may, what they leave behind, what tenants do about it.

use super::{Control, ControlError};
use crate::counts::SignIns;
use crate::grants::{GrantRecord, SignInRules, SignedIn};
use crate::lock::{read, write};
use crate::world::{Approval, Authorization, Registration, SignIn};

impl Control {
    /// Registers how people sign in to an application.
    ///
    /// # Errors
    ///
    /// When there is no such application, or an address is none.
    pub fn set_sign_in(&self, client_id: &str, sign_in: &SignIn) -> Result<(), ControlError> {
        let registration = Registration::new(sign_in)?;
        write(&self.platform.world).set_registration(client_id, registration)
    }

    /// How the sign-in behaves from now on.
    pub fn set_sign_in_rules(&self, rules: SignInRules) {
        self.platform.grants.set_rules(rules);
    }

    /// How the sign-in behaves.
    #[must_use]
    pub fn sign_in_rules(&self) -> SignInRules {
        self.platform.grants.rules()
    }

    /// Signs a person in without a browser, and returns the refresh token: what a grant is that
    /// was made elsewhere.
    ///
    /// # Errors
    ///
    /// When there is no such application or tenant, or the associate cannot sign in.
    pub fn begin_grant(
        &self,
        client_id: &str,
        tenant: &str,
        associate_id: u32,
    ) -> Result<String, ControlError> {
        let people = self.people(tenant)?;
        if read(&self.platform.world).application(client_id).is_none() {
            return Err(ControlError::UnknownApplication(client_id.to_owned()));
        }
        if people.user_with_id(associate_id).is_none() {
            return Err(ControlError::CannotSignIn(associate_id));
        }
        let who =
            SignedIn { client_id: client_id.to_owned(), tenant: tenant.to_owned(), associate_id };
        let (_, token) = self.platform.grants.begin(who, self.now())?;
        Ok(token)
    }

    /// Every grant there was, in the order they began.
    #[must_use]
    pub fn grants(&self) -> Vec<GrantRecord> {
        self.platform.grants.records()
    }

    /// Revokes the grants of one person, or of all people, for an application in a tenant. Returns
    /// how many there were.
    ///
    /// # Errors
    ///
    /// When there is no such tenant.
    pub fn revoke_grants(
        &self,
        client_id: &str,
        tenant: &str,
        associate_id: Option<u32>,
    ) -> Result<usize, ControlError> {
        self.people(tenant)?;
        Ok(self.platform.grants.end(|who| {
            who.client_id == client_id
                && who.tenant == tenant
                && associate_id.is_none_or(|id| id == who.associate_id)
        }))
    }

    /// Makes the access tokens of one tenant, or all, as if they had expired.
    pub fn expire_access_tokens(&self, tenant: Option<&str>) {
        self.platform.access_tokens.revoke_all(tenant);
    }

    /// The state of the record that lets an application use a tenant, if there is one.
    #[must_use]
    pub fn authorization(&self, client_id: &str, tenant: &str) -> Option<Authorization> {
        let world = read(&self.platform.world);
        world.tenant(tenant)?.record(client_id).map(|record| record.state)
    }

    /// The administrator who approved an application in a tenant by signing in, if one did.
    #[must_use]
    pub fn approval(&self, client_id: &str, tenant: &str) -> Option<Approval> {
        let world = read(&self.platform.world);
        world.tenant(tenant)?.record(client_id)?.approval.clone()
    }

    /// Makes it as if the application had never been authorized on the tenant: an administrator
    /// has to approve it. Its system user token and its grants are gone.
    ///
    /// # Errors
    ///
    /// When there is no such tenant, or the application was never authorized there.
    pub fn forget_authorization(&self, client_id: &str, tenant: &str) -> Result<(), ControlError> {
        write(&self.platform.world).forget_authorization(client_id, tenant)?;
        self.revoke_grants(client_id, tenant, None).map(|_| ())
    }

    /// Restores an older state of a tenant's database: its tickets and access tokens are gone
    /// (SUPEROFFICE.md 8, inferred), and its grants unless they are kept; that is not known.
    ///
    /// # Errors
    ///
    /// When there is no such tenant.
    pub fn restore_backup(&self, tenant: &str, keep_grants: bool) -> Result<(), ControlError> {
        self.people(tenant)?;
        self.platform.tickets.expire(Some(tenant));
        self.platform.access_tokens.revoke_all(Some(tenant));
        if !keep_grants {
            self.platform.grants.end(|who| who.tenant == tenant);
        }
        Ok(())
    }

    /// How the sign-ins went.
    #[must_use]
    pub fn sign_ins(&self) -> SignIns {
        self.platform.counts.sign_ins()
    }
}
