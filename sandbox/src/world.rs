//! The data of the simulated service: applications, tenants, and authorizations.

mod registration;
mod state;

use std::collections::HashMap;
use std::sync::Arc;

use serde::Deserialize;

pub(crate) use self::registration::Registration;
pub use self::registration::SignIn;
pub use self::state::{Approval, Authorization, TenantState};
use crate::endpoint::ApiHost;
use crate::error::ControlError;
use crate::keys::PublicKey;
use crate::people::{self, Oddities, People};

/// An application to register.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct NewApplication {
    /// Its name, with which system user tokens begin.
    pub name: String,
    /// Its client id.
    pub client_id: String,
    /// Its client secret, also called application token.
    pub client_secret: String,
    /// Its public key: PEM (`PUBLIC KEY` or `RSA PUBLIC KEY`) or `RSAKeyValue` XML.
    pub public_key: String,
}

/// A tenant to create.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct NewTenant {
    /// Its id: `Cust` and digits.
    pub id: String,
    /// The name of its company.
    pub company_name: String,
    /// Its initial state.
    #[serde(default)]
    pub state: TenantState,
    /// The API host it lives on.
    #[serde(default)]
    pub host: ApiHost,
}

#[derive(Clone, Debug)]
pub(crate) struct Application {
    pub(crate) name: String,
    pub(crate) client_id: String,
    pub(crate) secrets: Vec<String>,
    pub(crate) public_keys: Vec<PublicKey>,
    pub(crate) registration: Registration,
}

#[derive(Clone, Debug)]
pub(crate) struct AuthorizationRecord {
    pub(crate) system_user_token: String,
    pub(crate) state: Authorization,
    pub(crate) approval: Option<Approval>,
}

#[derive(Clone, Debug)]
pub(crate) struct Tenant {
    pub(crate) id: String,
    pub(crate) company_name: String,
    pub(crate) state: TenantState,
    pub(crate) host: ApiHost,
    /// The serial number of the tenant's database.
    pub(crate) serial: String,
    /// Shared with calls in progress, which do not see later changes.
    pub(crate) people: Arc<People>,
    pub(crate) oddities: Arc<Oddities>,
    records: HashMap<String, AuthorizationRecord>,
}

impl Tenant {
    pub(crate) fn record(&self, client_id: &str) -> Option<&AuthorizationRecord> {
        self.records.get(client_id)
    }
}

/// The first database serial number; each further tenant gets the next one.
const FIRST_SERIAL: u64 = 1_800_000_001;

/// The number of associates of a new tenant.
const FIRST_PEOPLE: usize = 10;

#[derive(Debug, Default)]
pub(crate) struct World {
    applications: HashMap<String, Arc<Application>>,
    tenants: HashMap<String, Tenant>,
}

impl World {
    pub(crate) fn add_application(&mut self, new: Application) -> Result<(), ControlError> {
        if self.applications.contains_key(&new.client_id) {
            return Err(ControlError::Exists(new.client_id));
        }
        self.check_secrets(&new.client_id, &new.secrets)?;
        self.applications.insert(new.client_id.clone(), Arc::new(new));
        Ok(())
    }

    /// Checks that no other application has one of these secrets, because secrets identify
    /// applications.
    fn check_secrets(&self, client_id: &str, secrets: &[String]) -> Result<(), ControlError> {
        let taken = self
            .applications
            .values()
            .filter(|application| application.client_id != client_id)
            .any(|application| application.secrets.iter().any(|secret| secrets.contains(secret)));
        if taken || secrets.iter().any(String::is_empty) {
            return Err(ControlError::BadSecret);
        }
        Ok(())
    }

    pub(crate) fn set_secrets(
        &mut self,
        client_id: &str,
        secrets: Vec<String>,
    ) -> Result<(), ControlError> {
        self.check_secrets(client_id, &secrets)?;
        self.change(client_id, |application| application.secrets = secrets)
    }

    pub(crate) fn set_public_keys(
        &mut self,
        client_id: &str,
        public_keys: Vec<PublicKey>,
    ) -> Result<(), ControlError> {
        self.change(client_id, |application| application.public_keys = public_keys)
    }

    pub(crate) fn set_registration(
        &mut self,
        client_id: &str,
        registration: Registration,
    ) -> Result<(), ControlError> {
        self.change(client_id, |application| application.registration = registration)
    }

    fn change(
        &mut self,
        client_id: &str,
        change: impl FnOnce(&mut Application),
    ) -> Result<(), ControlError> {
        let application = self
            .applications
            .get_mut(client_id)
            .ok_or_else(|| ControlError::UnknownApplication(client_id.to_owned()))?;
        change(Arc::make_mut(application));
        Ok(())
    }

    pub(crate) fn application(&self, client_id: &str) -> Option<&Arc<Application>> {
        self.applications.get(client_id)
    }

    pub(crate) fn applications(&self) -> impl Iterator<Item = &Arc<Application>> {
        self.applications.values()
    }

    pub(crate) fn application_by_secret(&self, secret: &str) -> Option<&Arc<Application>> {
        self.applications
            .values()
            .find(|application| application.secrets.iter().any(|known| known == secret))
    }

    pub(crate) fn add_tenant(&mut self, new: NewTenant) -> Result<(), ControlError> {
        let digits = new.id.strip_prefix("Cust").unwrap_or_default();
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(ControlError::BadTenantId(new.id));
        }
        if self.tenants.contains_key(&new.id) {
            return Err(ControlError::Exists(new.id));
        }
        let serial = FIRST_SERIAL + self.tenants.len() as u64;
        let tenant = Tenant {
            people: Arc::new(people::generate(&new.id, FIRST_PEOPLE, 0)),
            oddities: Arc::default(),
            id: new.id.clone(),
            company_name: new.company_name,
            state: new.state,
            host: new.host,
            serial: serial.to_string(),
            records: HashMap::new(),
        };
        self.tenants.insert(new.id, tenant);
        Ok(())
    }

    pub(crate) fn tenant(&self, id: &str) -> Option<&Tenant> {
        self.tenants.get(id)
    }

    pub(crate) fn tenants(&self) -> impl Iterator<Item = &Tenant> {
        self.tenants.values()
    }

    pub(crate) fn tenant_mut(&mut self, id: &str) -> Result<&mut Tenant, ControlError> {
        self.tenants.get_mut(id).ok_or_else(|| ControlError::UnknownTenant(id.to_owned()))
    }

    /// Makes the record active. Keeps an existing token, because tokens are permanent.
    pub(crate) fn authorize(
        &mut self,
        client_id: &str,
        tenant: &str,
        random: &str,
    ) -> Result<String, ControlError> {
        let name = self
            .application(client_id)
            .ok_or_else(|| ControlError::UnknownApplication(client_id.to_owned()))?
            .name
            .clone();
        let record =
            self.tenant_mut(tenant)?.records.entry(client_id.to_owned()).or_insert_with(|| {
                AuthorizationRecord {
                    system_user_token: format!("{name}-{random}"),
                    state: Authorization::Active,
                    approval: None,
                }
            });
        record.state = Authorization::Active;
        Ok(record.system_user_token.clone())
    }

    pub(crate) fn set_authorization(
        &mut self,
        client_id: &str,
        tenant: &str,
        state: Authorization,
    ) -> Result<(), ControlError> {
        let record =
            self.tenant_mut(tenant)?.records.get_mut(client_id).ok_or_else(|| {
                ControlError::NotAuthorized(client_id.to_owned(), tenant.to_owned())
            })?;
        record.state = state;
        Ok(())
    }

    /// Makes the record active, and records the administrator's approval.
    pub(crate) fn approve(
        &mut self,
        client_id: &str,
        tenant: &str,
        approval: Approval,
        random: &str,
    ) -> Result<(), ControlError> {
        self.authorize(client_id, tenant, random)?;
        if let Some(record) = self.tenant_mut(tenant)?.records.get_mut(client_id) {
            record.approval = Some(approval);
        }
        Ok(())
    }

    /// Removes an application's authorization on a tenant.
    pub(crate) fn remove_authorization(
        &mut self,
        client_id: &str,
        tenant: &str,
    ) -> Result<(), ControlError> {
        let removed = self.tenant_mut(tenant)?.records.remove(client_id);
        let none = || ControlError::NotAuthorized(client_id.to_owned(), tenant.to_owned());
        removed.map(|_| ()).ok_or_else(none)
    }
}
