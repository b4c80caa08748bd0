//! State shared by the listeners and the control.

use std::sync::{Arc, OnceLock, RwLock};
use std::time::Duration;

use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hmac;

use crate::clock::Clock;
use crate::counts::Counts;
use crate::endpoint::ApiHost;
use crate::faults::Faults;
use crate::grants::{AccessTokens, Codes, Grants};
use crate::keys::{SigningKey, SigningKeys};
use crate::lock::{read, write};
use crate::options::Options;
use crate::refusal::RefusalTexts;
use crate::tickets::Tickets;
use crate::traffic::Traffic;
use crate::webhooks::Webhooks;
use crate::world::World;

/// The base addresses, without trailing slashes.
#[derive(Clone, Debug)]
pub(crate) struct Addresses {
    pub(crate) login: String,
    pub(crate) api: [String; 2],
    pub(crate) control: String,
}

impl Addresses {
    pub(crate) fn api(&self, host: ApiHost) -> &str {
        let [a, b] = &self.api;
        match host {
            ApiHost::A => a,
            ApiHost::B => b,
        }
    }
}

/// Rules that [`Options`] sets and the control may change later.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    pub(crate) issuer: String,
    pub(crate) allowed_skew: Duration,
    pub(crate) status_validity: Duration,
    pub(crate) unknown_tenant_is_404: bool,
    pub(crate) revocation_ends_tickets: bool,
}

#[derive(Debug)]
pub(crate) struct Platform {
    pub(crate) access_tokens: AccessTokens,
    pub(crate) addresses: Addresses,
    pub(crate) clock: Clock,
    pub(crate) codes: Codes,
    pub(crate) counts: Counts,
    pub(crate) faults: Faults,
    pub(crate) grants: Grants,
    pub(crate) keys: RwLock<SigningKeys>,
    /// Signs the state that sign-in pages carry, so that people cannot change it.
    pub(crate) page_key: hmac::Key,
    pub(crate) refusals: RefusalTexts,
    pub(crate) tickets: Tickets,
    pub(crate) traffic: Traffic,
    pub(crate) webhooks: Arc<Webhooks>,
    pub(crate) world: RwLock<World>,
    rules: RwLock<Rules>,
    /// A key outside the published key set. Generated at its first use, because that is slow.
    foreign_key: OnceLock<SigningKey>,
}

impl Platform {
    pub(crate) fn new(
        options: &Options,
        addresses: Addresses,
        key: SigningKey,
        page_key: hmac::Key,
    ) -> Self {
        let rules = Rules {
            issuer: options.issuer.clone().unwrap_or_else(|| addresses.login.clone()),
            allowed_skew: options.allowed_skew,
            status_validity: options.status_validity,
            unknown_tenant_is_404: options.unknown_tenant_is_404,
            revocation_ends_tickets: options.revocation_ends_tickets,
        };
        Self {
            access_tokens: AccessTokens::default(),
            addresses,
            clock: Clock::default(),
            codes: Codes::default(),
            counts: Counts::default(),
            faults: Faults::default(),
            grants: Grants::default(),
            keys: RwLock::new(SigningKeys::new(key)),
            page_key,
            refusals: RefusalTexts::default(),
            tickets: Tickets::new(options.ticket_lifetime),
            traffic: Traffic::default(),
            webhooks: Arc::default(),
            world: RwLock::default(),
            rules: RwLock::new(rules),
            foreign_key: OnceLock::new(),
        }
    }

    pub(crate) fn rules(&self) -> Rules {
        read(&self.rules).clone()
    }

    pub(crate) fn change_rules(&self, change: impl FnOnce(&mut Rules)) {
        change(&mut write(&self.rules));
    }

    pub(crate) fn foreign_key(&self) -> Result<&SigningKey, Unspecified> {
        if let Some(key) = self.foreign_key.get() {
            return Ok(key);
        }
        let key = SigningKey::generate()?;
        Ok(self.foreign_key.get_or_init(|| key))
    }
}
