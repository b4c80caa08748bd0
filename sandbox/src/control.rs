//! The control: configures and inspects the simulated service.
//!
//! [`Control`] in Rust and the control port in JSON offer the same. Changes return `204`, or `200` with what they
//! created; mistakes return `4xx` with `{"error": "…"}`.
//!
//! ```text
//! curl $CONTROL/                                          # addresses, tenants, applications
//! curl $CONTROL/applications -d '{"name": "Demo Sync", "client_id": "…", "client_secret": "…", "public_key": "-----BEGIN PUBLIC KEY-----…"}' -H 'Content-Type: application/json'
//! curl -X PUT $CONTROL/applications/ID/secrets            -d '{"secrets": ["old", "new"]}' …
//! curl -X PUT $CONTROL/applications/ID/public-keys        -d '{"public_keys": ["-----BEGIN…"]}' …
//! curl $CONTROL/tenants         -d '{"id": "Cust10009", "company_name": "Demo AS", "state": "Running", "host": "A"}' …
//! curl -X PUT $CONTROL/tenants/Cust10009/state            -d '{"state": "Suspended"}' …
//! curl -X PUT $CONTROL/tenants/Cust10009/host             -d '{"host": "B"}' …
//! curl $CONTROL/authorizations  -d '{"client_id": "ID", "tenant": "Cust10009"}' …
//! curl -X PUT $CONTROL/authorizations                     -d '{"client_id": "ID", "tenant": "Cust10009", "authorization": "Revoked"}' …
//! curl -X DELETE $CONTROL/authorizations                  -d '{"client_id": "ID", "tenant": "Cust10009"}' …    # GET …/authorizations/ID/Cust10009 reads
//! curl -X PUT $CONTROL/applications/ID/sign-in            -d '{"redirect_uris": ["http://127.0.0.1:8080/callback"], "system_token": true}' …
//! curl -X PUT $CONTROL/sign-in-rules                      -d '{"rotation": true, "previous_token": {"kind": "accepted_times", "times": 1}}' …    # GET reads
//! curl $CONTROL/grants          -d '{"client_id": "ID", "tenant": "Cust10009", "associate_id": 3}' …    # GET lists
//! curl $CONTROL/grants/revoke   -d '{"client_id": "ID", "tenant": "Cust10009", "associate_id": 3}' …    # without associate_id: all
//! curl $CONTROL/access-tokens/expire                      -d '{"tenant": "Cust10009"}' …      # {} for all
//! curl $CONTROL/tenants/Cust10009/restore-backup          -d '{"keep_grants": true}' …
//! curl $CONTROL/state-changes   -d '{"tenant": "Cust10009", "change": "delete", "target": "http://127.0.0.1:9/hook", "audience": "ID", "forgery": "foreign_key"}' …
//! curl -X PUT $CONTROL/rate-limit                         -d '{"calls_per_second": 10, "retry_after": {"seconds": 2}}' …    # DELETE removes it
//! curl $CONTROL/tenants/Cust10009/call-rate
//! curl $CONTROL/tenants/Cust10009/people                  -d '{"count": 5000, "seed": 1}' …    # GET reads, PUT replaces all
//! curl $CONTROL/tenants/Cust10009/associates              -d '{"id": 900, "type": 0, "name": "NEW"}' …
//! curl -X PATCH $CONTROL/tenants/Cust10009/associates/900 -d '{"deleted": true}' …
//! curl -X DELETE $CONTROL/tenants/Cust10009/associates/900
//! curl -X PUT $CONTROL/tenants/Cust10009/oddities         -d '{"primary_key": "mixed", "page_limit": 100}' …
//! curl $CONTROL/tenants/Cust10009/webhooks                -d '{"name": "people", "target": "http://127.0.0.1:9/hook", "secret": "…"}' …
//! curl -X PUT $CONTROL/tenants/Cust10009/webhooks         -d '{"sent": false}' …
//! curl $CONTROL/tenants/Cust10009/webhooks/people         # its state; DELETE removes it
//! curl -X PUT $CONTROL/status-validity                    -d '{"seconds": 5}' …
//! curl -X PUT $CONTROL/unknown-tenants                    -d '{"not_found": true}' …
//! curl -X PUT $CONTROL/clock                              -d '{"shift_seconds": -600}' …
//! curl $CONTROL/signing-key/roll                          -d '{"keep_old": true}' …
//! curl $CONTROL/tickets/expire                            -d '{"tenant": "Cust10009"}' …      # {} for all
//! curl -X PUT $CONTROL/refusals                           -d '{"refusal": "revoked", "message": "No."}' …
//! curl $CONTROL/faults          -d '{"endpoint": "authenticate", "fault": {"kind": "status", "status": 503}, "times": 2}' …
//! curl -X DELETE $CONTROL/faults
//! curl $CONTROL/counts
//! curl -X DELETE $CONTROL/counts
//! ```
//!
//! (`…` stands for `-H 'Content-Type: application/json'`.)

mod people;
mod people_routes;
mod routes;
mod sign_in;
mod sign_in_routes;
mod state_changes;
mod traffic;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

pub(crate) use self::routes::ControlService;
use crate::counts::Exchanges;
use crate::endpoint::{ApiHost, Endpoint};
pub use crate::error::ControlError;
use crate::faults::{Fault, FaultScope};
use crate::keys::{PublicKey, SigningKey};
use crate::lock::{read, write};
use crate::platform::Platform;
use crate::random;
use crate::refusal::Refusal;
use crate::world::{
    Application, Authorization, NewApplication, NewTenant, Registration, TenantState,
};

/// Length of the random part of a system user token.
const TOKEN_LETTERS: usize = 10;

/// A handle to a running [`Sandbox`](crate::Sandbox); cheap to clone.
#[derive(Clone, Debug)]
pub struct Control {
    platform: Arc<Platform>,
}

impl Control {
    pub(crate) fn new(platform: Arc<Platform>) -> Self {
        Self { platform }
    }

    /// Returns the address of the login host, without a trailing slash.
    #[must_use]
    pub fn login_uri(&self) -> String {
        self.platform.addresses.login.clone()
    }

    /// Returns the address of an API host, without a trailing slash.
    #[must_use]
    pub fn api_uri(&self, host: ApiHost) -> String {
        self.platform.addresses.api(host).to_owned()
    }

    /// Returns the address of the control host, without a trailing slash.
    #[must_use]
    pub fn control_uri(&self) -> String {
        self.platform.addresses.control.clone()
    }

    /// Registers an application.
    ///
    /// # Errors
    ///
    /// When its client id or secret is in use, or its public key cannot be parsed.
    pub fn add_application(&self, new: NewApplication) -> Result<(), ControlError> {
        let application = Application {
            public_keys: vec![PublicKey::read(&new.public_key)?],
            name: new.name,
            client_id: new.client_id,
            secrets: vec![new.client_secret],
            registration: Registration::default(),
        };
        write(&self.platform.world).add_application(application)
    }

    /// Replaces the secrets of an application. Two secrets at once allow a rotation with overlap.
    ///
    /// # Errors
    ///
    /// When there is no such application, or another one has one of the secrets.
    pub fn set_secrets(
        &self,
        client_id: &str,
        secrets: &[impl AsRef<str>],
    ) -> Result<(), ControlError> {
        let secrets = secrets.iter().map(|secret| secret.as_ref().to_owned()).collect();
        write(&self.platform.world).set_secrets(client_id, secrets)
    }

    /// Replaces the public keys of an application, each PEM or `RSAKeyValue` XML.
    ///
    /// # Errors
    ///
    /// When there is no such application, or a key cannot be parsed.
    pub fn set_public_keys(
        &self,
        client_id: &str,
        keys: &[impl AsRef<str>],
    ) -> Result<(), ControlError> {
        let keys =
            keys.iter().map(|key| PublicKey::read(key.as_ref())).collect::<Result<_, _>>()?;
        write(&self.platform.world).set_public_keys(client_id, keys)
    }

    /// Creates a tenant.
    ///
    /// # Errors
    ///
    /// When its id is in use, or is not `Cust` and digits.
    pub fn add_tenant(&self, new: NewTenant) -> Result<(), ControlError> {
        write(&self.platform.world).add_tenant(new)
    }

    /// Sets the state of a tenant.
    ///
    /// # Errors
    ///
    /// When there is no such tenant.
    pub fn set_state(&self, tenant: &str, state: TenantState) -> Result<(), ControlError> {
        write(&self.platform.world).tenant_mut(tenant)?.state = state;
        Ok(())
    }

    /// Moves a tenant to an API host. The other host answers 421 from now on.
    ///
    /// # Errors
    ///
    /// When there is no such tenant.
    pub fn move_tenant(&self, tenant: &str, host: ApiHost) -> Result<(), ControlError> {
        write(&self.platform.world).tenant_mut(tenant)?.host = host;
        Ok(())
    }

    /// Authorizes an application on a tenant, and returns the system user token. The token is permanent: a second call
    /// returns the same token and makes the record active.
    ///
    /// # Errors
    ///
    /// When there is no such application or tenant.
    pub fn authorize(&self, client_id: &str, tenant: &str) -> Result<String, ControlError> {
        let random = random::alphanumeric(TOKEN_LETTERS)?;
        write(&self.platform.world).authorize(client_id, tenant, &random)
    }

    /// Sets the state of an application's authorization on a tenant. Refreshes need `Active`; `Revoked` also revokes
    /// all grants.
    ///
    /// # Errors
    ///
    /// When the application was never authorized on the tenant.
    pub fn set_authorization(
        &self,
        client_id: &str,
        tenant: &str,
        authorization: Authorization,
    ) -> Result<(), ControlError> {
        write(&self.platform.world).set_authorization(client_id, tenant, authorization)?;
        if authorization == Authorization::Revoked {
            self.revoke_grants(client_id, tenant, None)?;
        }
        Ok(())
    }

    /// Sets the validity that a tenant status states.
    pub fn set_status_validity(&self, validity: Duration) {
        self.platform.change_rules(|rules| rules.status_validity = validity);
    }

    /// Sets the response for unknown tenants: 404, or 200 with state `Unknown`.
    pub fn set_unknown_tenant_is_404(&self, not_found: bool) {
        self.platform.change_rules(|rules| rules.unknown_tenant_is_404 = not_found);
    }

    /// Rolls the signing key over to a new one. The old one stays published or is dropped. Generating a key takes a
    /// noticeable part of a second.
    ///
    /// # Errors
    ///
    /// When no key can be generated.
    pub fn roll_signing_key(&self, keep_old: bool) -> Result<(), ControlError> {
        let key = SigningKey::generate()?;
        write(&self.platform.keys).roll(key, keep_old);
        Ok(())
    }

    /// Expires the tickets of one tenant, or all tickets.
    pub fn expire_tickets(&self, tenant: Option<&str>) {
        self.platform.tickets.expire(tenant);
    }

    /// Sets the sandbox's clock ahead of real time by this many seconds; negative is behind. Replaces an earlier shift.
    pub fn shift_clock(&self, seconds: i64) {
        self.platform.clock.shift(seconds);
    }

    /// Returns the time of the sandbox's clock.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.platform.clock.now()
    }

    /// Sets the `ErrorMessage` of a refusal; `None` restores the default.
    pub fn set_refusal_message(&self, refusal: Refusal, message: Option<String>) {
        self.platform.refusals.set(refusal, message);
    }

    /// Injects a fault.
    ///
    /// # Errors
    ///
    /// When the fault is not possible at that endpoint.
    pub fn inject(
        &self,
        endpoint: Endpoint,
        fault: Fault,
        scope: FaultScope,
    ) -> Result<(), ControlError> {
        if !fault.is_valid_at(endpoint) {
            return Err(ControlError::InvalidFault(endpoint));
        }
        if fault == Fault::ForeignKey {
            // Generated now, so that the affected call is not slow.
            self.platform.foreign_key()?;
        }
        self.platform.faults.inject(endpoint, fault, scope);
        Ok(())
    }

    /// Removes every fault.
    pub fn clear_faults(&self) {
        self.platform.faults.clear();
    }

    /// Returns the number of calls of an endpoint.
    #[must_use]
    pub fn calls(&self, endpoint: Endpoint) -> u64 {
        self.platform.counts.for_endpoint(endpoint).calls
    }

    /// Returns the number of calls of an endpoint about a tenant.
    #[must_use]
    pub fn calls_for(&self, endpoint: Endpoint, tenant: &str) -> u64 {
        self.platform
            .counts
            .for_endpoint(endpoint)
            .by_tenant
            .get(tenant)
            .copied()
            .unwrap_or_default()
    }

    /// Returns the greatest number of concurrent calls of an endpoint.
    #[must_use]
    pub fn max_concurrent(&self, endpoint: Endpoint) -> u64 {
        self.platform.counts.for_endpoint(endpoint).max_concurrent
    }

    /// Returns the number of exchanges that issued a token, and of those that were refused.
    #[must_use]
    pub fn exchanges(&self) -> Exchanges {
        self.platform.counts.exchanges()
    }

    /// Sets all counts to zero.
    pub fn reset_counts(&self) {
        self.platform.counts.reset();
        self.platform.traffic.reset();
    }

    /// Returns the ids of all tenants.
    #[must_use]
    pub fn tenants(&self) -> Vec<String> {
        let mut ids: Vec<String> =
            read(&self.platform.world).tenants().map(|tenant| tenant.id.clone()).collect();
        ids.sort();
        ids
    }
}
