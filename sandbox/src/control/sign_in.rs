//! Control of sign-ins, grants and authorizations.

use super::{Control, ControlError};
use crate::counts::SignIns;
use crate::grants::{GrantOwner, GrantRecord, SignInRules};
use crate::lock::{read, write};
use crate::world::{Approval, Authorization, Registration, SignIn};

impl Control {
    /// Registers how people sign in to an application.
    ///
    /// # Errors
    ///
    /// When there is no such application, or an address is invalid.
    pub fn set_sign_in(&self, client_id: &str, sign_in: &SignIn) -> Result<(), ControlError> {
        let registration = Registration::new(sign_in)?;
        write(&self.platform.world).set_registration(client_id, registration)
    }

    /// Sets the rules of sign-ins from now on.
    pub fn set_sign_in_rules(&self, rules: SignInRules) {
        self.platform.grants.set_rules(rules);
    }

    /// Returns the rules of sign-ins.
    #[must_use]
    pub fn sign_in_rules(&self) -> SignInRules {
        self.platform.grants.rules()
    }

    /// Creates a grant without a browser and returns its refresh token. Stands for a grant that was
    /// created elsewhere.
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
            GrantOwner { client_id: client_id.to_owned(), tenant: tenant.to_owned(), associate_id };
        let (_, token) = self.platform.grants.create(who, self.now())?;
        Ok(token)
    }

    /// Returns every grant, active or revoked, in the order of creation.
    #[must_use]
    pub fn grants(&self) -> Vec<GrantRecord> {
        self.platform.grants.records()
    }

    /// Revokes the grants of one person, or of all people, for an application in a tenant. Returns
    /// their number.
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
        Ok(self.platform.grants.revoke_matching(|who| {
            who.client_id == client_id
                && who.tenant == tenant
                && associate_id.is_none_or(|id| id == who.associate_id)
        }))
    }

    /// Expires the access tokens of one tenant, or all access tokens.
    pub fn expire_access_tokens(&self, tenant: Option<&str>) {
        self.platform.access_tokens.revoke_all(tenant);
    }

    /// Returns the state of an application's authorization on a tenant, if there is one.
    #[must_use]
    pub fn authorization(&self, client_id: &str, tenant: &str) -> Option<Authorization> {
        let world = read(&self.platform.world);
        world.tenant(tenant)?.record(client_id).map(|record| record.state)
    }

    /// Returns the approval that an administrator gave by signing in, if there is one.
    #[must_use]
    pub fn approval(&self, client_id: &str, tenant: &str) -> Option<Approval> {
        let world = read(&self.platform.world);
        world.tenant(tenant)?.record(client_id)?.approval.clone()
    }

    /// Removes the authorization, its system user token and its grants. An administrator has to
    /// approve the application again.
    ///
    /// # Errors
    ///
    /// When there is no such tenant, or the application was never authorized there.
    pub fn remove_authorization(&self, client_id: &str, tenant: &str) -> Result<(), ControlError> {
        write(&self.platform.world).remove_authorization(client_id, tenant)?;
        self.revoke_grants(client_id, tenant, None).map(|_| ())
    }

    /// Restores a backup of a tenant's database. Its tickets and access tokens become invalid
    /// (inferred), and so do its grants unless they are kept (not known).
    ///
    /// # Errors
    ///
    /// When there is no such tenant.
    pub fn restore_backup(&self, tenant: &str, keep_grants: bool) -> Result<(), ControlError> {
        self.people(tenant)?;
        self.platform.tickets.expire(Some(tenant));
        self.platform.access_tokens.revoke_all(Some(tenant));
        if !keep_grants {
            self.platform.grants.revoke_matching(|who| who.tenant == tenant);
        }
        Ok(())
    }

    /// Returns the counts of sign-ins.
    #[must_use]
    pub fn sign_ins(&self) -> SignIns {
        self.platform.counts.sign_ins()
    }
}
